"""A canary on its way, judged by what was really recorded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ml_platform import Platform, lifecycle
from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import ApprovalMissing, IllegalTransition, NotFound, Refused
from ml_platform.lifecycle import rollout
from ml_platform.lifecycle.rollout import advance_rollout, rollout_status
from tests.lifecycle import tiny
from tests.lifecycle.two_versions import NAME, PLAN, Log, known, make_root, parcels, to


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("canary")
    platform = make_root(folder)
    to(platform, 2, "canary")
    platform.registry.close()
    return folder


@pytest.fixture
def platform(made: Path, tmp_path: Path) -> Iterator[Platform]:
    shutil.copytree(made / "root", tmp_path / "root")
    opened = Platform.local(tmp_path / "root")
    yield opened
    opened.registry.close()


@pytest.fixture
def log(platform: Platform) -> Iterator[Log]:
    opened = Log(platform)
    yield opened
    opened.close()


HOUR = timedelta(hours=1)


def serve(platform: Platform, log: Log, canary: int, *, first: int = 100_000, refused: int = 0, ms: float = 1.0,
          share: float = 0.25) -> None:  # fmt: skip
    """Both arms decide an hour after the step began, in the shares of the route, and the records are sealed."""
    now = platform.clock.now()
    log.decide(2, parcels(first, canary - refused, now), role="canary", ms=ms)
    if refused:
        log.refuse(2, first + canary, refused)
    log.decide(1, parcels(first + 50_000, round(canary * (1 - share) / share), now))
    log.wal.rotate_if_due()
    lifecycle.seal_once(platform)


def shares(platform: Platform) -> dict[int, int]:
    route = known(platform).route
    assert route is not None
    return {arm.version: arm.share_bp for arm in route.arms}


def test_promotion_to_canary_begins_the_first_step(platform: Platform) -> None:
    assert shares(platform) == {1: 7500, 2: 2500}
    status = rollout_status(platform, NAME)
    assert (status["version"], status["primary"], status["share_bp"]) == (2, 1, 2500)
    assert status["plan"] == PLAN.spec()
    assert status["judgement"]["decision"] == "hold"
    assert status["arms"]["canary"]["units"] == 0


def test_a_harmless_canary_goes_through_its_steps_and_waits_for_approval(platform: Platform, log: Log) -> None:
    platform.replay.move(tiny.AS_OF + HOUR)
    serve(platform, log, 700)
    status = rollout_status(platform, NAME)
    assert status["arms"]["canary"] == {
        "version": 2, "units": 700, "answered": 700, "refused": 0, "decided": 700,
        "declined": status["arms"]["canary"]["declined"],
    }  # fmt: skip
    made = advance_rollout(platform, NAME, actor="rollout_watch")
    assert (made.decision, made.share_bp, made.ready, made.epoch) == ("advance", 5000, False, 3)
    assert shares(platform) == {1: 5000, 2: 5000}
    platform.replay.move(tiny.AS_OF + 2 * HOUR)
    serve(platform, log, 700, first=300_000, share=0.5)
    last = advance_rollout(platform, NAME)
    assert (last.decision, last.ready) == ("advance", True)
    assert shares(platform) == {1: 5000, 2: 5000}
    assert advance_rollout(platform, NAME).log_index is None
    assert known(platform).production == 1
    to(platform, 2, "production")
    assert known(platform).production == 2
    assert platform.registry.verify().ok


def test_the_evidence_of_a_decision_is_kept_and_the_log_points_to_it(platform: Platform, log: Log) -> None:
    platform.replay.move(tiny.AS_OF + HOUR)
    serve(platform, log, 700)
    made = advance_rollout(platform, NAME)
    entry = platform.registry.entry(int(made.log_index or 0))
    document = parse_canonical(platform.objects.get(entry.body["evidence"]))
    assert document["format"] == "ml-platform/rollout-evidence/1"
    assert document["arms"]["primary"]["answered"] == 2100
    assert [one["says"] for one in document["judgement"]["guardrails"]] == ["excluded"] * 5


def test_a_canary_that_refuses_is_rolled_back_at_once_and_archived(platform: Platform, log: Log) -> None:
    serve(platform, log, 100, refused=60)
    made = advance_rollout(platform, NAME)
    assert (made.decision, made.share_bp) == ("rollback", 0)
    assert made.reasons[0].startswith("errors")
    assert shares(platform) == {1: 10_000}
    assert platform.registry.state().version(NAME, 2).stage == "archived"
    with pytest.raises(IllegalTransition, match="canary"):
        advance_rollout(platform, NAME)
    assert platform.registry.verify().ok


def test_a_slow_canary_is_rolled_back(platform: Platform, log: Log) -> None:
    serve(platform, log, 100, ms=40.0)
    made = advance_rollout(platform, NAME)
    assert (made.decision, made.reasons[0].split(":")[0]) == ("rollback", "latency_p50")


def test_units_that_do_not_fit_the_share_ask_a_person(platform: Platform, log: Log) -> None:
    serve(platform, log, 300, share=0.5)
    made = advance_rollout(platform, NAME)
    assert (made.decision, made.share_bp) == ("ask", 2500)
    assert made.reasons[0].startswith("sample ratio")


def test_without_new_evidence_no_second_decision_is_entered(platform: Platform, log: Log) -> None:
    serve(platform, log, 200)
    first = advance_rollout(platform, NAME)
    assert (first.decision, first.log_index is not None) == ("hold", True)
    size = platform.registry.state().size
    for _ in range(3):
        again = advance_rollout(platform, NAME)
        assert (again.decision, again.log_index) == ("hold", None)
    assert platform.registry.state().size == size
    serve(platform, log, 19, first=300_000)
    assert advance_rollout(platform, NAME).log_index is None  # not a tenth more
    serve(platform, log, 1, first=400_000)
    assert advance_rollout(platform, NAME).log_index is not None
    assert rollout_status(platform, NAME)["judgement"]["look"] == 3


def test_when_the_hold_is_over_a_person_is_asked_without_new_evidence(platform: Platform, log: Log) -> None:
    serve(platform, log, 200)
    assert advance_rollout(platform, NAME).decision == "hold"
    platform.replay.move(tiny.AS_OF + timedelta(days=14) - timedelta(seconds=1))
    assert advance_rollout(platform, NAME).decision == "hold"
    platform.replay.move(tiny.AS_OF + timedelta(days=14))
    assert advance_rollout(platform, NAME).decision == "ask"


def test_a_person_may_advance_where_the_evidence_asks_and_gives_a_reason(platform: Platform, log: Log) -> None:
    serve(platform, log, 200)
    with pytest.raises(ApprovalMissing, match="despite"):
        advance_rollout(platform, NAME, actor="ada", despite=" ")
    made = advance_rollout(platform, NAME, actor="ada", despite="A quiet month: nobody complained")
    assert (made.decision, made.share_bp, made.reasons[0]) == ("advance", 5000, "a person advanced it")
    (entry,) = [one for one in platform.registry.entries() if one.kind == "rollout_decided"]
    assert entry.body["actor"] == "ada"
    assert "complained" not in str(entry.body)
    assert (
        parse_canonical(platform.objects.get(entry.body["evidence"]))["despite"] == "A quiet month: nobody complained"
    )


def test_nobody_advances_against_shown_harm(platform: Platform, log: Log) -> None:
    serve(platform, log, 100, refused=60)
    with pytest.raises(Refused, match="harm"):
        advance_rollout(platform, NAME, actor="ada", despite="I insist")
    assert shares(platform) == {1: 7500, 2: 2500}


def test_what_was_decided_about_another_route_is_no_evidence(platform: Platform, log: Log) -> None:
    serve(platform, log, 300)
    lifecycle.set_share(platform, NAME, 3000, principal="ada")
    status = rollout_status(platform, NAME)
    assert (status["share_bp"], status["arms"]["canary"]["units"]) == (3000, 0)


def test_who_asks_ten_times_is_one_unit(platform: Platform, log: Log) -> None:
    now = platform.clock.now()
    for _ in range(10):
        log.decide(2, parcels(100_000, 5, now), role="canary")
    lifecycle.seal_once(platform)
    arm = rollout_status(platform, NAME)["arms"]["canary"]
    assert (arm["units"], arm["decided"], arm["answered"]) == (5, 5, 50)


@pytest.mark.parametrize("step", ["put", "decide_rollout", "set_share"])
def test_after_a_kill_at_each_step_the_share_follows_the_decision_once(
    platform: Platform, log: Log, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from ml_platform.core.objects import ObjectStore
    from ml_platform.registry.registry import Registry

    class Killed(BaseException):
        pass

    owner = {"put": ObjectStore, "decide_rollout": Registry, "set_share": rollout}[step]
    real = getattr(owner, step)

    def once(*given: object, **named: object) -> None:
        real(*given, **named)
        raise Killed

    platform.replay.move(tiny.AS_OF + HOUR)
    serve(platform, log, 700)
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, once)
        with pytest.raises(Killed):
            advance_rollout(platform, NAME)
    made = advance_rollout(platform, NAME)
    assert (made.decision, made.share_bp) in {("advance", 5000), ("hold", 5000)}
    assert shares(platform) == {1: 5000, 2: 5000}
    assert sum(entry.kind == "rollout_decided" and entry.body["decision"] == "advance"
               for entry in platform.registry.entries()) == 1  # fmt: skip


def test_after_a_kill_behind_the_decision_to_roll_back_the_next_call_does_it(
    platform: Platform, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def dead(*_: object, **__: object) -> None:
        raise Killed

    serve(platform, log, 100, refused=60)
    with monkeypatch.context() as patched:
        patched.setattr(rollout, "archive", dead)
        with pytest.raises(Killed):
            advance_rollout(platform, NAME)
    assert shares(platform) == {1: 7500, 2: 2500}
    assert advance_rollout(platform, NAME).decision == "rollback"
    assert shares(platform) == {1: 10_000}
    assert sum(entry.kind == "rollout_decided" for entry in platform.registry.entries()) == 1


def test_a_model_without_a_canary_or_an_unknown_one_is_refused(platform: Platform) -> None:
    with pytest.raises(NotFound):
        rollout_status(platform, "stranger")
    lifecycle.archive(platform, NAME, 2, principal="ada", reason="Not wanted")
    for ask in (rollout_status, advance_rollout):
        with pytest.raises(IllegalTransition, match="canary"):
            ask(platform, NAME)
