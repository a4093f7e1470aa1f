"""What the log's versions and candidates commit to: artifacts, definitions, training sets, evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_platform.core.errors import IntegrityError, NotFound, PlatformError, StorageFailed, Tampered
from ml_platform.datasets import read_snapshot, snapshot_path, verify_snapshot
from ml_platform.governance.findings import Counts, Finding
from ml_platform.governance.lineage import VersionEvidence, references
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import definition, digest_of, evidence
from ml_platform.governance.seeds import known_seeds
from ml_platform.registry import State, VersionState
from ml_platform.registry.report import Grade
from ml_platform.registry.state import CandidateState
from ml_platform.training import load_artifact, recompute_verdicts

__all__ = ["VersionCheck"]


@dataclass
class VersionCheck:
    """Checks candidates and versions of one root; what several share is checked once."""

    parts: Parts
    counts: Counts
    deep: bool = False
    seen: set[str] = field(default_factory=set)

    def check(self, state: State) -> Iterator[Finding]:
        """Every model of a state."""
        for model in state.models.values():
            for candidate in model.candidates.values():
                yield from self._definitions(candidate.spec)
                if candidate.run_record is not None:
                    yield from self._candidate(model.name, candidate)
            for version in model.versions.values():
                self.counts.versions += 1
                where = f"{model.name} version {version.number}"
                yield from _caught(where, lambda version=version: self._lineage(version))  # type: ignore[misc]

    def _definitions(self, spec: str) -> Iterator[Finding]:
        """The declaration and everything that it names by digest."""
        digests = [spec]
        while digests:
            digest = digests.pop()
            if digest in self.seen:
                continue
            self.seen.add(digest)
            self.counts.definitions += 1
            try:
                found = definition(self.parts.objects, digest)
            except StorageFailed:
                raise
            except PlatformError as error:
                yield _finding(f"definitions/{digest}", error)
                continue
            if found.get("kind") == "model":
                digests += [digest_of(reference) for reference in references(found)]

    def _candidate(self, model: str, candidate: CandidateState) -> Iterator[Finding]:
        """Artifact, training set and evaluation of a candidate that was evaluated, registered or not."""
        where = f"{model} candidate {candidate.key}"
        try:
            record = evidence(self.parts.objects, str(candidate.run_record))
        except StorageFailed:
            raise
        except PlatformError as error:
            yield _finding(f"{where}, run record", error)
            return
        yield from self._artifact(where, str(record["artifact"]), str(record["contract"]))
        yield from self._snapshot(model, candidate.key, str(record["training_set"]["digest"]))
        self.counts.evaluations += 1
        yield from _caught(f"{where}, evaluation", lambda: self._evaluation(candidate))

    def _artifact(self, where: str, digest: str, contract: str) -> Iterator[Finding]:
        if digest in self.seen:
            return
        self.seen.add(digest)
        self.counts.artifacts += 1
        try:
            found = load_artifact(self.parts.objects, digest).contract.digest
        except StorageFailed:
            raise
        except PlatformError as error:
            yield _finding(f"{where}, artifact {digest}", error)
            return
        if found != contract:
            yield Finding("tampered", f"{where}, contract", contract, found)

    def _snapshot(self, model: str, key: str, digest: str) -> Iterator[Finding]:
        path = snapshot_path(model, key)
        self.counts.snapshots += 1
        try:
            snapshot = read_snapshot(self.parts.objects, path)
            if snapshot.digest != digest:
                yield Finding("tampered", f"{path}/manifest.json", digest, snapshot.digest)
                return
            opened = verify_snapshot(self.parts.objects, snapshot, seeds=known_seeds(self.parts.subjects))
        except StorageFailed:
            raise
        except PlatformError as error:
            yield _finding(f"{path}/{error.field}" if error.field else path, error, expected=f"the rows under {digest}")
            return
        self.counts.snapshot_rows += opened.rows + opened.left_out

    def _evaluation(self, candidate: CandidateState) -> None:
        """The verdicts again from the stored table; deep: their intervals, too."""
        objects = self.parts.objects
        document = evidence(objects, str(candidate.evaluation))
        table = objects.get(str(document["table"]))
        again = [one.to_json() for one in recompute_verdicts(definition(objects, candidate.spec), document, table)]
        said = [dict(one) for one in document["verdicts"]]
        if not self.deep:
            again, said = ([_said(one) for one in some] for some in (again, said))
        if again != said:
            differing = [str(one["gate"]) for one, other in zip(again, said, strict=False) if one != other]
            raise Tampered(
                f"Recomputed verdicts differ: {', '.join(differing) or 'their number'}.",
                field="verdicts",
                next_step="Evaluate the candidate again.",
            )

    def _lineage(self, version: VersionState) -> None:
        VersionEvidence.load(self.parts, version)


def _said(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {name: verdict[name] for name in ("gate", "kind", "verdict", "threshold", "on_inconclusive")}


def _caught(where: str, check: Callable[[], None]) -> Iterator[Finding]:
    try:
        check()
    except StorageFailed:
        raise
    except PlatformError as error:
        yield _finding(where, error)
    except (KeyError, TypeError, ValueError) as error:
        yield Finding("tampered", where, "documents of their format", f"They lack a field ({type(error).__name__}).")


def _finding(where: str, error: PlatformError, expected: str = "the bytes that the log commits to") -> Finding:
    if isinstance(error, NotFound):
        return Finding("incomplete", where, expected, error.what)
    severity: Grade = "tampered" if isinstance(error, IntegrityError) else "incomplete"
    return Finding(severity, where, expected, f"{error.what} ({error.field})" if error.field else error.what)
