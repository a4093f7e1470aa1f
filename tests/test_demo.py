"""The main job as a user runs it, its results recomputed from the raw files, and the runs that must stop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from ml_platform.simulation import LendingMarket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
REPOSITORY = Path(__file__).resolve().parent.parent


def mlp(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ml_platform.cli", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "root"


@pytest.fixture(scope="module")
def report(root: Path) -> dict[str, Any]:
    done = mlp("demo", "--root", str(root), "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def mature_loans(folder: Path, as_of: pd.Timestamp) -> pd.DataFrame:
    """Slow and obvious: label "defaulted within 12 months", counted only when the 12 months are over."""
    loans = pd.read_parquet(folder / "applications.parquet").merge(
        pd.read_parquet(folder / "outcomes.parquet"), on="loan_id"
    )
    matured = loans["applied_at"] + pd.DateOffset(months=12)
    loans["label"] = ((loans["defaulted"] == 1) & (loans["known_at"] <= matured)).astype(int)
    loans["matured_at"] = matured
    return loans[(loans["applied_at"] <= as_of) & (matured <= as_of)].set_index("loan_id")


def purpose_rate(loans: pd.DataFrame, purpose: str, at: pd.Timestamp) -> float:
    """Default rate of a purpose over the outcomes that matured in the 720 days up to midnight of the request's day."""
    at = at.floor("D")
    window = loans[
        (loans["purpose"] == purpose)
        & (loans["matured_at"] > at - pd.Timedelta(days=720))
        & (loans["matured_at"] <= at)
    ]
    return float("nan") if window.empty else window["label"].sum() / len(window)


@pytest.mark.parametrize("number", [1, 2])
def test_each_snapshot_is_recomputed_row_by_row_from_the_raw_files(
    report: dict[str, Any], root: Path, number: int
) -> None:
    version = report["versions"][number - 1]
    as_of = pd.Timestamp(version["as_of"])
    everything = mature_loans(root / "market", pd.Timestamp("2100-01-01", tz="UTC"))
    expected = mature_loans(root / "market", as_of)
    snapshot = pq.read_table(version["training_set_path"]).to_pandas().set_index("loan_id")
    assert (
        len(snapshot)
        == version["training_rows"]
        == len(expected) - sum(count for reason, count in version["left_out"].items() if reason != "immature")
    )
    applied = pd.read_parquet(root / "market" / "applications.parquet")
    assert version["immature_rows"] == (applied["applied_at"] <= as_of).sum() - len(expected)
    rows = expected.loc[snapshot.index]
    assert (snapshot["defaulted"] == rows["label"]).all()
    assert (snapshot["applied_at"] == rows["applied_at"]).all()
    for name in ("loan_amnt", "int_rate", "dti", "revol_util", "mths_since_last_delinq"):
        np.testing.assert_array_equal(snapshot[name].to_numpy(), rows[name].to_numpy().astype(np.float32))
    assert (snapshot["term"] == rows["term"].astype(str)).all()
    derived = (rows["installment"] * 12 / rows["annual_inc"]).to_numpy().astype(np.float32)
    np.testing.assert_array_equal(snapshot["payment_to_income"].to_numpy(), derived)
    sample = snapshot.sample(150, random_state=number)
    by_hand = [purpose_rate(everything, row.purpose, row.applied_at) for row in sample.itertuples()]
    np.testing.assert_allclose(sample["defaulted_mean_720d"].to_numpy(), np.array(by_hand, np.float32), rtol=1e-6)


def test_the_report_says_what_happened(report: dict[str, Any]) -> None:
    first, second = report["versions"]
    assert (first["stage"], second["stage"]) == ("archived", "production")
    assert all(gate["verdict"] in {"pass", "inconclusive"} for version in (first, second) for gate in version["gates"])
    assert second["baseline"]["version"] == 1
    months = {month["month"]: month for month in report["predictions"]["months"]}
    assert len(months) == 18
    assert all(month["version"] == 1 for month in months.values())
    assert months["2010-04"]["flags"] == {}
    assert months["2010-05"]["flags"]["term"]["unknown:flag"] > 0
    assert months["2010-08"]["psi_term"] > 0.2 > months["2010-04"]["psi_term"]
    assert report["predictions"]["online"] >= 5_000
    assert report["predictions"]["batch"] == sum(month["accepted"] for month in months.values())
    assert report["audit"]["verified"]
    label, group = report["refused_candidates"]
    assert "known" in label["reason"]
    assert any("same_as_event" in json.dumps(value) for value in label["with_written_claim"]["known_times"].values())
    assert {gate["gate"]: gate["verdict"] for gate in group["gates"]}[
        "group_ratio.approval_rate.applicant_group"
    ] == "fail"


def test_the_object_holds_all_that_was_promised_and_each_step_says_a_line(report: dict[str, Any], root: Path) -> None:
    done = mlp("demo", "--root", str(root), "--json")
    report, said = json.loads(done.stdout), done.stderr.splitlines()  # again: all steps are passed by
    top = {
        "model", "versions", "refused_candidates", "predictions", "trace", "audit", "seconds", "drift", "alerts",
        "retrain", "shadow", "rollback_ms", "failed_requests", "trace_online",
    }  # fmt: skip
    assert set(report) >= top
    version = {
        "version", "as_of", "training_rows", "immature_rows", "training_set_digest", "training_set_path",
        "artifact_digest", "auc", "auc_next_half_year", "gates",
    }  # fmt: skip
    for one in report["versions"]:
        assert set(one) >= version
        for name in ("auc", "auc_next_half_year"):
            assert 0 < one[name]["low"] < one[name]["point"] < one[name]["high"] < 1
        assert Path(one["training_set_path"]).is_file()
        assert one["artifact_digest"].startswith("sha256:")
    assert report["model"] == "credit_risk"
    assert report["seconds"] > 0
    assert set(report["predictions"]) >= {"batch", "online", "flagged", "refused"}
    assert set(report["audit"]) >= {"entries", "root", "verified"}
    assert report["trace"]["prediction"]["decision"] == "declined"
    for step in (
        "landed applications", "landed outcomes", "as of 2010-01-01", "version 1 registered", "version 1 approved",
        "2010-01: ", "2011-06: ", "as of 2011-07-01", "version 2 registered", "version 2 shadowed", "version 2 took", "version 2 is rolled back",
        "a label without a known time", "a candidate with a surcharge", "tracing two declined loans", "verifying",
    ):  # fmt: skip
        assert any(line.startswith(step) for line in said), step


def test_the_loop_went_from_drift_to_a_version(report: dict[str, Any]) -> None:
    assert report["drift"]["term"]["severity"] == "P2"
    assert report["drift"]["term"]["psi"] > 0.2
    first = min((one for one in report["alerts"] if one["subject"] == "term"), key=lambda one: one["log_index"])
    assert (first["window"], first["severity"], first["version"]) == ("2010-05", "P2", 1)
    assert not any(one["open"] for one in report["alerts"]), "version 2 has replaced what they are about"
    retrain = report["retrain"]
    assert retrain["useful_from"].startswith("2011-06")
    assert (retrain["outcome"], retrain["version"]) == ("registered", 2)
    assert retrain["run"] == report["versions"][1]["candidate"]
    assert retrain["meanwhile"]
    assert report["shadow"]["pairs"] >= 5_000
    assert 0 < report["shadow"]["disagreement"]["low"] < report["shadow"]["disagreement"]["high"] < 0.5


def test_a_rollback_under_load_lost_nothing_and_was_quick(report: dict[str, Any]) -> None:
    assert 0 <= report["rollback_ms"] < 1_000
    assert report["failed_requests"] == 0


def test_each_loan_has_one_decision_of_record(report: dict[str, Any], root: Path) -> None:
    """Counted from the tables by pandas: online or batch, each application of the eighteen months once."""
    headers = DeltaTable(root / "lake" / "credit_risk" / "predictions").to_pandas(
        columns=["prediction_id", "mode", "version", "role", "decision_of_record"]
    )
    people = DeltaTable(root / "lake" / "credit_risk" / "predictions_personal").to_pandas(
        columns=["prediction_id", "key_loan_id", "request_time"]
    )
    records = headers.merge(people, on="prediction_id", validate="one_to_one")
    counted = records[records["decision_of_record"]]
    assert not counted["key_loan_id"].duplicated().any()
    applications = pd.read_parquet(root / "market" / "applications.parquet")
    window = applications[(applications["applied_at"] >= "2010-01-01") & (applications["applied_at"] < "2011-07-01")]
    refused = report["predictions"]["refused"]
    inside = counted[counted["request_time"] < pd.Timestamp("2011-07-01", tz="UTC")]
    assert len(inside) == len(window) - refused
    online = inside[inside["mode"] == "online"]
    assert len(online) >= 5_000
    assert set(online["key_loan_id"] % 3) == {0}
    shadows = records[records["role"] == "shadow"]
    assert len(shadows) == report["shadow"]["pairs"]
    assert not shadows["decision_of_record"].any()
    assert set(shadows["version"]) == {2}


def test_the_online_trace_is_proven_and_says_the_route(report: dict[str, Any]) -> None:
    trace = report["trace_online"]
    assert trace["prediction"]["mode"] == "online"
    assert trace["prediction"]["decision"] == "declined"
    assert trace["proofs"]["status"] == "proven"
    assert trace["training_set"]["digest"] == report["versions"][0]["training_set_digest"]


def test_the_trace_answers_the_regulator(report: dict[str, Any]) -> None:
    trace = report["trace"]
    assert trace["prediction"]["decision"] == "declined"
    assert trace["prediction"]["reasons"]
    assert trace["prediction"]["score"] > trace["prediction"]["threshold"]
    assert trace["training_set"]["digest"] == report["versions"][0]["training_set_digest"]
    assert trace["proofs"]["checked"]
    assert {approval["signature_checked"] for approval in trace["approvals"]} == {True}


def test_a_second_run_in_the_same_root_changes_nothing(report: dict[str, Any], root: Path) -> None:
    again = json.loads(mlp("demo", "--root", str(root), "--json").stdout)
    for name in (
        "versions",
        "refused_candidates",
        "predictions",
        "drift",
        "alerts",
        "retrain",
        "shadow",
        "rollback_ms",
    ):
        assert again[name] == report[name]
    assert again["audit"]["entries"] == report["audit"]["entries"]
    assert again["trace"]["prediction"]["id"] == report["trace"]["prediction"]["id"]


def test_other_data_are_not_mixed_into_a_root(report: dict[str, Any], root: Path, tmp_path: Path) -> None:
    data = shuffled(root / "market", tmp_path / "other", seed=3)
    done = mlp("demo", "--root", str(root), "--data", str(data), "--json")
    assert done.returncode == 6, done.stderr[-2000:]
    assert "other data" in json.loads(done.stdout)["error"]["what"]


def test_verify_and_reproduce_agree_with_the_report(report: dict[str, Any], root: Path) -> None:
    verified = mlp("verify", "--root", str(root), "--json")
    assert verified.returncode == 0, verified.stderr
    again = mlp("reproduce", "credit_risk", "1", "--root", str(root), "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["identical"] is True


def shuffled(source: Path, folder: Path, *, seed: int) -> Path:
    """The same files with the outcomes' labels dealt to other loans."""
    folder.mkdir(parents=True)
    outcomes = pd.read_parquet(source / "outcomes.parquet")
    order = np.random.default_rng(seed).permutation(len(outcomes))
    outcomes["defaulted"] = outcomes["defaulted"].to_numpy()[order]
    outcomes.to_parquet(folder / "outcomes.parquet")
    for name in ("applications", "restricted_applicants"):
        if (source / f"{name}.parquet").exists():
            pd.read_parquet(source / f"{name}.parquet").to_parquet(folder / f"{name}.parquet")
    return folder


def test_shuffled_labels_stop_at_the_gates(tmp_path: Path) -> None:
    LendingMarket().write(market := tmp_path / "market")
    data = shuffled(market, tmp_path / "shuffled", seed=1)
    done = mlp("demo", "--root", str(tmp_path / "root"), "--data", str(data), "--json")
    assert done.returncode == 7, done.stderr[-2000:]
    assert json.loads(done.stdout)["error"]["kind"] == "GateFailed"


@pytest.mark.real_data
def test_real_loans_give_two_versions_and_their_shuffled_copy_none(lending_club: Path, tmp_path: Path) -> None:
    done = mlp("demo", "--root", str(tmp_path / "root"), "--data", str(lending_club), "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    first, second = report["versions"]
    assert (first["training_rows"], second["training_rows"]) == (3_265, 14_659)
    assert first["immature_rows"] == 5_674
    for version in (first, second):
        expected = mature_loans(lending_club, pd.Timestamp(version["as_of"]))
        snapshot = pq.read_table(version["training_set_path"]).to_pandas().set_index("loan_id")
        assert (snapshot["defaulted"] == expected.loc[snapshot.index, "label"]).all()
    group = next(gate for gate in first["gates"] if gate["kind"] == "group_ratio")
    assert group["verdict"] == "not_evaluated"
    data = shuffled(lending_club, tmp_path / "shuffled", seed=2)
    stopped = mlp("demo", "--root", str(tmp_path / "other"), "--data", str(data), "--json")
    assert stopped.returncode == 7, stopped.stderr[-2000:]
