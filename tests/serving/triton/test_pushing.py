from __future__ import annotations

import json

import numpy as np
import pytest

from ml_platform.core.errors import (
    ArtifactCorrupt,
    Conflict,
    ContractViolation,
    NotFound,
    ServerUnavailable,
    ValidationFailed,
)
from ml_platform.core.objects import ObjectStore
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton import Boot, Pusher, Served, TritonClient
from ml_platform.serving.triton.repository import MATRIX
from ml_platform.training.artifact import ONNX_PART, load_artifact, store_artifact
from ml_platform.training.golden import GOLDEN_PART, Golden
from ml_platform.training.onnxruntime import OnnxModel
from tests.serving.support import CONTRACT, train
from tests.serving.triton.roots import MODEL, SERVING, Running

VERSION = "credit_risk.v1"


@pytest.fixture
def matrix() -> np.ndarray:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(16, len(CONTRACT.fields))).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def repository(running: Running) -> set[str]:
    return {path.name for path in (running.root.folder / "triton").iterdir()}


def ask(running: Running, tensors, **parameters):
    return running.client.infer(VERSION, tensors, parameters=parameters or running.server.boot.parameters)


def test_a_version_gives_the_bits_of_its_onnx_by_row_and_by_name(running: Running, matrix):
    expected = OnnxModel(running.root.artifact.part(ONNX_PART)).scores(matrix)
    whole = ask(running, {MATRIX: matrix})["score"]
    named = ask(running, {name: matrix[:, [place]] for place, name in enumerate(CONTRACT.names)})["score"]
    assert whole.tobytes() == named.tobytes() == expected.tobytes()
    assert whole.shape == (16, 1)


@pytest.mark.parametrize(
    "parameters",
    [{"capability": "0" * 64}, {"capability": ""}, {"other": "x"}, {"capability": 1}, {"capability": True}],
)
def test_a_version_answers_nobody_without_the_capability_of_this_boot(running: Running, matrix, parameters):
    with pytest.raises(ContractViolation, match="versions answer their router only"):
        ask(running, {MATRIX: matrix}, **parameters)
    with pytest.raises(ContractViolation, match="versions answer their router only"):
        running.client.infer(VERSION, {MATRIX: matrix})


def test_a_row_that_is_not_whole_gets_no_score(running: Running, matrix):
    named = {name: matrix[:1, [place]] for place, name in enumerate(CONTRACT.names)}
    for tensors in (
        {name: values for name, values in named.items() if name != "rate"},
        {**named, MATRIX: matrix[:1]},
        {MATRIX: matrix[:1], "rate": named["rate"]},
    ):
        with pytest.raises(ContractViolation, match="the row is not whole"):
            ask(running, tensors)
    with pytest.raises(ContractViolation, match="shape"):
        ask(running, {MATRIX: matrix[:1, :-1]})
    with pytest.raises(ContractViolation, match="nobody"):
        ask(running, {**named, "nobody": named["rate"]})


def test_a_bad_request_does_not_spoil_its_neighbours_in_a_batch(running: Running, matrix):
    from concurrent.futures import ThreadPoolExecutor

    expected = OnnxModel(running.root.artifact.part(ONNX_PART)).scores(matrix)

    def one(row: int):
        given = running.server.boot.parameters if row % 3 else {"capability": "no"}
        try:
            return running.client.infer(VERSION, {MATRIX: matrix[[row % 16]]}, parameters=given)["score"][0, 0]
        except ContractViolation:
            return None

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(300)))
    assert answers == [expected[row % 16] if row % 3 else None for row in range(300)]


def test_a_version_is_proven_by_its_golden_rows_and_proven_again(running: Running):
    golden = Golden.from_bytes(running.root.artifact.part(GOLDEN_PART))
    for _ in range(2):
        assert running.pusher.version(MODEL, 1, running.root.artifact.digest, SERVING) == len(golden.scores)


def test_a_version_never_gets_another_artifact(running: Running):
    other = store_artifact(running.root.objects, train(seed=8))
    with pytest.raises(Conflict, match="another artifact"):
        running.pusher.version(MODEL, 1, other.digest, SERVING)
    assert VERSION in running.client.loaded()


def spoiled(running: Running, change) -> str:
    """An artifact that is stored as it should be, of parts that are not."""
    parts = dict(running.root.artifact.parts)
    change(parts)
    return store_artifact(running.root.objects, parts).digest


def _other_score(parts) -> None:
    document = json.loads(parts[GOLDEN_PART])
    score = np.nextafter(np.float32(document["scores"][3]), np.float32(1))
    document["scores"][3] = float(score)
    golden = Golden.from_bytes(parts[GOLDEN_PART])
    scores = golden.scores.copy()
    scores[3] = score
    parts[GOLDEN_PART] = Golden(golden.contract_digest, golden.matrix, scores).to_bytes()


def _no_golden(parts) -> None:
    del parts[GOLDEN_PART]


def _no_onnx(parts) -> None:
    parts[ONNX_PART] = b"no model" * 100


def _fewer_features(parts) -> None:
    contract = type(CONTRACT)(CONTRACT.entity_keys, CONTRACT.time, CONTRACT.fields[:-1])
    parts["contract.json"] = contract.to_bytes()


@pytest.mark.parametrize("change", [_other_score, _no_golden, _no_onnx, _fewer_features])
def test_a_version_that_does_not_score_as_at_training_is_taken_out_again(running: Running, change):
    with pytest.raises(ValidationFailed) as error:
        running.pusher.version(MODEL, 9, spoiled(running, change), SERVING)
    assert error.value.exit_code == 7
    assert "credit_risk.v9" not in running.client.loaded()
    assert "credit_risk.v9" not in repository(running)
    assert VERSION in running.client.loaded()


def test_corrupted_bytes_never_reach_the_server(running: Running, tmp_path):
    objects = ObjectStore(tmp_path / "store")
    artifact = store_artifact(objects, train(seed=9))
    path = tmp_path / "store" / objects.path_of(_digest_of(artifact, ONNX_PART))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))
    pusher = Pusher(running.root.folder, objects, running.server.boot, running.client)
    with pytest.raises(ArtifactCorrupt):
        pusher.version(MODEL, 9, artifact.digest, SERVING)
    assert "credit_risk.v9" not in repository(running)


def _digest_of(artifact, name: str) -> str:
    from ml_platform.core.digests import sha256_hex

    return sha256_hex(artifact.part(name))


def test_an_artifact_that_is_not_there_changes_nothing(running: Running):
    with pytest.raises(NotFound):
        running.pusher.version(MODEL, 9, "sha256:" + "0" * 64, SERVING)
    assert "credit_risk.v9" not in repository(running)


def test_a_retired_version_is_gone_and_may_be_retired_again(running: Running):
    other = store_artifact(running.root.objects, train(seed=10))
    running.pusher.version(MODEL, 4, other.digest, SERVING)
    assert "credit_risk.v4" in running.client.loaded()
    for _ in range(2):
        running.pusher.retire("credit_risk.v4")
        assert "credit_risk.v4" not in running.client.loaded()
        assert "credit_risk.v4" not in repository(running)


def test_golden_rows_fit_any_batch_size(running: Running):
    artifact = store_artifact(running.root.objects, train(seed=11))
    for version, rows in ((5, 1), (6, 7)):
        assert running.pusher.version(MODEL, version, artifact.digest, Serving(max_batch=rows)) > rows
        running.pusher.retire(f"credit_risk.v{version}")


def test_a_server_that_is_away_is_said_and_nothing_is_half_done(root):
    with root.start() as server:
        boot = server.boot
    with TritonClient(boot, timeout_seconds=2.0) as client:
        pusher = Pusher(root.folder, root.objects, boot, client)
        with pytest.raises(ServerUnavailable) as error:
            pusher.version(MODEL, 1, root.artifact.digest, SERVING)
    assert "mlp serve" in error.value.next_step
    assert error.value.exit_code == 9
    assert list((root.folder / "triton").iterdir()) == []
    with pytest.raises(ServerUnavailable):
        Boot.read(root.folder)


def test_new_request_fields_make_a_new_router_and_known_ones_do_not():
    from dataclasses import replace

    first = Served(Serving()).accepting([CONTRACT])
    assert first.accepting([CONTRACT]) is first
    fewer = replace(CONTRACT, fields=CONTRACT.fields[1:])
    assert first.accepting([fewer]) is first
    more = replace(CONTRACT, fields=(*CONTRACT.fields, replace(CONTRACT.fields[0], name="savings")))
    second = first.accepting([CONTRACT, more])
    assert len(second.generations) == 2
    assert second.generations[0] == first.generations[0]
    added = {one.name for one in second.generations[1]} - {one.name for one in second.generations[0]}
    assert added == {"savings", "savings.null"}
    retyped = replace(CONTRACT, fields=(replace(CONTRACT.fields[0], type="int64"), *CONTRACT.fields[1:]))
    assert len(first.accepting([retyped]).generations) == 2


def test_how_a_model_is_served_survives_a_restart(tmp_path):
    served = Served(Serving("triton", max_batch=8)).accepting([CONTRACT])
    assert Served.read(tmp_path, MODEL) == Served(Serving())
    served.write(tmp_path, MODEL)
    assert Served.read(tmp_path, MODEL) == served


def test_the_artifact_is_loaded_as_it_was_stored(running: Running):
    assert load_artifact(running.root.objects, running.root.artifact.digest).parts == running.root.artifact.parts
