from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ml_platform.core.digests import document_digest
from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.training.artifact import artifact_digest, load_artifact, store_artifact
from ml_platform.training.decision import Decline
from tests.training import cases


@pytest.fixture
def parts() -> dict[str, bytes]:
    decision = Decline(0.5, dict.fromkeys(["income", "debt", "purpose", "late"], "Reason"))
    return {
        "model.txt": b"native",
        "model.onnx": b"onnx",
        "contract.json": cases.contract().to_bytes(),
        "decision.json": decision.to_bytes(),
    }


def test_the_digest_is_that_of_sizes_and_sums_of_the_stored_bytes(parts):
    listing = {name: {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)} for name, raw in parts.items()}
    assert artifact_digest(parts) == document_digest("artifact", listing)
    assert artifact_digest(dict(reversed(parts.items()))) == artifact_digest(parts)


@pytest.mark.parametrize("name", ["model.txt", "model.onnx", "contract.json", "decision.json"])
def test_every_byte_of_every_part_counts(parts, name):
    assert artifact_digest({**parts, name: parts[name] + b" "}) != artifact_digest(parts)
    assert artifact_digest({("x" + key if key == "model.txt" else key): raw for key, raw in parts.items()}) != (
        artifact_digest(parts)
    )


def test_what_is_stored_is_loaded(parts, tmp_path):
    objects = ObjectStore(tmp_path)
    stored = store_artifact(objects, parts)
    assert store_artifact(objects, parts).digest == stored.digest
    loaded = load_artifact(objects, stored.digest)
    assert loaded.parts == parts
    assert loaded.contract == cases.contract()
    assert loaded.decision == Decline.from_bytes(parts["decision.json"])
    with pytest.raises(NotFound, match=r"model\.bin"):
        loaded.part("model.bin")


def file_of(root: Path, raw: bytes) -> Path:
    return root / ObjectStore.path_of("sha256:" + hashlib.sha256(raw).hexdigest())


@pytest.mark.parametrize("name", ["model.txt", "model.onnx", "contract.json", "decision.json"])
def test_a_part_with_one_other_bit_is_not_loaded(parts, tmp_path, name):
    objects = ObjectStore(tmp_path)
    digest = store_artifact(objects, parts).digest
    path = file_of(tmp_path, parts[name])
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ArtifactCorrupt):
        load_artifact(objects, digest)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: {**document, "format": "ml-platform/artifact/2"},
        lambda document: {**document, "parts": {**document["parts"], "model.txt": document["parts"]["model.onnx"]}},
        lambda document: {**document, "parts": {k: v for k, v in document["parts"].items() if k != "decision.json"}},
        lambda document: {**document, "parts": []},
        lambda document: [],
    ],
)
def test_a_changed_listing_is_not_followed(parts, tmp_path, change):
    objects = ObjectStore(tmp_path)
    digest = store_artifact(objects, parts).digest
    path = tmp_path / "artifacts" / f"{digest[7:]}.json"
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    with pytest.raises(ArtifactCorrupt):
        load_artifact(objects, digest)
    path.write_bytes(b"\xff")
    with pytest.raises(ArtifactCorrupt):
        load_artifact(objects, digest)


def test_an_unknown_artifact_or_a_lost_part_is_not_found(parts, tmp_path):
    objects = ObjectStore(tmp_path)
    with pytest.raises(NotFound):
        load_artifact(objects, "sha256:" + "0" * 64)
    with pytest.raises(NotFound):
        load_artifact(objects, "../secrets")
    digest = store_artifact(objects, parts).digest
    file_of(tmp_path, b"onnx").unlink()
    with pytest.raises(NotFound):
        load_artifact(objects, digest)


@pytest.mark.parametrize("name", ["model.onnx", "contract.json"])
def test_nothing_is_an_artifact_without_onnx_and_contract(parts, name):
    del parts[name]
    with pytest.raises(DeclarationError, match=name):
        artifact_digest(parts)
