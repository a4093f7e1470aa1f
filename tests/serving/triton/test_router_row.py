"""Whole rows as JSON through the real server: the answers, records and refusals of the same tensors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ml_platform.core.errors import ContractViolation
from ml_platform.lifecycle import predict
from ml_platform.serving.online_record import LoggedRefusal
from tests.serving.triton.routed import MODEL, RunningRouter, request
from tests.serving.triton.test_router_model import loans, post

SAID = {"prediction_id"}  # every decision has its own


def whole(*rows: dict[str, Any] | bytes) -> dict[str, np.ndarray]:
    texts = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return {"row": np.array(texts, object).reshape(-1, 1)}


def test_a_row_gets_the_answer_and_the_record_of_its_tensors(router: RunningRouter):
    before = len(router.root.decisions())
    rows = [*loans(6, seed=3), {**loans(1, seed=4)[0], "income": None, "grade": None}]
    now = 1_600_000_000_000_000
    for loan in rows:
        nulls = {name: None for name, value in loan.items() if value is None}
        nulls |= {f"{name}.null": np.array([[True]]) for name in nulls}
        given = {**request(**{name: value for name, value in loan.items() if value is not None}), **nulls}
        by_tensors = router.ask(given, applied_at=np.array([[now]]))
        by_row = router.ask(whole({**loan, "applied_at": now}))
        assert by_row.keys() == by_tensors.keys()
        for name in by_row.keys() - SAID:
            assert by_row[name].tolist() == by_tensors[name].tolist(), name
    records = router.root.decisions()[before:]
    assert len(records) == 2 * len(rows)
    for one, other in zip(records[::2], records[1::2], strict=True):
        assert one.section.to_bytes() == other.section.to_bytes()
        assert (
            replace(
                one.header,
                prediction_id=other.header.prediction_id,
                seq=other.header.seq,
                decided_at_us=other.header.decided_at_us,
                recorded_at_us=other.header.recorded_at_us,
                latency_us=other.header.latency_us,
            )
            == other.header
        )


def test_several_rows_are_decided_in_their_order(router: RunningRouter):
    rows = loans(5, seed=6)
    found = router.ask(whole(*rows))
    alone = [router.ask(whole(row)) for row in rows]
    assert found["score"].reshape(-1).tolist() == [one["score"][0, 0] for one in alone]


def test_a_row_in_plain_json_over_http(router: RunningRouter):
    (loan,) = loans(1, seed=8)
    body = {"inputs": [{"name": "row", "datatype": "BYTES", "shape": [1, 1], "data": [json.dumps(loan)]}]}
    status, raw = post(router, json.dumps(body).encode())
    assert status == 200
    outputs = {one["name"]: one["data"] for one in json.loads(raw)["outputs"]}
    assert np.float32(outputs["score"][0]) == router.ask(request(**loan))["score"][0, 0]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b'{"loan_id": 1, "amount": "1.5", "income": 1, "term": 36, "grade": "A"}', "amount: type"),
        (b'{"loan_id": 1, "amount": NaN, "income": 1, "term": 36, "grade": "A"}', "amount: finite"),
        (b'{"loan_id": 1, "amount": 1, "amount": 1, "income": 1, "term": 36, "grade": "A"}', "amount: duplicate"),
        (b'{"loan_id": 1, "income": 1, "term": 36, "grade": "A"}', "amount: missing"),
        (b'{"loan_id": 1, "amount": 1.5, "income": 1, "term": 36, "grade": "\xff"}', "row: utf-8"),
        (b"\x00", "row: json"),
    ],
)
def test_a_refused_row_is_recorded_by_field_and_rule(router: RunningRouter, row: bytes, why: str):
    before = len(router.root.decisions())
    with pytest.raises(ContractViolation, match=why):
        router.ask(whole(row))
    last = [one for one in router.root.logged() if isinstance(one, LoggedRefusal)][-1]
    assert f"{last.refusals[0].field}: {last.refusals[0].rule}" == why
    assert len(router.root.decisions()) == before


def test_a_row_beside_tensors_is_refused(router: RunningRouter):
    with pytest.raises(ContractViolation, match="row: exclusive"):
        router.ask({**whole(loans(1)[0]), "amount": np.array([[1.0]])})


def test_one_question_by_hand_knows_fields_and_no_row(router: RunningRouter):
    with pytest.raises(ContractViolation, match="no such field") as error:
        predict(router.root.folder, MODEL, {"row": "{}"})
    assert error.value.field == "row"
    assert "amount" in error.value.next_step
    assert " row" not in error.value.next_step
