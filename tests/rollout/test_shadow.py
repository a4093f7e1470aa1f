"""What a shadow version sees of a record, and what it says about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.rollout.agreement import agreement
from ml_platform.rollout.shadow import not_held, see, shadow_section
from ml_platform.serving.building import Decided
from ml_platform.serving.preparing import TextLists
from ml_platform.serving.record import Section

DTI = ResolvedField("dti", "request@a:dti", "input", "number", "float64", nullable=True)
TERM = ResolvedField("term", "request@a:term", "input", "category", "int64", categories=("36",), on_unknown="flag")
RATE = ResolvedField("rate", "history@a:rate", "stored", "number", "float64", nullable=True)
SHARE = ResolvedField("share", "request@a:share", "derived", "number", "float64", nullable=True, expression={"op": "a"})
RECORDED = Contract((("loan_id", "int64"),), "applied_at", (DTI, TERM, SHARE, RATE))


def section(dti: float | None = 10.0, term: str | None = "60", *, flags: tuple[str, ...] = ()) -> Section:
    return Section(
        request_time_us=5,
        keys=(("i64", 7),),
        features=(("f32", dti), ("text", term), ("f32", 0.5), ("f32", 0.25)),
        ages_us=(86_400,),
        flags=flags,
        outputs=(0.1,),
        decision="approved",
        reasons=(),
    )


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        (replace(DTI, reference="request@b:dti"), ()),
        (replace(DTI, name="income"), ("income",)),
        (replace(DTI, kind="category"), ("dti",)),
        (replace(RATE, reference="history@b:rate"), ("rate",)),
        (replace(SHARE, reference="request@b:share"), ()),
        (replace(SHARE, expression={"op": "b"}), ("share",)),
        (replace(SHARE, origin="stored"), ("share",)),
    ],
)
def test_a_version_is_compared_only_where_records_hold_what_it_needs(
    changed: ResolvedField, missing: tuple[str, ...]
) -> None:
    assert not_held(RECORDED, replace(RECORDED, fields=(changed,))) == missing


def test_order_and_extra_fields_of_the_record_mean_nothing_and_another_key_means_all() -> None:
    assert not_held(RECORDED, replace(RECORDED, fields=(RATE, DTI))) == ()
    assert not_held(RECORDED, replace(RECORDED, entity_keys=(("person_id", "int64"),))) == ("person_id",)


def test_the_policies_of_the_shadow_hold_and_not_those_of_the_record() -> None:
    knows = replace(RECORDED, fields=(DTI, replace(TERM, categories=("36", "60"))))
    strict = replace(RECORDED, fields=(DTI, replace(TERM, on_unknown="reject")))
    rows = [section(), section(term="36"), section(term=None)]
    seen = see(rows, RECORDED, knows)
    assert seen.accepted.tolist() == [0, 1]
    assert seen.matrix[:, 1].tolist() == [1.0, 0.0]
    assert (seen.refused, seen.lost, seen.flags) == (1, 0, ((), ()))
    flagged = see(rows[:2], RECORDED, RECORDED)
    assert flagged.flags == (("term:unknown:flag",), ())
    assert np.isnan(flagged.matrix[0, 1])
    assert (see(rows, RECORDED, strict).accepted.tolist(), see(rows, RECORDED, strict).refused) == ([1], 2)


def test_a_null_that_was_decided_on_a_default_is_seen_as_null() -> None:
    nullable = replace(RECORDED, fields=(DTI,))
    seen = see([section(99.0, flags=("dti:null:default",))], RECORDED, nullable)
    assert np.isnan(seen.matrix[0, 0])


def test_a_value_that_a_default_replaced_is_gone_and_not_guessed_at() -> None:
    rows = [section(99.0, flags=("dti:range:default",)), section(term="36", flags=("term:unknown:default",))]
    seen = see(rows, RECORDED, RECORDED)
    assert (seen.accepted.tolist(), seen.lost, seen.refused) == ([1], 1, 0)


def test_the_shadows_record_holds_what_it_used_in_its_own_order() -> None:
    shadow = replace(RECORDED, fields=(RATE, TERM, replace(DTI, nullable=False, on_null="default", default=3.0)))
    rows = [section(None), section()]
    seen = see(rows, RECORDED, shadow)
    decided = Decided(
        {"score": np.array([0.7, 0.2], np.float32)}, np.array([1, 0]), ("approved", "declined"), TextLists.of(2, {})
    )
    made = shadow_section(rows[0], RECORDED, shadow, seen, 0, decided)
    assert made.features == (("f32", 0.25), ("text", "60"), ("f32", 3.0))
    assert (made.keys, made.ages_us, made.decision) == (rows[0].keys, (86_400,), "declined")
    assert made.outputs == (pytest.approx(0.7),)
    assert made.flags == ("term:unknown:flag", "dti:null:default")
    assert made.request_time_us == 5


def test_agreement_counts_other_decisions_and_measures_scores() -> None:
    decisions = [("approved", "approved"), ("approved", "declined"), ("declined", "approved"), ("approved", "declined")]
    found = agreement(decisions, np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.2, 0.3, 0.2, 0.6]))
    assert (found.pairs, found.disagreements) == (4, 3)
    assert found.changes == {"approved→declined": 2, "declined→approved": 1}
    assert found.differences["p50"] == pytest.approx(0.1)
    assert found.mean_difference == pytest.approx(0.075)
    assert found.disagreement is not None
    assert found.disagreement.low < 0.75 < found.disagreement.high


def test_agreement_of_nothing_is_nothing() -> None:
    none = agreement([], np.empty(0), np.empty(0)).to_json()
    assert (none["pairs"], none["disagreement"], none["score_difference"]) == (0, None, None)
