"""The gates on real loans: a model learns something, shuffled labels never pass."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ml_platform.core.fields import category, number
from ml_platform.training.contract import ResolvedInput, build, prepare
from ml_platform.training.evaluation_table import EvaluationTable
from ml_platform.training.fitting import fit
from ml_platform.training.gates import at_least
from ml_platform.training.lightgbm import LightGBM
from ml_platform.training.onnxruntime import OnnxModel
from ml_platform.training.trainer import RunContext, training_data
from ml_platform.training.verdict import GateContext, verdicts

pytestmark = pytest.mark.real_data
pytest.importorskip("lightgbm", reason="LightGBM is not installed (extra: lightgbm)")
pytest.importorskip("onnx", reason="onnx is not installed (extra: lightgbm)")

NUMBERS = ["loan_amnt", "int_rate", "installment", "annual_inc", "dti", "inq_last_6mths", "revol_util", "total_acc"]
CATEGORIES = ["term", "home_ownership", "purpose", "grade"]
AS_OF = np.datetime64("2010-01-01", "M")


@pytest.fixture(scope="module")
def parts(lending_club) -> tuple[pa.Table, pa.Table]:
    """Mature loans as of 2010-01-01, labelled "defaulted within 12 months", the newest 30 % apart."""
    loans = pq.read_table(lending_club / "applications.parquet").join(
        pq.read_table(lending_club / "outcomes.parquet"), "loan_id"
    )
    loans = loans.sort_by([("applied_at", "ascending"), ("loan_id", "ascending")])
    start = loans.column("applied_at").to_numpy().astype("datetime64[M]")
    known = loans.column("known_at").to_numpy()
    due = (start + 12).astype("datetime64[us]")
    label = (loans.column("defaulted").to_numpy() == 1) & (known <= due)
    mature = start + 12 <= AS_OF
    columns = {name: loans.column(name).cast(pa.float64()).cast(pa.float32()) for name in NUMBERS}
    columns |= {name: loans.column(name).cast(pa.string()) for name in CATEGORIES}
    table = pa.table({"loan_id": loans.column("loan_id"), **columns, "label": label.astype(np.int64)}).filter(mature)
    start = start[mature]
    cut = np.sort(start)[len(start) - int(np.ceil(0.3 * len(start)))]
    return table.filter(start < cut), table.filter(start >= cut)


def auc_verdict(train: pa.Table, test: pa.Table) -> dict[str, str]:
    inputs = [ResolvedInput(number(name, nullable=True), f"v:{name}", "input", "float64") for name in NUMBERS]
    inputs += [ResolvedInput(category(name, on_unknown="flag"), f"v:{name}", "input", "string") for name in CATEGORIES]
    contract = build(inputs, train, entity_keys=[("loan_id", "int64")], time="applied_at")
    data = training_data(contract, train, "label")
    trainer = LightGBM(num_leaves=7, learning_rate=0.03, rounds=120, min_data_in_leaf=50)
    artifact = fit(trainer, data, None, RunContext(0)).artifact
    prepared = prepare(contract, test)
    assert prepared.accepted.all()
    table = EvaluationTable.build(
        [sha256(str(key).encode()).digest() for key in test.column("loan_id").to_pylist()],
        score=OnnxModel(artifact.part("model.onnx")).scores(prepared.matrix),
        native_score=trainer.predict(artifact.part("model.txt"), prepared.matrix),
        label=test.column("label").to_numpy(),
    )
    judged = verdicts([at_least("auc", 0.55)], table, GateContext(data.base_rate, seed=0))
    return {one.gate: one.verdict for one in judged}


def test_the_counts_are_the_published_ones(parts):
    train, test = parts
    assert train.num_rows + test.num_rows == 3_265
    assert pc.sum(train.column("label")).as_py() + pc.sum(test.column("label")).as_py() == 119


def test_a_model_of_real_loans_passes(parts):
    assert auc_verdict(*parts) == {"at_least.auc": "pass", "onnx_parity": "pass"}


@pytest.mark.parametrize("seed", range(5))
def test_a_model_of_shuffled_labels_never_passes(parts, seed):
    train, test = parts
    labels = np.concatenate([train.column("label").to_numpy(), test.column("label").to_numpy()])
    labels = np.random.default_rng(seed).permutation(labels)
    place = train.column_names.index("label")
    train = train.set_column(place, "label", pa.array(labels[: train.num_rows]))
    test = test.set_column(place, "label", pa.array(labels[train.num_rows :]))
    found = auc_verdict(train, test)
    assert found["at_least.auc"] in {"fail", "inconclusive"}
    assert found["onnx_parity"] == "pass"
