from __future__ import annotations

from types import SimpleNamespace

from ml_platform.governance.people import Instant, stage_at
from ml_platform.registry.state import Move


def move(to: str, effective_at: str, recorded_at: str) -> Move:
    return Move(0, effective_at, recorded_at, "promote", "x", to, "someone", None)


VERSION = SimpleNamespace(
    history=(
        move("staging", "2010-01-01T00:00:00.000000Z", "2020-01-01T00:00:00.000000Z"),
        move("production", "2010-02-01T00:00:00.000000Z", "2020-01-03T00:00:00.000000Z"),
        move("archived", "2010-03-01T00:00:00.000000Z", "2020-01-05T00:00:00.000000Z"),
    )
)


def test_the_stage_is_that_of_the_last_move_that_had_taken_effect():
    assert stage_at(VERSION, "2009-12-31T00:00:00.000000Z") == "trained"
    assert stage_at(VERSION, "2010-02-01T00:00:00.000000Z") == "production"
    assert stage_at(VERSION, "2010-01-31T23:59:59.999999Z") == "staging"
    assert stage_at(VERSION, "2011-01-01T00:00:00.000000Z") == "archived"


def test_what_was_not_recorded_yet_was_not_known():
    decided = "2010-02-15T00:00:00.000000Z"
    assert stage_at(VERSION, decided, "2020-01-02T00:00:00.000000Z") == "staging"
    assert stage_at(VERSION, decided, "2020-01-03T00:00:00.000000Z") == "production"


def test_an_event_was_known_at_a_decision_if_it_was_in_effect_and_recorded():
    when = Instant("2010-02-01T00:00:00.000000Z", "2020-01-03T00:00:00.000000Z")
    assert when.knew(when.decided_at, when.recorded_at)
    assert not when.knew("2010-02-01T00:00:00.000001Z", when.recorded_at)
    assert not when.knew(when.decided_at, "2020-01-03T00:00:00.000001Z")
