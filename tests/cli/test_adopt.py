"""A model that scikit-learn made, adopted by a company without any model of ours, up to a traced decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from tests.cli.support import Shop, call

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: dev)")
pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra: dev)")

OWN = ("spend", "calls", "age", "contracts")  # the order of the file
ROWS = 3_000
COLUMNS = ("--key", "customer_id", "--time", "asked_at", "--label", "churned", "--known-time", "known_at")


def past_requests() -> pa.Table:
    random = np.random.default_rng(11)
    spend, calls, age = random.gamma(2.0, 20.0, ROWS), random.poisson(2.0, ROWS), random.uniform(18, 90, ROWS)
    churned = random.random(ROWS) < 1 / (1 + np.exp(-(0.9 * calls - 0.03 * spend - 1.5)))
    first = datetime(2026, 1, 1, tzinfo=UTC)
    asked = [first + timedelta(minutes=90 * row) for row in range(ROWS)]
    return pa.table(
        {
            "customer_id": pa.array(range(ROWS), pa.int64()),
            "asked_at": pa.array(asked, pa.timestamp("us", "UTC")),
            "spend": spend,
            "calls": pa.array(calls, pa.int64()),
            "age": age,
            "contracts": pa.array(random.integers(0, 4, ROWS), pa.int64()),
            "churned": pa.array(churned.astype(np.int64)),
            "known_at": pa.array([at + timedelta(days=20) for at in asked], pa.timestamp("us", "UTC")),
        }
    )


def trained_elsewhere(rows: pa.Table, path: Path) -> Any:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    matrix = np.column_stack([rows.column(name).to_numpy() for name in OWN]).astype(np.float32)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix, rows.column("churned").to_numpy())
    path.write_bytes(to_onnx(fitted, matrix[:1], target_opset=15).SerializeToString())
    return fitted


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Keys of alice and bob, a replay root in October 2026, a file and a table; no package of models."""
    made = Shop(tmp_path_factory.mktemp("company"))
    made.code.mkdir()
    rows = past_requests()
    pq.write_table(rows, made.code / "rows.parquet")
    trained_elsewhere(rows, made.code / "churn.onnx")
    for principal in ("alice", "bob"):
        assert call("keys", "new", "--principal", principal, "--out", made.key(principal)).code == 0
    members = [part for one in ("alice", "bob") for part in ("--member", f"{one}={made.key(one)}.pub")]
    made.must("init", "--kind", "replay", "--starts-at", "2026-10-01", *members)
    return made


MODELS = ("--models", "adopted_models")


@pytest.fixture(scope="module")
def adopted(company: Shop) -> Any:
    return company.must("adopt", "churn.onnx", "--contract-from", "rows.parquet", *COLUMNS, *MODELS)


def test_a_file_and_a_table_become_a_registered_version(company: Shop, adopted: Any) -> None:
    assert (adopted["model"], adopted["version"], adopted["reproducible"]) == ("churn", 1, False)
    text = (company.code / "adopted_models" / "churn.py").read_text()
    assert len(text.splitlines()) < 80
    assert "Onnx(" in text
    metrics = adopted["evaluation"]["metrics"]
    assert metrics["auc"]["low"] > 0.6
    assert metrics["largest_onnx_difference"] < 1e-6
    shown = company.must("show", "churn", 1)
    assert "not reproducible here" in shown["run_record"]["determinism"]["reproducible"]["absent"]


def test_adopting_again_changes_nothing(company: Shop, adopted: Any) -> None:
    again = company.must("adopt", "churn.onnx", "--contract-from", "rows.parquet", *COLUMNS, *MODELS)
    assert again["version"] == adopted["version"]
    assert again["artifact"] == adopted["artifact"]
    assert {one["added"] for one in again["landed"]} == {0}


def test_it_decides_with_the_scores_of_its_maker_and_is_traced(company: Shop, adopted: Any) -> None:
    assert adopted
    company.must("promote", "churn", 1, "--to", "staging", "--reason", "adopted")
    for stage in ("canary", "production"):
        for officer in ("alice", "bob"):
            company.must(
                "approve", "churn", 1, "--to", stage, "--key", company.key(officer), "--reason", "looked at it"
            )
        company.must("promote", "churn", 1, "--to", stage, "--reason", "two agree")
    rows = past_requests()
    new = rows.slice(0, 40).select(["customer_id", *OWN])
    asked = pa.array([datetime(2026, 10, 5, hour=row % 24, tzinfo=UTC) for row in range(40)], pa.timestamp("us", "UTC"))
    csv.write_csv(new.append_column("asked_at", asked), company.code / "october.csv")
    company.must("land", "churn_requests", "october.csv", *MODELS)
    company.must("clock", "--move", "2026-11-01")
    made = company.must("score", "churn", "--partition", "2026-10", *MODELS)
    assert made["accepted"] == 40
    (one,) = company.must("decisions", "churn", "--partition", "2026-10", "--limit", 1, "--keys")["decisions"]
    fitted = trained_elsewhere(rows, company.folder / "again.onnx")
    at = int(one["entity"]["customer_id"])
    features = np.array([[rows.column(name)[at].as_py() for name in OWN]], np.float32)
    assert one["score"] == pytest.approx(fitted.predict_proba(features)[0, 1], abs=1e-5)
    traced = company.must("trace", one["prediction_id"])
    assert traced["proofs"]["status"] == "proven"
    ran = company.mlp("reproduce", "churn", 1)
    assert ran.code == 8
    assert "not reproducible here" in ran.out + ran.err


def test_the_table_may_be_csv(company: Shop, adopted: Any) -> None:
    assert adopted
    csv.write_csv(past_requests(), company.code / "rows.csv")
    made = company.must("adopt", "churn.onnx", "--contract-from", "rows.csv", *COLUMNS, "--name", "from_csv", *MODELS)
    assert made["version"] == 1
    assert made["landed"][0]["rows"] == ROWS


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (("--key", "client"), 3, "client"),
        (("--horizon", "soon"), 2, "horizon"),
        (("--name", "Churn Model"), 2, "name"),
    ],
)
def test_wrong_words_are_named(company: Shop, change: tuple[str, str], code: int, says: str) -> None:
    words = list(COLUMNS)
    if change[0] in words:
        words[words.index(change[0]) + 1] = change[1]
        change = ("--name", "other")
    ran = company.mlp("adopt", "churn.onnx", "--contract-from", "rows.parquet", *words, *change, "--models", "spoilt")
    assert ran.code == code, ran.err
    assert says in ran.problem


def test_a_column_of_words_and_a_file_that_is_no_model_are_refused(company: Shop) -> None:
    rows = past_requests()
    pq.write_table(rows.append_column("plan", pa.array(["a"] * ROWS)), company.code / "words.parquet")
    ran = company.mlp("adopt", "churn.onnx", "--contract-from", "words.parquet", *COLUMNS, "--name", "worded", *MODELS)
    assert ran.code == 3
    assert "plan" in ran.problem
    (company.code / "broken.onnx").write_bytes(b"no model")
    ran = company.mlp("adopt", "broken.onnx", "--contract-from", "rows.parquet", *COLUMNS, "--models", "other_models")
    assert ran.code == 5
    assert "no ONNX model" in ran.problem


def test_another_declaration_of_the_name_is_not_overwritten(company: Shop, adopted: Any) -> None:
    path = company.code / "adopted_models" / "churn.py"
    before = path.read_text()
    ran = company.mlp("adopt", "churn.onnx", "--contract-from", "rows.parquet", *COLUMNS, "--horizon", "60d", *MODELS)
    assert ran.code == 6
    assert path.read_text() == before
    assert adopted
