"""What becomes of a reason to train again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import DeclarationError
from ml_platform.monitoring import Monitor
from ml_platform.monitoring.retrain import (
    Asked,
    PastRequest,
    Retraining,
    Trigger,
    freshness_due,
    judge_trigger,
)

NOW = datetime(2010, 8, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = Retraining(cool_down="30d", budget=2, budget_period="12mo")
DRIFT = Trigger("drift", ("drift-term",))


def past(days_ago: float, *, ended: float | None = None, answered: bool = False, name: str = "retrain-1",
         triggers: tuple[Trigger, ...] = (DRIFT,)) -> PastRequest:  # fmt: skip
    at = NOW - days_ago * DAY
    return PastRequest(name, ended is None, at, None if ended is None else NOW - ended * DAY, answered, triggers)


def judged(
    trigger: Trigger = DRIFT, *earlier: PastRequest, declared: str = "queued", rules: Retraining = RULES
) -> Asked:
    return judge_trigger(trigger, declared, rules, earlier, NOW)


@pytest.mark.parametrize("declared", ["queued", "automatic"])
def test_the_first_trigger_becomes_a_request_in_the_declared_mode(declared: str) -> None:
    assert judged(declared=declared) == Asked("request", mode=declared)  # type: ignore[arg-type]


def test_never_refuses_watchers_and_lets_a_person_ask() -> None:
    assert judged(declared="never").action == "refuse"
    assert judged(Trigger("by_hand"), declared="never") == Asked("request", mode="queued")


def test_while_a_request_is_open_other_reasons_are_merged_into_it() -> None:
    open_one = past(3)
    assert judged(Trigger("performance", ("decay-1",)), open_one) == Asked("merge", "retrain-1")
    assert judged(Trigger("drift", ("drift-dti",)), open_one) == Asked("merge", "retrain-1")
    assert judged(Trigger("freshness"), open_one) == Asked("merge", "retrain-1")
    assert judged(Trigger("by_hand"), open_one) == Asked("merge", "retrain-1")


def test_what_the_open_request_knows_is_not_merged_again() -> None:
    assert judged(DRIFT, past(3)) == Asked("known", "retrain-1")
    fresh = past(3, triggers=(Trigger("freshness"),))
    assert judged(Trigger("freshness"), fresh) == Asked("known", "retrain-1")
    assert judged(Trigger("drift", ("drift-term", "drift-dti")), past(3)).action == "merge"


def test_merging_is_not_held_back_by_the_budget() -> None:
    ended = past(100, ended=90, name="retrain-0")
    assert judged(Trigger("freshness"), ended, past(2), rules=Retraining(budget=1)).action == "merge"


def test_alerts_that_a_registered_version_or_a_rejection_answered_do_not_ask_again() -> None:
    assert judged(DRIFT, past(200, ended=190, answered=True)) == Asked("known", "retrain-1")
    assert judged(Trigger("drift", ("drift-dti",)), past(200, ended=190, answered=True)).action == "request"


def test_alerts_of_a_failed_retrain_ask_again() -> None:
    assert judged(DRIFT, past(200, ended=190)).action == "request"


@pytest.mark.parametrize(("ended", "action"), [(29.999, "refuse"), (30, "request")])
def test_the_cool_down_counts_from_the_end_of_the_last_request(ended: float, action: str) -> None:
    found = judged(DRIFT, past(60, ended=ended))
    assert found.action == action
    assert found.until == (NOW - ended * DAY + 30 * DAY if action == "refuse" else None)


def test_a_person_is_not_held_back_by_the_cool_down() -> None:
    assert judged(Trigger("by_hand"), past(60, ended=1)).action == "request"


def test_the_budget_holds_everybody_back_until_the_oldest_counted_request_is_a_period_old() -> None:
    first, second = past(300, ended=290, name="retrain-1"), past(100, ended=90, name="retrain-2")
    for trigger in (Trigger("freshness"), Trigger("by_hand")):
        found = judged(trigger, first, second)
        assert (found.action, found.until) == ("refuse", datetime(2010, 10, 5, tzinfo=UTC))
        assert "2 requests in 12mo" in found.why
    assert judged(Trigger("by_hand"), first, second, rules=Retraining(budget=3)).action == "request"


def test_a_request_of_exactly_a_period_ago_no_longer_counts() -> None:
    rules = Retraining(budget=1, budget_period="100d")
    assert judged(DRIFT, past(100, ended=99), rules=rules).action == "request"
    assert judged(DRIFT, past(100 - 1e-5, ended=99), rules=rules).action == "refuse"


@given(
    ages=st.lists(st.floats(0, 800), max_size=6),
    ended=st.lists(st.booleans(), min_size=6, max_size=6),
    kind=st.sampled_from(["drift", "performance", "freshness", "by_hand"]),
    declared=st.sampled_from(["automatic", "queued", "never"]),
)
def test_no_trigger_opens_a_second_request_or_breaks_the_budget(
    ages: list[float], ended: list[bool], kind: Any, declared: str
) -> None:
    earlier = [
        past(age, ended=age / 2 if over else None, name=f"retrain-{number}")
        for number, (age, over) in enumerate(zip(sorted(ages, reverse=True), ended, strict=False))
    ]
    found = judge_trigger(Trigger(kind), declared, RULES, earlier, NOW)
    if found.action == "request":
        assert not any(one.open for one in earlier)
        recent = [one for one in earlier if one.requested_at > NOW.replace(year=2009)]
        assert len(recent) < RULES.budget
        assert found.mode == ("automatic" if declared == "automatic" else "queued")
    if found.action in {"merge", "known"}:
        assert found.request in {one.request for one in earlier}


def test_freshness_counts_from_what_the_version_knew() -> None:
    assert freshness_due(datetime(2010, 1, 31, tzinfo=UTC), "13mo") == datetime(2011, 2, 28, tzinfo=UTC)
    assert freshness_due(NOW, None) is None


def test_a_monitor_without_a_choice_about_retraining_keeps_its_canonical_form() -> None:
    expected = b'{"critical":["dti"],"freshness":"540d","psi_limit":0.2,"retrain":"queued"}'
    assert canonical_json(Monitor(critical=["dti"], freshness="540d").spec()) == expected
    assert canonical_json(Monitor(critical=["dti"], freshness="540d", retraining=Retraining()).spec()) == expected


def test_another_choice_is_in_the_canonical_form() -> None:
    assert Monitor(retraining=Retraining(min_rows=100)).spec()["retraining"] == {
        "min_rows": 100,
        "min_positives": 20,
        "cool_down": "30d",
        "budget": 4,
        "budget_period": "12mo",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("min_rows", 0), ("min_rows", True), ("min_positives", -1), ("budget", 0), ("budget", 1.5), ("cool_down", "soon"),
     ("budget_period", "0d")],
)  # fmt: skip
def test_a_number_that_means_nothing_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        Retraining(**{field: value})
    assert caught.value.field == field
