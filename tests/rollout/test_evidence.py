"""What counts of an arm's records."""

from __future__ import annotations

import pyarrow as pa

from ml_platform.rollout.evidence import arm_evidence


def records(*rows: tuple[str, int, str | None, float, int]) -> pa.Table:
    names = ("prediction_id", "loan_id", "decision", "score", "latency_us")
    types = (pa.string(), pa.int64(), pa.string(), pa.float32(), pa.int64())
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table(
        {name: pa.array(list(column), kind) for name, column, kind in zip(names, columns, types, strict=True)}
    )


def test_a_unit_counts_by_its_first_exposure_and_every_answer_by_its_latency() -> None:
    found = arm_evidence(
        2,
        records(("b", 1, "declined", 0.9, 3000), ("a", 1, "approved", 0.1, 1000), ("c", 2, "declined", 0.8, 2000)),
        ["loan_id"],
        [],
    )
    assert found.counts() == {"version": 2, "units": 2, "answered": 3, "refused": 0, "decided": 2, "declined": 1}
    assert sorted(round(float(score), 6) for score in found.scores) == [0.1, 0.8]
    assert sorted(found.latency_ms.tolist()) == [1.0, 2.0, 3.0]


def test_a_refused_request_counts_once_whatever_number_of_rules_it_broke() -> None:
    found = arm_evidence(2, records(("a", 1, "approved", 0.1, 10)), ["loan_id"], ["x", "x", "y"])
    assert (found.refused, found.units, found.decided) == (2, 3, 1)


def test_a_version_that_only_scores_decides_nothing() -> None:
    found = arm_evidence(2, records(("a", 1, None, 0.1, 10)), ["loan_id"], [])
    assert (found.decided, found.declined, len(found.scores)) == (0, 0, 1)


def test_an_arm_without_records_is_empty() -> None:
    found = arm_evidence(2, records(), ["loan_id"], [])
    assert found.counts() == {"version": 2, "units": 0, "answered": 0, "refused": 0, "decided": 0, "declined": 0}
