"""The artifact of a version: native model, ONNX, contract and decision as one digest over their exact bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ml_platform.core.contract import Contract
from ml_platform.core.digests import canonical_json, document_digest, sha256_hex
from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.training.decision import Decline

__all__ = [
    "CONTRACT_PART",
    "DECISION_PART",
    "ONNX_PART",
    "Artifact",
    "artifact_digest",
    "load_artifact",
    "make_artifact",
    "store_artifact",
]

FORMAT: Final = "ml-platform/artifact/1"
ONNX_PART: Final = "model.onnx"
CONTRACT_PART: Final = "contract.json"
DECISION_PART: Final = "decision.json"
_REQUIRED: Final = (ONNX_PART, CONTRACT_PART)


@dataclass(frozen=True)
class Artifact:
    """A version's bytes by part name, and the digest over them."""

    digest: str
    parts: Mapping[str, bytes] = field(repr=False, hash=False)

    def part(self, name: str) -> bytes:
        """The bytes of a part.

        Raises:
            NotFound: the artifact has no such part.
        """
        try:
            return self.parts[name]
        except KeyError:
            raise NotFound(
                "The artifact has no such part.", field=name, next_step=f"It has {', '.join(sorted(self.parts))}."
            ) from None

    @property
    def contract(self) -> Contract:
        return Contract.from_json(json.loads(self.part(CONTRACT_PART)))

    @property
    def decision(self) -> Decline | None:
        """The decision, or None for a model that only scores."""
        return Decline.from_bytes(self.parts[DECISION_PART]) if DECISION_PART in self.parts else None


def _listing(parts: Mapping[str, bytes]) -> dict[str, Any]:
    return {name: {"sha256": sha256_hex(raw).removeprefix("sha256:"), "size": len(raw)} for name, raw in parts.items()}


def artifact_digest(parts: Mapping[str, bytes]) -> str:
    """SHA-256("ml-platform/artifact/1" ‖ RFC 8785 of {part: {sha256, size}}).

    Raises:
        DeclarationError: ONNX or contract is missing: nothing is registered without a contract.
    """
    missing = [name for name in _REQUIRED if name not in parts]
    if missing:
        raise DeclarationError(
            "An artifact lacks a part.", field=", ".join(missing), next_step="Build it with its ONNX and its contract."
        )
    return document_digest("artifact", _listing(parts))


def make_artifact(parts: Mapping[str, bytes]) -> Artifact:
    """The artifact of these parts, stored nowhere yet."""
    return Artifact(artifact_digest(parts), dict(parts))


def _path(digest: str) -> str:
    ObjectStore.path_of(digest)  # refuses what is no digest
    return f"artifacts/{digest.removeprefix('sha256:')}.json"


def store_artifact(objects: ObjectStore, parts: Mapping[str, bytes]) -> Artifact:
    """Stores the parts by digest, then the listing; storing the same artifact again changes nothing.

    Raises:
        StorageFailed: the store refused; without its listing the artifact does not exist.
    """
    artifact = make_artifact(parts)
    for raw in parts.values():
        objects.put(raw)
    objects.create_same(_path(artifact.digest), canonical_json({"format": FORMAT, "parts": _listing(parts)}))
    return artifact


def load_artifact(objects: ObjectStore, digest: str) -> Artifact:
    """Loads an artifact; every byte that is returned was hashed and compared first.

    Raises:
        NotFound: no such artifact, or one of its parts is gone.
        ArtifactCorrupt: listing or part is not what the digest says.
    """
    raw = objects.read(_path(digest))
    listing = _checked_listing(raw, digest)
    parts = {name: objects.get(f"sha256:{entry['sha256']}") for name, entry in listing.items()}
    if artifact_digest(parts) != digest:
        raise _corrupt(digest)
    return Artifact(digest, parts)


def _checked_listing(raw: bytes, digest: str) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise _corrupt(digest) from error
    listing = document.get("parts") if isinstance(document, dict) and document.get("format") == FORMAT else None
    if not isinstance(listing, dict) or document_digest("artifact", listing) != digest:
        raise _corrupt(digest)
    return listing


def _corrupt(digest: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(
        f"The stored listing of {digest} has another digest.",
        field="artifact",
        next_step="Restore it from a backup, or rebuild it with `mlp reproduce`.",
    )
