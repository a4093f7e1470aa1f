from __future__ import annotations

import numpy as np
import pytest

from ml_platform.core.errors import ArtifactCorrupt, DataError, DeclarationError
from ml_platform.training import onnxruntime as module
from ml_platform.training.lightgbm import LightGBM
from ml_platform.training.onnxruntime import OnnxModel
from ml_platform.training.trainer import RunContext
from tests.training import cases

pytest.importorskip("lightgbm", reason="LightGBM is not installed (extra: lightgbm)")


@pytest.fixture(scope="module")
def raw() -> bytes:
    trainer = LightGBM(num_leaves=15, learning_rate=0.1, rounds=200, min_data_in_leaf=10)
    return trainer.to_onnx(trainer.fit(cases.data(), RunContext(1)), cases.contract())


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16, 31, 63, 64, 127, 128, 129, 500, 1_999])
def test_a_row_has_the_same_bits_in_any_batch(raw, batch):
    matrix = cases.data().matrix
    model = OnnxModel(raw)
    whole = model.scores(matrix)
    parts = [model.scores(matrix[start : start + batch]) for start in range(0, len(matrix), batch)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_has_the_same_bits_with_any_thread_count_and_chunk(raw, threads, monkeypatch):
    matrix = np.tile(cases.data().matrix, (3, 1))
    whole = OnnxModel(raw).scores(matrix)
    monkeypatch.setattr(module, "_CHUNK_ROWS", 700)
    assert OnnxModel(raw, threads=threads).scores(matrix).tobytes() == whole.tobytes()


def test_rows_need_not_lie_side_by_side_in_memory(raw):
    matrix = cases.data().matrix
    model = OnnxModel(raw)
    assert model.scores(np.asfortranarray(matrix)).tobytes() == model.scores(matrix).tobytes()


def test_no_rows_give_no_scores(raw):
    scores = OnnxModel(raw).scores(np.empty((0, 4), np.float32))
    assert scores.shape == (0,)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("matrix", [np.zeros((2, 3), np.float32), np.zeros((2, 4)), np.zeros(4, np.float32)])
def test_another_shape_or_type_is_refused(raw, matrix):
    with pytest.raises(DataError, match="4 columns"):
        OnnxModel(raw).scores(matrix)


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: raw[:200], lambda raw: b"\x00" * 100])
def test_bytes_that_are_no_model_are_refused(raw, damage):
    with pytest.raises(ArtifactCorrupt):
        OnnxModel(damage(raw))


def test_a_model_with_other_names_is_refused(raw):
    with pytest.raises(ArtifactCorrupt, match="features"):
        OnnxModel(raw.replace(b"features", b"Features"))


def test_scoring_needs_a_thread(raw):
    with pytest.raises(DeclarationError, match="thread"):
        OnnxModel(raw, threads=0)
