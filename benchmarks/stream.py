"""Streaming: a worker beside a bare transactional loop on the same broker; latency at half load; a route by topic.

    python benchmarks/stream.py [--events 40000] [--seconds 8] [--json]

Needs Java and the jars of `make jars`. Events are Avro of 24 numbers (about 230 bytes); the model has 200 trees with 31
leaves, no reasons. The bare loop consumes the same events, 2,000 a transaction, and writes each back as it is: one
message an event, where the worker writes a record and an answer. Both are taken in turn, in one process each.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from _serving_root import FEATURES, MODEL, contract, make_parts, make_root, rows, sign  # isort: skip

BATCH = 2_000


def produce(address: str, events: int, *, rate: float | None = None) -> None:
    """Writes events, as fast as it goes or at a rate a second."""
    from confluent_kafka import Producer

    from ml_platform.serving.stream.events import SCHEMA_HEADER, event_schema, schema_digest
    from ml_platform.serving.stream.fastavro import EventCodec

    schema = event_schema(MODEL, contract())
    codec, headers = EventCodec(schema), [(SCHEMA_HEADER, schema_digest(schema).encode())]
    made = [
        codec.encode({"row_id": number, "at": None, **dict(zip(FEATURES, row, strict=True))})
        for number, row in enumerate(rows(5_000).tolist())
    ]
    producer, started = Producer({"bootstrap.servers": address, "linger.ms": 2}), time.monotonic()
    for number in range(events):
        if rate is not None and number % 20 == 0:
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
        while True:
            try:
                producer.produce(f"{MODEL}.events", made[number % len(made)], headers=headers)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush(60)


def bare(address: str, events: int, group: str) -> float:
    """Seconds of a loop that consumes and writes back in transactions."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    shared = {"bootstrap.servers": address}
    consumer = Consumer(
        {**shared, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
         "isolation.level": "read_committed", "fetch.wait.max.ms": 20}
    )  # fmt: skip
    producer = Producer({**shared, "transactional.id": group, "linger.ms": 2, "batch.size": 1 << 20})
    producer.init_transactions()
    consumer.subscribe([f"{MODEL}.events"])
    done, started = 0, 0.0
    while done < events:
        found = consumer.consume(1, 1.0)
        found += consumer.consume(BATCH - 1, 0.005) if found else []
        if not found:
            continue
        started = started or time.perf_counter()
        producer.begin_transaction()
        producer.produce_batch("bench.bare", [{"value": one.value()} for one in found])
        ends = {one.partition(): one.offset() + 1 for one in found}
        places = [TopicPartition(f"{MODEL}.events", part, offset) for part, offset in ends.items()]
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata())
        producer.commit_transaction()
        done += len(found)
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def ours(settings: Any, events: int, instance: str) -> float:
    """Seconds of a worker, from its first event to the commit of the last."""
    from ml_platform.serving.stream.opening import open_stream

    stream = open_stream(settings, MODEL, instance, said=print, stop=threading.Event(), largest=BATCH)
    stream.worker.decider.follower.current()
    started = 0.0
    while stream.worker.metrics.events < events:
        before = time.perf_counter()
        if stream.worker.step() and not started:
            started = before
    seconds = time.perf_counter() - started
    assert (stream.worker.metrics.decided, stream.worker.metrics.refused) == (events, 0)
    stream.close()
    return seconds


def work(settings_file: Path) -> None:
    """A worker of this process, until TERM."""
    from ml_platform.core.settings import load_settings
    from ml_platform.serving.stream.opening import open_stream

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stream = open_stream(load_settings(settings_file), MODEL, "w", said=print, stop=stop, largest=BATCH)
    try:
        stream.run()
    finally:
        stream.close()


def latencies(address: str, rate: float, seconds: float) -> list[float]:
    """Milliseconds from the broker's time of each event to its answer in a consumer's hands, in order."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "reader", "isolation.level": "read_committed",
         "enable.auto.commit": False, "fetch.wait.max.ms": 5}
    )  # fmt: skip
    _, end = consumer.get_watermark_offsets(TopicPartition(f"{MODEL}.decisions", 0), timeout=10)
    consumer.assign([TopicPartition(f"{MODEL}.decisions", 0, end)])
    events = int(rate * seconds)
    writer = threading.Thread(target=produce, args=(address, events), kwargs={"rate": rate})
    writer.start()
    found: list[float] = []
    while len(found) < events:
        some = consumer.consume(500, 0.002)
        now = time.time() * 1000
        found += [now - json.loads(one.value())["decided_at_us"] / 1000 for one in some if one.error() is None]
    writer.join()
    consumer.close()
    return found[events // 4 :]  # what comes before is the start


def refreshed(root: Any, address: str, rate: float) -> dict[str, float]:
    """From a route on the control topic to the last record of the old version, under load."""
    from dataclasses import replace

    from ml_platform.registry.route import sign_route
    from ml_platform.registry.routefolder import RouteFolder
    from ml_platform.serving.online_record import decision_parts, decode_header
    from ml_platform.serving.stream.kafka import Connection, KafkaLog, publish

    first = RouteFolder.of(root.folder, MODEL).route()
    other = replace(sign(root, 2).route, epoch=2, previous=first.digest)
    writer = threading.Thread(target=produce, args=(address, int(rate * 4)), kwargs={"rate": rate})
    writer.start()
    time.sleep(2)
    at_us = time.time_ns() // 1000
    publish(Connection(address), f"{MODEL}.control", [(b"route", sign_route(other, root.key).raw)])
    writer.join()
    time.sleep(2)
    log = KafkaLog(Connection(address))
    raw = [one.value for some, _ in log.rest(f"{MODEL}.predictions", 0, 0) for one in some]
    log.close()
    headers = [decode_header(decision_parts(one)[0]) for one in raw if one is not None]
    last_old = max(one.recorded_at_us for one in headers if one.epoch == 1)
    first_new = min(one.recorded_at_us for one in headers if one.epoch == 2)
    return {
        "last_old_ms": (last_old - at_us) / 1000,
        "first_new_ms": (first_new - at_us) / 1000,
        "ids_twice": len(headers) - len({one.prediction_id for one in headers}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.worker is not None:
        work(given.worker)
        return
    from ml_platform.core.settings import load_settings
    from ml_platform.serving.stream.kafka import Connection, TopicAdmin
    from ml_platform.serving.stream.topics import Topics
    from tests.services.kafka import Broker, absent

    assert absent() is None, absent()
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder) / "root", {1: make_parts(), 2: make_parts(seed=2)}, 1)
        broker = Broker(Path(folder) / "kafka")
        broker.format()
        broker.start()
        try:
            with root.settings_file.open("a") as stream:
                stream.write(f'[kafka]\nservers = "{broker.address}"\n')
            settings = load_settings(root.settings_file)
            admin = TopicAdmin(Connection(broker.address))
            admin.create(Topics.of(MODEL), partitions=1, replication=1)
            _make_bare(broker.address)
            found: dict[str, Any] = {"bare": [], "worker": []}
            for number in range(given.rounds):
                produce(broker.address, given.events)
                found["bare"].append(given.events / bare(broker.address, given.events, "bare"))
                found["worker"].append(given.events / ours(settings, given.events, f"w{number}"))
            ratio = statistics.median(w / b for w, b in zip(found["worker"], found["bare"], strict=True))
            rate = statistics.median(found["worker"]) / 2
            print(f"worker / bare, events a second: {found}", file=sys.stderr, flush=True)
            child = subprocess.Popen([sys.executable, __file__, "--worker", str(root.settings_file)])
            time.sleep(15)
            waited = latencies(broker.address, rate, given.seconds)
            print(f"p50 and p99, ms: {np.percentile(waited, [50, 99])}", file=sys.stderr, flush=True)
            fresh = refreshed(root, broker.address, rate / 2)
            child.terminate()
            child.wait(60)
        finally:
            broker.stop()
    result = {
        "bare_per_second": [round(one) for one in found["bare"]],
        "worker_per_second": [round(one) for one in found["worker"]],
        "ratio": round(ratio, 3),
        "half_load_per_second": round(rate),
        "p50_ms": round(float(np.percentile(waited, 50)), 1),
        "p99_ms": round(float(np.percentile(waited, 99)), 1),
        **{name: round(value, 1) for name, value in fresh.items()},
    }
    if given.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<22} {value}")


def _make_bare(address: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": address})
    for made in admin.create_topics([NewTopic("bench.bare", 1, 1)]).values():
        made.result()


if __name__ == "__main__":
    main()
