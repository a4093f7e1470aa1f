from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.orchestration.reconcile import (
    EMPTY,
    Report,
    Target,
    bounded,
    candidate_keys,
    reconcile_events,
    targets,
)
from ml_platform.registry.events import Entry
from ml_platform.registry.fold import fold
from ml_platform.registry.table import SINGLE, TRANSITIONS

DIGEST = "sha256:" + "0" * 64
NOON = "2010-01-01T12:00:00.000000Z"
MODELS = ("credit_risk", "churn")


def entry(index: int, kind: str, model: str | None, body: Mapping[str, Any]) -> Entry:
    return Entry(index, kind, NOON, NOON, True, model, body)


def requested(index: int, model: str, candidate: str) -> Entry:
    return entry(
        index,
        "candidate_requested",
        model,
        {"candidate": candidate, "as_of": NOON, "spec": DIGEST, "inputs": DIGEST, "requested_by": "service"},
    )


def registered(index: int, model: str, version: int, candidate: str) -> Entry:
    digests = dict.fromkeys(("spec", "artifact", "contract", "run_record", "evaluation", "training_set"), DIGEST)
    authorship = {"status": "known", "basis": "claimed", "emails": [], "principals": []}
    body = {"version": version, "candidate": candidate, "risk_class": "high", "baseline": None, **digests}
    return entry(index, "registered", model, {**body, "authorship": authorship, "registered_by": "service"})


def transition(
    index: int,
    model: str,
    version: int,
    source: str,
    to: str,
    *,
    action: str = "promote",
    displaced: int | None = None,
    approvals: tuple[str, ...] = (),
) -> Entry:
    body = {"version": version, "action": action, "from": source, "to": to, "displaced": displaced, "baseline": None}
    rest = {"required": len(approvals), "approvals": list(approvals), "actor": "ops", "reason": DIGEST, "intended": 0}
    return entry(index, "transition", model, {**body, **rest})


def test_a_promotion_fills_the_next_stage_and_empties_the_one_before() -> None:
    moved = transition(7, "churn", 2, "canary", "production", displaced=1, approvals=("p1", "p2"))
    canary, production = reconcile_events([moved], {}, models=MODELS, approvers={"p1": "ada", "p2": "bob"})
    assert (canary.target, canary.data_version) == (Target("churn", "canary"), EMPTY)
    assert (production.target, production.data_version) == (Target("churn", "production"), "v2")
    assert production.index == 7
    facts = production.metadata
    assert (facts["ml/log_index"], facts["ml/version"], facts["ml/displaced_version"]) == (7, 2, 1)
    assert (facts["ml/approvers"], facts["ml/actor"], facts["ml/action"]) == (["ada", "bob"], "ops", "promote")
    assert "ml/version" not in canary.metadata


def test_a_rollback_fills_production_and_touches_nothing_else() -> None:
    moved = transition(9, "churn", 1, "archived", "production", action="rollback", displaced=2)
    (report,) = reconcile_events([moved], {}, models=MODELS)
    assert (report.target, report.data_version) == (Target("churn", "production"), "v1")


def test_archiving_empties_the_stage() -> None:
    (report,) = reconcile_events(
        [transition(3, "churn", 1, "staging", "archived", action="archive")], {}, models=MODELS
    )
    assert (report.target, report.data_version) == (Target("churn", "staging"), EMPTY)


def test_a_version_registered_outside_dagster_is_shown_on_its_candidate() -> None:
    (report,) = reconcile_events([registered(5, "churn", 3, "20100101T000000Z_0123456789ab")], {}, models=MODELS)
    assert report.target == Target("churn", "registered_version", "20100101T000000Z_0123456789ab")
    assert report.data_version == "v3"


def test_what_an_asset_shows_is_not_reported_again() -> None:
    log = [
        registered(4, "churn", 1, "20100101T000000Z_0123456789ab"),
        transition(5, "churn", 1, "trained", "staging"),
        transition(6, "churn", 1, "staging", "canary"),
    ]
    shown = {Target("churn", "staging"): 5}
    found = [(report.index, report.target.noun) for report in reconcile_events(log, shown, models=MODELS)]
    assert found == [(4, "registered_version"), (6, "staging"), (6, "canary")]
    assert reconcile_events(log, dict.fromkeys(targets(log, MODELS), 6), models=MODELS) == []


def test_models_of_another_code_location_are_left_to_its_sensor() -> None:
    log = [requested(1, "churn", "a"), transition(2, "churn", 1, "trained", "staging")]
    assert reconcile_events(log, {}, models=["credit_risk"]) == []
    assert candidate_keys(log, ["credit_risk"]) == {}
    assert targets(log, ["credit_risk"]) == set()


def test_every_candidate_that_the_log_names_gets_its_key_once() -> None:
    log = [requested(1, "churn", "a"), requested(2, "churn", "b"), registered(3, "churn", 1, "a")]
    assert candidate_keys([*log, entry(4, "genesis", None, {})], MODELS) == {"churn": ["a", "b"]}


class Board:
    """What Dagster would hold: the events of each target, in the order in which they were reported."""

    def __init__(self) -> None:
        self.events: dict[Target, list[Report]] = {}

    def report(self, event: Report) -> None:
        self.events.setdefault(event.target, []).append(event)

    def shown(self) -> dict[Target, int]:
        return {target: events[-1].index for target, events in self.events.items()}


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Legal moves of two models with three versions each, as the registry would write them."""
    log: list[Entry] = []
    stages = {(model, version): "trained" for model in MODELS for version in (1, 2, 3)}
    for model, version in stages:
        key = f"20100101T00000{version}Z_0123456789ab"
        log += [requested(len(log), model, key)]
        log += [registered(len(log), model, version, key)]
    for _ in range(draw(st.integers(0, 15))):
        (model, version), stage = draw(st.sampled_from(sorted(stages.items())))
        rules = [rule for rule in TRANSITIONS if rule.source == stage]
        if not rules:
            continue
        rule = draw(st.sampled_from(rules))
        held = [v for (m, v), s in stages.items() if m == model and s == rule.to]
        displaced = held[0] if rule.to in SINGLE and held else None
        log.append(transition(len(log), model, version, stage, rule.to, action=rule.action, displaced=displaced))
        stages[model, version] = rule.to
        if displaced is not None:
            stages[model, displaced] = "archived"
    return log


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(logs(), st.data())
def test_ticks_that_die_between_report_and_cursor_report_nothing_twice_and_lose_nothing(
    log: list[Entry], data: st.DataObject
) -> None:
    board, cursor, deaths = Board(), 0, 0
    while cursor < len(log):
        batch = log[cursor : cursor + data.draw(st.integers(1, 5), label="entries read")]
        reports = reconcile_events(batch, board.shown(), models=MODELS)
        survives = data.draw(st.integers(0, len(reports) + 1), label="steps before the process dies")
        for report in reports[:survives]:
            board.report(report)
        if survives > len(reports) or deaths == 20:
            for report in reports[survives:]:
                board.report(report)
            cursor = batch[-1].index + 1
        else:
            deaths += 1

    once = Board()
    for report in reconcile_events(log, {}, models=MODELS):
        once.report(report)
    assert board.events == once.events


@settings(max_examples=100, deadline=None)
@given(logs(), st.integers(1, 8))
def test_bounded_ticks_report_all_in_order_and_never_half_an_entry(log: list[Entry], most: int) -> None:
    everything = reconcile_events(log, {}, models=MODELS)
    found: list[Report] = []
    cursor = 0
    while cursor < len(log):
        reports, after = bounded(reconcile_events(log[cursor:], {}, models=MODELS), most, len(log))
        assert cursor < after
        assert len(reports) <= most + 1, "an entry reports two at most"
        assert {one.index for one in reports}.isdisjoint(one.index for one in everything if one.index >= after)
        found, cursor = [*found, *reports], after
    assert found == everything


@settings(max_examples=100, deadline=None)
@given(logs())
def test_aliases_end_where_the_registry_says(log: list[Entry]) -> None:
    state = fold((one, bytes(32)) for one in log)
    last = {report.target: report.data_version for report in reconcile_events(log, {}, models=MODELS)}
    for model in MODELS:
        for stage in ("staging", "canary", "production"):
            holder = state.model(model).holder(stage)
            expected = EMPTY if holder is None else f"v{holder}"
            assert last.get(Target(model, stage), EMPTY) == expected
