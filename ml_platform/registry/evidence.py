"""Evidence by digest: what entries commit to and do not contain. Read once, checked against its digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ml_platform.core.digests import document_digest, parse_canonical
from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, NotFound, Tampered
from ml_platform.core.objects import ObjectStore
from ml_platform.registry.gates import GateVerdict, recompute

__all__ = ["Evaluated", "Evidence"]

_MAX_CACHED: Final = 1_024


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the registry reads of an evaluation document."""

    model: str
    candidate: str
    run_record: str
    artifact: str
    training_set: str
    table: str
    baseline: tuple[int, str] | None
    document: Mapping[str, Any]


class Evidence:
    """Reads evidence from an object store; results are kept, since a digest never changes its content.

    Args:
        objects: the store.
        verdicts: recomputes gate verdicts from (spec, evaluation document, table bytes).
    """

    def __init__(
        self,
        objects: ObjectStore,
        verdicts: Callable[[Mapping[str, Any], Mapping[str, Any], bytes], tuple[GateVerdict, ...]] = recompute,
    ) -> None:
        self.objects = objects
        self._recompute = verdicts
        self._known: dict[tuple[str, ...], Any] = {}

    def put(self, raw: bytes) -> str:
        """Stores evidence, before the entry that names it is written."""
        return self.objects.put(raw)

    def read(self, digest: str) -> bytes:
        """The bytes.

        Raises:
            NotFound: nothing is stored under the digest; the error's field is ``evidence``.
            ArtifactCorrupt: the stored bytes have another digest.
        """
        try:
            return self.objects.get(digest)
        except NotFound:
            raise _missing() from None

    def fresh(self) -> Evidence:
        """The same store, with nothing remembered."""
        return Evidence(self.objects, self._recompute)

    def text(self, digest: str) -> str:
        """The bytes as text, such as an armored signature."""
        try:
            return self.read(digest).decode()
        except UnicodeDecodeError:
            raise Tampered(
                "An evidence object that should be text is not.",
                field="evidence",
                next_step="Make and sign it again.",
            ) from None

    def spec(self, digest: str) -> Mapping[str, Any]:
        """A model's canonical declaration, by its definition digest."""
        return self._once(("spec", digest), lambda: self._spec(digest))  # type: ignore[no-any-return]

    def evaluation(self, digest: str) -> Evaluated:
        """An evaluation document, by the digest of its bytes."""
        return self._once(("evaluation", digest), lambda: self._evaluation(digest))  # type: ignore[no-any-return]

    def verdicts(self, spec: str, evaluation: str) -> tuple[GateVerdict, ...]:
        """The verdicts of the declared gates, recomputed from the evaluation's stored table."""
        return self._once(("verdicts", spec, evaluation), lambda: self._verdicts(spec, evaluation))  # type: ignore[no-any-return]

    def _once(self, key: tuple[str, ...], read: Callable[[], Any]) -> Any:
        if key not in self._known:
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            self._known[key] = read()
        return self._known[key]

    def _spec(self, digest: str) -> Mapping[str, Any]:
        try:
            raw = self.objects.read(f"definitions/{digest.removeprefix('sha256:')}.json")
        except NotFound:
            raise _missing() from None
        document = _canonical(raw)
        if document_digest("definition", document) != digest:
            raise ArtifactCorrupt(
                "A stored definition has another digest.",
                field="definitions",
                next_step="Restore it from a backup, or publish it again.",
            )
        return document

    def _evaluation(self, digest: str) -> Evaluated:
        document = _canonical(self.read(digest))
        try:
            baseline = document["baseline"]
            return Evaluated(
                model=str(document["model"]),
                candidate=str(document["candidate"]),
                run_record=str(document["run_record"]),
                artifact=str(document["artifact"]),
                training_set=str(document["training_set"]),
                table=str(document["table"]),
                baseline=None if baseline is None else (int(baseline["version"]), str(baseline["artifact"])),
                document=document,
            )
        except (KeyError, TypeError, ValueError):
            raise Tampered(
                "The evaluation lacks a field that the registry must see.",
                field="evaluation",
                next_step="Evaluate the candidate again with this version of the library.",
            ) from None

    def _verdicts(self, spec: str, evaluation: str) -> tuple[GateVerdict, ...]:
        evaluated = self.evaluation(evaluation)
        return self._recompute(self.spec(spec), evaluated.document, self.read(evaluated.table))


def _canonical(raw: bytes) -> Mapping[str, Any]:
    try:
        document = parse_canonical(raw)
    except (ValueError, DeclarationError):
        document = None
    if not isinstance(document, dict):
        raise Tampered(
            "A stored document is not canonical JSON.",
            field="evidence",
            next_step="Restore it from a backup, or make it again.",
        )
    return document


def _missing() -> NotFound:
    return NotFound(
        "An evidence object is missing.", field="evidence", next_step="Restore the object store from a backup."
    )
