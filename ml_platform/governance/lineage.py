"""What a version is made of: declaration, definitions, run record, evaluation, training set, each by its digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import ArtifactCorrupt, NotFound, Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.datasets import Snapshot, read_snapshot, snapshot_path
from ml_platform.datasets.snapshot import DATA
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import definition, digest_of, evidence
from ml_platform.governance.trees import tree_of
from ml_platform.registry import VersionState

__all__ = ["VersionEvidence", "references"]


@dataclass(frozen=True)
class VersionEvidence:
    """The documents that a registered version names.

    Attributes:
        version: as the log has it.
        spec: the model's declaration.
        definitions: by reference ``name@sha256:…``: views, label, entity, sources of protected attributes.
        record: the run record.
        evaluation: the evaluation document.
        snapshot: the training set; None where its manifest is gone.
        request: what was pinned for the candidate; None where it is gone.
    """

    version: VersionState
    spec: Mapping[str, Any] = field(hash=False)
    definitions: Mapping[str, Mapping[str, Any]] = field(hash=False)
    record: Mapping[str, Any] = field(hash=False)
    evaluation: Mapping[str, Any] = field(hash=False)
    snapshot: Snapshot | None
    request: Mapping[str, Any] | None = field(hash=False)

    @classmethod
    def load(cls, parts: Parts, version: VersionState) -> Self:
        """Reads and checks them.

        Raises:
            NotFound: a document is gone; names its digest.
            Tampered: one is not what its digest says, or they contradict each other.
        """
        objects, digests = parts.objects, version.digests
        spec = definition(objects, digests.spec)
        loaded = cls(
            version=version,
            spec=spec,
            definitions={name: definition(objects, digest_of(name)) for name in references(spec)},
            record=evidence(objects, digests.run_record),
            evaluation=evidence(objects, digests.evaluation),
            snapshot=_snapshot(objects, version),
            request=_request(objects, version),
        )
        loaded.check()
        return loaded

    def check(self) -> None:
        """Raises `Tampered` where the documents contradict the log's entry."""
        digests = self.version.digests
        said = {
            "run_record.artifact": (self.record["artifact"], digests.artifact),
            "run_record.spec": (self.record["spec"], digests.spec),
            "run_record.contract": (self.record["contract"], digests.contract),
            "run_record.training_set": (self.record["training_set"]["digest"], digests.training_set),
            "evaluation.artifact": (self.evaluation["artifact"], digests.artifact),
            "evaluation.run_record": (self.evaluation["run_record"], digests.run_record),
            "evaluation.training_set": (self.evaluation["training_set"], digests.training_set),
        }
        if self.snapshot is not None:
            said["manifest.digest"] = (self.snapshot.digest, digests.training_set)
            manifest = self.record["training_set"].get("manifest", self.snapshot.manifest_digest)
            said["manifest"] = (self.snapshot.manifest_digest, manifest)
        for name, (found, expected) in said.items():
            if found != expected:
                raise Tampered(
                    f"A document of version {self.version.number} names another digest than the log.",
                    field=name,
                    next_step="Restore the document from a backup.",
                )

    def training_set(self, objects: ObjectStore) -> dict[str, Any]:
        """The training set as the trace shows it; its leaves are held against the digest."""
        if self.snapshot is None:
            return {"digest": self.version.digests.training_set, "manifest": {"absent": "It is not stored any more."}}
        manifest, split = self.snapshot.manifest, self.snapshot.manifest["split"]
        reasons = dict(manifest["left_out"]["reasons"])
        return {
            "digest": self.snapshot.digest,
            "checked": self._leaves_give_digest(objects),
            "path": self.snapshot.data_path,
            "manifest_digest": self.snapshot.manifest_digest,
            "as_of": manifest["as_of"],
            "rows": manifest["rows"],
            "train_rows": split["train_rows"],
            "test_rows": split["test_rows"],
            "immature_rows": int(reasons.get("immature", 0)),
            "left_out": {**manifest["left_out"], "reasons": reasons},
            "split": dict(split),
            "label": {**manifest["label"], "known_times": manifest["known_times"]},
            "sources": {**self.record["sources"], **_located(manifest["sources"], self.record["sources"])},
            "features": self.record["features"],
            "query": manifest["query"],
        }

    def _leaves_give_digest(self, objects: ObjectStore) -> bool:
        assert self.snapshot is not None  # noqa: S101 - the caller looked
        try:
            leaves = objects.read(f"{self.snapshot.path}/{DATA.leaves}")
        except NotFound:
            return False
        if f"sha256:{tree_of(leaves).root().hex()}" != self.snapshot.digest:
            raise Tampered(
                "The leaves of the training set do not give its digest.",
                field=f"{self.snapshot.path}/{DATA.leaves}",
                next_step="Restore them from a backup; `mlp verify` names the row.",
            )
        return True


def _located(manifest: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {**recorded.get(name, {}), **source} for name, source in manifest.items()}


def references(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Everything that a model's declaration names by digest."""
    protected = (attribute["source"] for attribute in spec.get("protected", ()))
    return tuple(dict.fromkeys([spec["entity"], *spec["features"], spec["label"], *protected]))


def _snapshot(objects: ObjectStore, version: VersionState) -> Snapshot | None:
    try:
        return read_snapshot(objects, snapshot_path(version.model, version.candidate))
    except NotFound:
        return None
    except ArtifactCorrupt as error:
        raise Tampered(error.what, field=error.field, next_step=error.next_step) from error


def _request(objects: ObjectStore, version: VersionState) -> Mapping[str, Any] | None:
    try:
        document: Mapping[str, Any] = parse_canonical(
            objects.read(f"candidates/{version.model}/{version.candidate}/request.json")
        )
    except NotFound:
        return None
    return document
