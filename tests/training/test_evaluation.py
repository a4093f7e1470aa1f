from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.core.digests import canonical_json, sha256_hex
from ml_platform.core.errors import DataError, Tampered
from ml_platform.stats import Interval, auc_interval, wilson
from ml_platform.training.decision import Decline
from ml_platform.training.evaluation import EvaluationSubject, evaluate, recompute_verdicts, seed_of
from ml_platform.training.gates import at_least, brier_skill, calibrated, group_ratio, not_worse_than_production
from ml_platform.training.verdict import BaselineRef
from tests.training.cases import calibrated_scores, context, evaluation_table, leaf

SNAPSHOT = "sha256:" + "ab" * 32
SUBJECT = EvaluationSubject(
    "credit_risk", "20100101T000000Z_0123456789ab", "2010-01-01T00:00:00.000000Z", SNAPSHOT, "sha256:run", "sha256:art"
)
GATES = [
    at_least("auc", 0.55),
    calibrated(on_inconclusive="ask"),
    brier_skill(on_inconclusive="ask"),
    group_ratio("approval_rate", by="applicant_group", at_least=0.8),
    not_worse_than_production("auc", by=0.03),
]
CONTEXT = context(seed=seed_of(SNAPSHOT), baseline=BaselineRef(3, "sha256:prod"), decision_above=0.3)
ROWS = 2_000


def table():
    scores, labels = calibrated_scores(ROWS, seed=11)
    groups = np.where(np.arange(ROWS) % 3 == 0, "b", "a").astype(object)
    groups[::50] = None
    baseline = np.where(np.arange(ROWS) % 4 == 0, np.nan, scores * 0.9)
    return evaluation_table(scores, labels, groups={"applicant_group": groups}, baseline=baseline)


def slices(rows: int = ROWS) -> pa.Table:
    order = list(range(rows))[::-1]
    return pa.table(
        {
            "row_leaf": [leaf(row) for row in order],
            "term": ["60" if row % 5 == 0 else "36" for row in order],
            "rare": [f"v{row}" if row < 50 else None for row in order],
        }
    )


def made(**changes):
    arguments = {"slices": slices(), "refused": {"term:unknown": 4}}
    return evaluate(SUBJECT, table(), GATES, CONTEXT, **{**arguments, **changes})


SPEC = {"gates": [gate.spec() for gate in GATES[::-1]], "decision": Decline(0.3, {"x": "X"}).spec()}


def test_the_document_names_what_was_evaluated_and_holds_what_was_found():
    evaluation = made()
    document = evaluation.document
    assert document["format"] == "ml-platform/evaluation/1"
    assert (document["model"], document["candidate"]) == (SUBJECT.model, SUBJECT.candidate)
    assert (document["run_record"], document["artifact"]) == (SUBJECT.run_record, SUBJECT.artifact)
    assert document["table"] == sha256_hex(evaluation.table_bytes)
    assert document["table_digest"] == evaluation.table.digest
    assert document["refused"] == {"term:unknown": 4}
    assert [one["gate"] for one in document["verdicts"]] == [one.gate for one in evaluation.verdicts]
    assert document["baseline"]["version"] == 3
    assert document["baseline"]["coverage"] == 0.75
    assert json.loads(evaluation.to_bytes()) == json.loads(json.dumps(document))
    assert evaluation.digest == sha256_hex(evaluation.to_bytes())


def test_every_metric_has_an_interval_or_a_reason():
    metrics = made().document["metrics"]
    assert set(metrics) == {
        "auc", "brier_skill", "ece", "calibration_slope", "calibration_intercept", "positive_rate", "approval_rate",
        "largest_onnx_difference",
    }  # fmt: skip
    for name, value in metrics.items():
        if name != "largest_onnx_difference":
            assert Interval.from_json(value).low <= Interval.from_json(value).high
    rows = table()
    assert Interval.from_json(metrics["auc"]) == auc_interval(rows.scores, rows.labels)
    approved = int((rows.scores <= 0.3).sum())
    assert Interval.from_json(metrics["approval_rate"]) == wilson(approved, ROWS)


def test_equal_arguments_give_equal_bytes():
    assert made().to_bytes() == made().to_bytes()


def test_slices_count_the_rows_that_have_the_value():
    found = {(one["feature"], one["value"]): one for one in made().document["slices"]}
    assert set(found) == {("term", "36"), ("term", "60")}  # values of single rows say too much about people
    rows = table()
    inside = np.isin(rows.table.column("row_leaf").to_pylist(), [leaf(row) for row in range(0, ROWS, 5)])
    assert found["term", "60"]["rows"] == 400
    assert found["term", "60"]["positives"] == int(rows.labels[inside].sum())
    assert Interval.from_json(found["term", "60"]["auc"]) == auc_interval(rows.scores[inside], rows.labels[inside])


@pytest.mark.parametrize(("rows", "reported"), [(10, ["n"]), (9, [])])
def test_a_value_of_under_ten_rows_is_not_a_slice(rows, reported):
    table = evaluation_table(np.linspace(0.1, 0.9, 12), np.arange(12) % 2)
    values = pa.table({"row_leaf": [leaf(row) for row in range(12)], "x": ["n"] * rows + [None] * (12 - rows)})
    document = evaluate(SUBJECT, table, [], context(), slices=values).document
    assert [one["value"] for one in document["slices"]] == reported


def test_a_score_at_the_limit_counts_as_approved_everywhere():
    table = evaluation_table([0.25] * 200, np.arange(200) % 2, groups={"g": ["a", "a", "b", "b"] * 50})
    document = evaluate(SUBJECT, table, [], context(decision_above=0.25)).document
    assert document["metrics"]["approval_rate"]["point"] == 1.0
    assert [group["approval_rate"]["point"] for group in document["groups"]["g"]["groups"]] == [1.0, 1.0]
    assert [group["approval_ratio"]["point"] for group in document["groups"]["g"]["groups"][1:]] == [1.0]


def test_a_slice_of_one_class_says_so():
    rows = evaluation_table(np.linspace(0.1, 0.9, 30), np.arange(30) >= 15)
    half = pa.table({"row_leaf": [leaf(row) for row in range(30)], "x": ["n"] * 15 + ["p"] * 15})
    document = evaluate(SUBJECT, rows, [], context(), slices=half).document
    assert [one["auc"] for one in document["slices"]] == [{"absent": "The labels have one class only."}] * 2


def test_a_row_without_slice_values_is_an_error():
    with pytest.raises(DataError, match="slice"):
        made(slices=slices(ROWS - 1))


def test_groups_are_reported_with_ratio_and_gaps():
    found = made().document["groups"]["applicant_group"]
    assert found["rows_without_group"] == 40
    assert sum(group["rows"] for group in found["groups"]) == ROWS - 40
    other = next(group for group in found["groups"] if group["group"] != found["reference"])
    for name in ("approval_rate", "approval_ratio", "true_positive_gap", "false_positive_gap"):
        Interval.from_json(other[name])
    reference = next(group for group in found["groups"] if group["group"] == found["reference"])
    assert "approval_ratio" not in reference


def test_calibration_bins_hold_all_rows():
    bins = made().document["calibration"]
    assert len(bins) == 10
    assert sum(one["rows"] for one in bins) == ROWS


def test_a_model_without_decision_or_production_says_so():
    plain = evaluation_table(*calibrated_scores(500, seed=1), groups={"g": ["a"] * 500})
    document = evaluate(SUBJECT, plain, [], context(decision_above=None)).document
    assert document["baseline"] is None
    assert "absent" in document["metrics"]["approval_rate"]
    assert "absent" in document["groups"]["g"]
    assert document["slices"] == []


def test_verdicts_are_recomputed_from_the_stored_table():
    evaluation = made()
    document = json.loads(evaluation.to_bytes())
    assert recompute_verdicts(SPEC, document, evaluation.table_bytes) == evaluation.verdicts


def test_what_the_document_claims_of_verdicts_is_not_believed():
    evaluation = made()
    document = json.loads(evaluation.to_bytes())
    for one in document["verdicts"]:
        one["verdict"] = "pass"
    document["context"]["decision_above"] = 0.999
    assert recompute_verdicts(SPEC, document, evaluation.table_bytes) == evaluation.verdicts


def test_another_table_or_a_broken_document_is_refused():
    evaluation = made()
    document = json.loads(evaluation.to_bytes())
    other = evaluate(SUBJECT, evaluation_table([0.1, 0.9], [0, 1]), [], context())
    with pytest.raises(Tampered, match="table"):
        recompute_verdicts(SPEC, document, other.table_bytes)
    with pytest.raises(Tampered, match="table"):
        recompute_verdicts(SPEC, {**document, "table_digest": other.table.digest}, evaluation.table_bytes)
    for name in ("context", "baseline", "training_set"):
        without = {key: value for key, value in document.items() if key != name}
        with pytest.raises(Tampered):
            recompute_verdicts(SPEC, without, evaluation.table_bytes)


def test_the_seed_is_the_snapshot():
    assert seed_of("sha256:" + "00" * 31 + "ff") == 255
    other = replace(SUBJECT, training_set="sha256:" + "01" * 32)
    document = evaluate(
        other, table(), GATES, replace(CONTEXT, seed=seed_of(other.training_set)), slices=slices()
    ).document
    assert document["metrics"]["ece"] != made().document["metrics"]["ece"]
    assert document["metrics"]["auc"] == made().document["metrics"]["auc"]


def test_no_document_holds_a_number_that_json_cannot_say():
    canonical_json(dict(made().document))
    separated = evaluation_table(np.linspace(0, 1, 40), np.arange(40) >= 20)
    canonical_json(dict(evaluate(SUBJECT, separated, GATES[:3], context()).document))
