"""``reproduce``: a version built again from its record, in a fresh process, and compared bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.core.errors import (
    ArtifactCorrupt,
    DataError,
    DuplicateKeys,
    NotFound,
    NotReproducible,
    SchemaMismatch,
)
from ml_platform.core.rows import arrow_row_type
from ml_platform.datasets import Snapshot, read_snapshot, snapshot_path
from ml_platform.datasets.leaves import Leaves
from ml_platform.datasets.maturity import ordered
from ml_platform.datasets.snapshot import seeds_of
from ml_platform.governance import bundle
from ml_platform.governance.bundle import Difference, differences_of, read_document
from ml_platform.governance.lineage import references
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import definition, digest_of, evidence
from ml_platform.governance.seeds import known_seeds
from ml_platform.registry import VersionState
from ml_platform.training import RunRecord

__all__ = ["Difference", "Reproduction", "reproduce"]

_MOST_ROWS: Final = 10


@dataclass(frozen=True)
class Reproduction:
    """The outcome of building a version again.

    Attributes:
        artifact_digest: as registered.
        rebuilt_digest: of what was built now; None where an input was so different that nothing was built.
        differs: inputs that are not as recorded, in the order of the record.
        surroundings: what else differs without breaking a promise: additional packages, processor, image.
    """

    model: str
    version: int
    artifact_digest: str
    rebuilt_digest: str | None
    differs: tuple[Difference, ...]
    surroundings: tuple[Difference, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether the new artifact is the registered one, bit by bit."""
        return self.rebuilt_digest == self.artifact_digest

    @property
    def reproduced(self) -> bool:
        """Whether the run was repeated exactly: the same inputs, and the same bytes."""
        return self.identical and not self.differs

    @property
    def statement(self) -> str:
        """One sentence that claims no more than was shown."""
        if self.reproduced:
            return "Reproduced: the same inputs gave the same artifact, bit by bit."
        first = (*self.differs, *self.surroundings)[:1]
        what = "The artifact is identical, but an input" if self.identical else "Not reproduced: an input"
        if not first:
            return "Not reproduced: the artifact differs, and no recorded input does."
        return (
            f"{what} differs from the record: {first[0].input}: {first[0].recorded} recorded, {first[0].found} found."
        )

    def require(self) -> None:
        """Raises `NotReproducible`, naming the first input that differs, unless it was reproduced."""
        if not self.reproduced:
            first = next(iter((*self.differs, *self.surroundings)), None)
            raise NotReproducible(
                self.statement,
                field=first.input if first else "artifact",
                next_step="Restore that input to what is recorded, and run it again.",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "version": self.version,
            "identical": self.identical,
            "reproduced": self.reproduced,
            "statement": self.statement,
            "artifact_digest": self.artifact_digest,
            "rebuilt_digest": self.rebuilt_digest,
            "differs": [one.to_json() for one in self.differs],
            "surroundings": [one.to_json() for one in self.surroundings],
        }


def reproduce(parts: Parts, model: str, version: int, *, workdir: Path, declared_in: str | None = None) -> Reproduction:
    """Builds a version again from its record alone; the stored artifact is neither needed nor read.

    Args:
        parts: the root.
        model: model name.
        version: version number.
        workdir: an empty or absent folder for the bundle; what was built stays there. It holds personal data.
        declared_in: for trainers that are code (``Function``): where it is declared, as ``module:model``.

    Raises:
        NotFound: no such version, or a document of its record is gone.
        Tampered: a document of its record is not what its digest says.
        NotReproducible: the new process failed; says how.
    """
    known = parts.registry.state().version(model, version)
    record = evidence(parts.objects, known.digests.run_record)
    RunRecord.from_bytes(parts.objects.get(known.digests.run_record))
    spec = definition(parts.objects, known.digests.spec)
    differs = list(differences_of("trainer", record["trainer"], spec["trainer"]))
    differs += differences_of("artifact", record["artifact"], known.digests.artifact)
    workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
    differs += _snapshot(parts, known, record, workdir)
    if differs:
        return Reproduction(model, version, known.digests.artifact, None, tuple(differs))
    _write(parts, known, record, spec, workdir, declared_in)
    result = _run(workdir)
    if result["failed"] is not None:
        raise NotReproducible(
            f"The version cannot be built again: {result['failed']}",
            field="trainer",
            next_step="Mend what it names, and run it again.",
        )
    found, loose = ([Difference(**one) for one in result[name]] for name in ("differs", "surroundings"))
    return Reproduction(model, version, known.digests.artifact, result["artifact"], tuple(found), tuple(loose))


def _write(
    parts: Parts,
    version: VersionState,
    record: Mapping[str, Any],
    spec: Mapping[str, Any],
    workdir: Path,
    declared_in: str | None,
) -> None:
    order = {
        "format": bundle.ORDER_FORMAT,
        "model": version.model,
        "version": version.number,
        "declared_in": declared_in,
    }
    bundle.write_document(workdir, bundle.ORDER, order)
    bundle.write_document(workdir, bundle.RECORD, record)
    bundle.write_document(workdir, bundle.SPEC, spec)
    for reference in references(spec):
        digest = digest_of(reference)
        name = f"{bundle.DEFINITIONS}/{digest.removeprefix('sha256:')}.json"
        bundle.write_document(workdir, name, definition(parts.objects, digest))


def _run(workdir: Path) -> dict[str, Any]:
    """The fresh process; it sees the bundle and nothing of the root."""
    (workdir / bundle.RESULT).unlink(missing_ok=True)
    hidden = {"ML_PLATFORM_SETTINGS"}
    done = subprocess.run(  # noqa: S603 - our own interpreter and module, no shell
        [sys.executable, "-m", "ml_platform.governance.rebuild", str(workdir)],
        env={name: value for name, value in os.environ.items() if name not in hidden},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not (workdir / bundle.RESULT).exists():
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise NotReproducible(
            f"The new process failed: {last[:200]}",
            field="process",
            next_step=f"Run `{Path(sys.executable).name} -m ml_platform.governance.rebuild {workdir.name}` to see why.",
        )
    return read_document(workdir, bundle.RESULT, bundle.RESULT_FORMAT)


def _snapshot(parts: Parts, version: VersionState, record: Mapping[str, Any], workdir: Path) -> list[Difference]:
    """Puts the training set into the bundle, recomputed row by row from exactly the bytes that will be trained on."""
    recorded = record["training_set"]
    try:
        snapshot = read_snapshot(parts.objects, snapshot_path(version.model, version.candidate))
        raw = parts.objects.read(snapshot.data_path)
    except NotFound as error:
        return [Difference("training_set", recorded["digest"], f"{bundle.ABSENT}: {error.what}")]
    except ArtifactCorrupt as error:
        return [Difference("training_set.manifest", str(recorded.get("manifest")), error.what)]
    named = differences_of(
        "training_set",
        {"digest": recorded["digest"], "manifest": recorded.get("manifest")},
        {"digest": snapshot.digest, "manifest": snapshot.manifest_digest},
    )
    differs = list(named)
    if not differs:
        differs = _rows(parts, snapshot, raw)
    if not differs:
        bundle.write_document(workdir, bundle.MANIFEST, snapshot.manifest)
        (workdir / bundle.DATA).write_bytes(raw)
    return differs


def _rows(parts: Parts, snapshot: Snapshot, raw: bytes) -> list[Difference]:
    try:
        table = pq.read_table(pa.BufferReader(raw)).combine_chunks()
        columns = [[item.name, arrow_row_type(item.type, field=item.name)] for item in table.schema]
        if columns != snapshot.manifest["columns"]:
            return [Difference("training_set.columns", "those of the manifest", "others")]
        rule = snapshot.rule()
        seeds = seeds_of(table, rule, snapshot.manifest["entity"], known_seeds(parts.subjects))
        hashes = rule.leaves(table, seeds)
    except (pa.ArrowException, OSError, SchemaMismatch, DuplicateKeys, DataError) as error:
        found = f"rows that cannot have been stored ({type(error).__name__})"
        return [Difference("training_set.rows", snapshot.digest, found)]
    differs = _changed(parts, snapshot, hashes)
    if not differs and not table.equals(ordered(table, rule.time, rule.keys)):
        differs = [Difference("training_set.order", f"by {rule.time} and key", "another order")]
    return differs


def _changed(parts: Parts, snapshot: Snapshot, hashes: Sequence[bytes | None]) -> list[Difference]:
    """Which rows are not under the digest; all of them are, or the digest itself is not that of the rows."""
    present = [one for one in hashes if one is not None]
    found = _digest(present) if len(present) == len(hashes) else f"{len(hashes) - len(present)} rows without a seed"
    if found == snapshot.digest:
        return []
    try:
        stored = set(snapshot.read_leaves(parts.objects).hashes())
    except (NotFound, ArtifactCorrupt):
        return [Difference("training_set.rows", snapshot.digest, found)]
    rows = [row for row, leaf in enumerate(hashes) if leaf is None or leaf not in stored]
    named = [
        Difference(f"training_set.rows.{row}", "a row under the digest", "another row") for row in rows[:_MOST_ROWS]
    ]
    return [*named, Difference("training_set.rows", snapshot.digest, found)]


def _digest(hashes: Sequence[bytes]) -> str:
    try:
        return Leaves.of(hashes).digest
    except DuplicateKeys:
        return "rows that stand twice"
