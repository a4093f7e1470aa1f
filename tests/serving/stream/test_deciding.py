"""A batch of events decided by the router's own parts, without a broker: the same records, and nothing skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_platform.core.errors import DataError, PlatformError, StorageFailed
from ml_platform.core.ids import id_text, id_time
from ml_platform.core.rows import micros
from ml_platform.serving.online_record import LoggedDecision, LoggedRefusal, decode
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.stream.deciding import Batch, StreamDecider
from ml_platform.serving.stream.events import SCHEMA_HEADER, Event, event_schema, schema_digest
from ml_platform.serving.stream.fastavro import EventCodec
from ml_platform.serving.stream.opening import open_decider
from ml_platform.serving.stream.topics import Place, writer_of
from tests.serving.router_support import (
    FIRST,
    MODEL,
    NOW_US,
    SECOND,
    OnlineRoot,
    Store,
    contract_of,
    decisions,
    first_parts,
    make_online_root,
    plain,
    second_parts,
)
from tests.serving.stream.support import values

PLACE = Place("cluster", "ab" * 16)
AT_US = 1_795_545_211_254_000


@pytest.fixture(scope="module")
def both_parts() -> tuple[dict[str, bytes], dict[str, bytes]]:
    return first_parts(), second_parts()


@pytest.fixture(params=["wall", "replay"])
def world(request: Any, tmp_path: Path, both_parts: Any) -> OnlineRoot:
    made = make_online_root(tmp_path / "root", *both_parts, kind=request.param)
    made.routes.write(made.route())
    return made


def decider(world: OnlineRoot) -> StreamDecider:
    return open_decider(world.settings, MODEL, PLACE, features=Store())


def event(row: dict[str, Any] | bytes, offset: int = 0, *, partition: int = 0, contract: Any = FIRST) -> Event:
    schema = event_schema(MODEL, contract)
    raw = row if isinstance(row, bytes) else EventCodec(schema).encode(row)
    return Event(partition, offset, AT_US + offset, None, raw, ((SCHEMA_HEADER, schema_digest(schema).encode()),))


def logged(batch: Batch) -> list[LoggedDecision | LoggedRefusal]:
    return [decode(raw, contract_of) for records in batch.records.values() for _, raw in records]


def test_an_event_is_decided_as_the_same_request_is(world: OnlineRoot) -> None:
    second = world.route(world.routes.route(), arms=world.arms(1, 2))
    world.routes.write(second)
    loans = range(1, 60)
    batch = decider(world).decide([event(values(loan, debt=1.0), loan, contract=SECOND) for loan in loans], {0: 5})
    router = world.router()
    router.handle([{**plain(loan), "debt": np.array([[1.0]])} for loan in loans])
    router.close()
    online = {one.section.keys: one for one in decisions(world.root)}
    stream = [one for one in logged(batch) if isinstance(one, LoggedDecision)]
    assert len(stream) == len(online) == len(loans)
    assert {one.header.role for one in stream} == {"primary", "canary"}
    assert all(one.section.to_bytes() == online[one.section.keys].section.to_bytes() for one in stream)
    named = ("version", "role", "contract_digest", "artifact_digest", "route_digest", "epoch", "clock", "root_id")
    for one in stream:
        other = online[one.section.keys].header
        assert [getattr(one.header, name) for name in named] == [getattr(other, name) for name in named]
        assert (one.header.mode, one.header.writer) == ("stream", writer_of(PLACE, 0))
    assert [one.header.seq for one in stream] == list(range(5, 5 + len(loans)))
    assert batch.following == {0: 5 + len(loans)}


def test_an_answer_says_what_its_record_says(world: OnlineRoot) -> None:
    batch = decider(world).decide(
        [event(values(loan), loan, partition=loan % 3) for loan in range(30)], dict.fromkeys(range(3), 0)
    )
    by_id = {id_text(one.header.prediction_id): one for one in logged(batch)}
    answers = [json.loads(one.value) for one in batch.outputs]
    assert {one["prediction_id"] for one in answers} == set(by_id)
    for answer in answers:
        header, section = by_id[answer["prediction_id"]].header, by_id[answer["prediction_id"]].section
        assert (answer["version"], answer["arm"], answer["epoch"]) == (header.version, header.role, header.epoch)
        assert (answer["decision"], answer["reason_codes"]) == (section.decision, list(section.reasons))
        assert np.float32(answer["outputs"]["score"]) == np.float32(section.outputs[0])
        assert answer["decided_at_us"] == header.decided_at_us
        assert answer["source"]["offset"] == section.keys[0][1]
    declined = [one for one in answers if one["decision"] == "declined"]
    assert declined
    assert all(one["reason_codes"] for one in declined)


def test_a_retry_gives_the_same_ids_and_the_time_of_the_broker(world: OnlineRoot) -> None:
    events = [event(values(loan), loan) for loan in range(20)]
    one, two = (logged(decider(world).decide(events, {0: 0})) for _ in range(2))
    assert [found.header.prediction_id for found in one] == [found.header.prediction_id for found in two]
    assert [found.salt for found in one] != [found.salt for found in two]
    for number, found in enumerate(one):
        assert found.header.decided_at_us == (AT_US + number if world.settings.kind == "wall" else NOW_US)
        assert micros(id_time(found.header.prediction_id)) == found.header.decided_at_us // 1000 * 1000


def test_a_clock_that_runs_ahead_is_refused_and_one_that_says_nothing_is_the_brokers(world: OnlineRoot) -> None:
    now = AT_US if world.settings.kind == "wall" else NOW_US
    rows = [values(1, applied_at=now), values(2, applied_at=now + 5_000_000), values(3, applied_at=None)]
    events = [event(row) for row in rows]
    first, second, third = logged(decider(world).decide(events, {0: 0}))
    assert isinstance(first, LoggedDecision)
    assert first.section.request_time_us == now
    assert isinstance(second, LoggedRefusal)
    assert [(why.field, why.rule) for why in second.refusals] == [("applied_at", "future")]
    assert isinstance(third, LoggedDecision)
    assert third.section.request_time_us == third.header.decided_at_us == now


POISON = [
    (b"", "value", "avro"),
    (b"\xff" * 40, "value", "avro"),
    (b"{}", "value", "avro"),
]


def test_poison_is_a_dead_letter_with_its_bytes_and_stops_nobody(world: OnlineRoot) -> None:
    unknown = Event(0, 90, AT_US, b"k", b"x", ((SCHEMA_HEADER, b"sha256:" + b"0" * 64),))
    nameless = Event(0, 91, AT_US, None, None, ())
    refused = event(values(50, grade="Z", amount=float("nan")), 92)
    events = [
        event(values(1), 1),
        *(event(raw, 10 + at) for at, (raw, *_) in enumerate(POISON)),
        unknown,
        nameless,
        refused,
    ]
    batch = decider(world).decide(events, {0: 0})
    assert len(batch.outputs) == 1
    found = [(one.event.value, [(why.field, why.rule) for why in one.refusals]) for one in batch.letters]
    wanted = [(raw, [(name, rule)]) for raw, name, rule in POISON]
    wanted += [(b"x", [("ml-schema", "schema")]), (None, [("ml-schema", "schema")])]
    wanted += [(refused.value, [("amount", "finite"), ("grade", "unknown")])]
    assert found == wanted
    records = logged(batch)
    assert [isinstance(one, LoggedRefusal) for one in records] == [False, *[True] * 6]
    keys = [key for key, _ in batch.records[0]]
    assert keys == [b"%d:1" % (one.offset + 1) for one in events]


def test_a_row_that_a_version_cannot_judge_does_not_stop_the_others(
    world: OnlineRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Scorer.decide

    def fails_for_three(self: Scorer, matrix: Any) -> Any:
        if (matrix[:, 0] == 3.0).any():
            raise DataError("A score is not a finite number.", field="score", next_step="Take it out.")
        return real(self, matrix)

    monkeypatch.setattr(Scorer, "decide", fails_for_three)
    batch = decider(world).decide([event(values(loan), loan) for loan in range(14)], {0: 0})
    assert [(one.event.offset, one.refusals[0].field, one.refusals[0].rule) for one in batch.letters] == [
        (3, "score", "version"),
        (10, "score", "version"),
    ]
    assert [one.header.seq for one in logged(batch) if isinstance(one, LoggedDecision)] == list(range(12))


def test_features_that_are_away_decide_nothing(world: OnlineRoot) -> None:
    class Away:
        def lookup(self, contract: Any, column: Any, times_us: Any) -> Any:
            raise StorageFailed("The store is away.", field="online", next_step="Start it.")

    with pytest.raises(PlatformError, match="away"):
        open_decider(world.settings, MODEL, PLACE, features=Away()).decide([event(values(1))], {0: 0})
