"""A root with a routed version and topics of its own, events about loans, and everything that workers wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

from confluent_kafka import Producer

from ml_platform.core.settings import Settings, load_settings
from ml_platform.registry.route import SignedRoute
from ml_platform.registry.routefolder import RouteFolder
from ml_platform.serving.online_record import LoggedDecision, LoggedRefusal, decode
from ml_platform.serving.stream.events import SCHEMA_HEADER, event_schema, schema_digest
from ml_platform.serving.stream.fastavro import EventCodec
from ml_platform.serving.stream.kafka import Connection, KafkaLog, TopicAdmin, publish
from ml_platform.serving.stream.kafka_transactions import LETTER_HEADER
from ml_platform.serving.stream.opening import Stream, connection_of, open_stream
from ml_platform.serving.stream.topics import Place, Topics
from tests.registry.world import ROOT_ID
from tests.services.kafka import Broker, caught_up
from tests.serving.router_support import FIRST, NOW_US, OnlineRoot, Store, contract_of, make_online_root

FRESH_SECONDS = 60.0


@dataclass(frozen=True)
class StreamRoot:
    """One root with its model's topics."""

    base: OnlineRoot
    model: str
    routes: RouteFolder
    first: SignedRoute

    @property
    def root(self) -> Path:
        return self.base.root

    @property
    def settings(self) -> Settings:
        return load_settings(self.root / "settings.toml")

    @property
    def connection(self) -> Connection:
        return connection_of(self.settings)

    @property
    def topics(self) -> Topics:
        return Topics.of(self.model)

    @property
    def place(self) -> Place:
        return TopicAdmin(self.connection).place(self.topics)[0]

    def route(self, before: SignedRoute | None = None, **changes: Any) -> SignedRoute:
        """The next route of the model, signed, in no file yet."""
        return self.base.route(before, **{"model": self.model, **changes})

    def announce(self, raw: bytes) -> None:
        publish(self.connection, self.topics.control, [(b"route", raw)])

    def open(self, instance: str = "a", **named: Any) -> Stream:
        said = named.pop("said", [])
        return open_stream(
            self.settings, self.model, instance, said=said.append, stop=Flag(), **{"features": Store(), **named}
        )

    def written(self) -> Written:
        return Written.of(self)


def make_stream_root(
    folder: Path,
    parts: tuple[dict[str, bytes], dict[str, bytes]],
    broker: Broker,
    model: str,
    *,
    kind: str = "wall",
    partitions: int = 2,
    routed: bool = True,
    patience_ms: int | None = None,
) -> StreamRoot:
    """``patience_ms``: after which a worker that takes nothing is out of the group."""
    base = make_online_root(folder, *parts, kind=kind)
    with (folder / "settings.toml").open("a") as stream:
        stream.write(f'[kafka]\nservers = "{broker.address}"\n[kafka.options]\n"session.timeout.ms" = 1500\n')
        if patience_ms is not None:
            stream.write(f'"max.poll.interval.ms" = {patience_ms}\n')
    TopicAdmin(Connection(broker.address)).create(Topics.of(model), partitions=partitions, replication=1)
    routes = RouteFolder.of(folder, model)
    first = base.route(model=model)
    if routed:
        routes.write(first)
    assert routes.pin.root_id == ROOT_ID
    return StreamRoot(base, model, routes, first)


def values(loan: int, **changes: Any) -> dict[str, Any]:
    """One clean event of the first version's schema."""
    made = {
        "loan_id": loan,
        "applied_at": NOW_US - 1_000_000,
        "amount": float(loan % 7),
        "income": 40.0 + loan % 11,
        "term": 36,
        "grade": "AB"[loan % 2],
    }
    return {**made, **changes}


def schema_of(root: StreamRoot, contract: Any = FIRST) -> tuple[EventCodec, bytes]:
    schema = event_schema(root.model, contract)
    return EventCodec(schema), schema_digest(schema).encode()


def produce(root: StreamRoot, events: Iterable[dict[str, Any] | bytes], *, contract: Any = FIRST) -> int:
    """Writes events, or bytes as they are, spread over the partitions by loan; how many."""
    codec, digest = schema_of(root, contract)
    producer = Producer(root.connection.properties(linger_ms=5))
    number = 0
    for number, event in enumerate(events, 1):
        raw = event if isinstance(event, bytes) else codec.encode(event)
        key = b"%d" % (number if isinstance(event, bytes) else event["loan_id"])
        while True:
            try:
                producer.produce(root.topics.events, raw, key, headers=[(SCHEMA_HEADER, digest)])
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(30) == 0
    return number


@dataclass(frozen=True)
class Written:
    """Every committed message of the topics that workers write, partition by partition, in order."""

    answers: list[dict[str, Any]]
    letters: list[tuple[bytes | None, dict[str, Any]]]
    decisions: list[LoggedDecision]
    refusals: list[LoggedRefusal]
    sources: list[tuple[int, int]]

    @classmethod
    def of(cls, root: StreamRoot) -> Written:
        answers = [json.loads(one.value) for _, one in committed(root, root.topics.decisions)]
        letters = dead_letters(root)
        records = [(partition, one) for partition, one in committed(root, root.topics.predictions)]
        logged = [decode(one.value, contract_of) for _, one in records]
        return cls(
            answers,
            letters,
            [one for one in logged if isinstance(one, LoggedDecision)],
            [one for one in logged if isinstance(one, LoggedRefusal)],
            [(partition, int(one.key.split(b":")[0]) - 1) for partition, one in records],
        )

    def check(self, root: StreamRoot, events: int) -> None:
        """Inputs = outputs + dead letters, each exactly once; records beside them; numbers without gap."""
        assert len(self.answers) + len(self.letters) == events
        answered = [(one["source"]["partition"], one["source"]["offset"]) for one in self.answers]
        refused = [(why["source"]["partition"], why["source"]["offset"]) for _, why in self.letters]
        assert sorted(answered + refused) == sorted(self.sources)
        assert len(set(self.sources)) == events
        assert sorted(self.sources) == sorted((p, one.offset) for p, one in committed(root, root.topics.events))
        ids = {one["prediction_id"] for one in self.answers}
        assert len(ids) == len(self.answers)
        from ml_platform.core.ids import id_text

        assert {id_text(one.header.prediction_id) for one in self.decisions} == ids
        assert len(self.refusals) == len(self.letters)
        by_writer: dict[str, list[int]] = {}
        for one in self.decisions:
            by_writer.setdefault(one.header.writer, []).append(one.header.seq)
        assert all(seqs == list(range(len(seqs))) for seqs in by_writer.values())


def committed(root: StreamRoot, topic: str) -> list[tuple[int, Any]]:
    """(partition, message) of everything committed."""
    log = KafkaLog(root.connection)
    try:
        found = []
        for partition in range(log.partitions(topic)):
            low, _ = log.bounds(topic, partition)
            for messages, _ in log.rest(topic, partition, low):
                found += [(partition, one) for one in messages]
        return found
    finally:
        log.close()


def dead_letters(root: StreamRoot) -> list[tuple[bytes | None, dict[str, Any]]]:
    """Bytes and reasons of each dead letter."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    client = Consumer(
        root.connection.properties(group_id="t", isolation_level="read_committed", enable_partition_eof=True)
    )
    found = []
    partitions = client.list_topics(root.topics.dead_letters, timeout=10).topics[root.topics.dead_letters].partitions
    for partition in partitions:
        client.assign([TopicPartition(root.topics.dead_letters, partition, 0)])
        while True:
            one = client.poll(10)
            assert one is not None
            if one.error() is not None:
                assert one.error().code() == KafkaError._PARTITION_EOF, one.error()
                break
            found.append((one.value(), json.loads(dict(one.headers())[LETTER_HEADER])))
    client.close()
    return found


def work(stream: Stream, events: int, *, seconds: float = FRESH_SECONDS) -> None:
    """Steps a worker until so many events were committed by it."""
    until = time.monotonic() + seconds
    while stream.worker.metrics.events < events:
        stream.worker.step()
        assert time.monotonic() < until, stream.worker.metrics


def running(stream: Stream) -> Thread:
    thread = Thread(target=stream.run, daemon=True)
    thread.start()
    return thread


def wait_for(condition: Any, *, seconds: float = FRESH_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)


def done(root: StreamRoot) -> bool:
    """Whether the group has committed every event."""
    return caught_up(root.connection.servers, root.topics.events, root.topics.group)


def loans(written: Sequence[LoggedDecision]) -> list[int]:
    return [int(str(one.section.keys[0][1])) for one in written]
