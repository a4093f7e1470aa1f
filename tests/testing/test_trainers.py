from __future__ import annotations

import numpy as np
import pytest

from ml_platform.testing import check_trainer
from ml_platform.training import Function, LightGBM
from ml_platform.training.onnx_surcharge import with_surcharge
from tests.training.cases import data

BASE = LightGBM(objective="binary", num_leaves=7, learning_rate=0.05, rounds=20, min_data_in_leaf=20)


def train_base(data, run):
    return BASE.fit(data, run)


def predict_charged(native, matrix):
    return np.minimum(1.0, BASE.predict(native, matrix) + 0.01 * matrix[:, 3].astype(np.float64))


def predict_another(native, matrix):
    return BASE.predict(native, matrix) * 0.99


def export_charged(native, contract):
    return with_surcharge(BASE.to_onnx(native, contract), 3, 0.01)


def test_lightgbm_keeps_the_promises_of_a_trainer() -> None:
    check_trainer(BASE, data())


def test_functions_keep_them_too() -> None:
    check_trainer(Function("charged", train_base, predict_charged, export_charged, bit_identical=True), data())


def test_a_trainer_whose_onnx_is_another_model_is_found() -> None:
    with pytest.raises(AssertionError, match="agree"):
        check_trainer(Function("other", train_base, predict_another, export_charged), data())
