"""Whatever dies, and whenever: every event is in exactly one of answers and dead letters, once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from ml_platform.core.errors import Conflict
from ml_platform.serving.stream.worker import NotWritten
from tests.services.kafka import Broker
from tests.serving.stream.support import StreamRoot, done, produce, running, values, wait_for, work
from tests.serving.stream.worker_driver import STEPS


def events(first: int, number: int) -> list[dict[str, object]]:
    """Clean ones, and every thirteenth refused."""
    return [values(loan, grade="Z") if loan % 13 == 0 else values(loan) for loan in range(first, first + number)]


@pytest.mark.timeout(600)
def test_a_worker_killed_behind_any_step_loses_nothing_and_says_nothing_twice(
    stream_root: Callable[..., StreamRoot],
) -> None:
    root = stream_root()
    produce(root, events(1, 700))
    command = [
        sys.executable,
        "-m",
        "tests.serving.stream.worker_driver",
        str(root.root),
        root.model,
        "w",
        "25",
        "steps",
    ]
    done_ = subprocess.run(command, capture_output=True, text=True, check=True, timeout=400)
    died = dict(line.rsplit(":", 1) for line in done_.stdout.splitlines())
    assert died == dict.fromkeys(STEPS, str(-signal.SIGKILL)), done_.stderr
    survivor = root.open("w")
    thread = running(survivor)
    wait_for(lambda: done(root))
    survivor.stop.set()
    thread.join()
    survivor.close()
    root.written().check(root, 700)


def test_brokers_that_die_and_come_back_are_waited_for(stream_root: Callable[..., StreamRoot], broker: Broker) -> None:
    root = stream_root()
    said: list[str] = []
    stream = root.open(said=said, largest=20)
    thread = running(stream)
    produce(root, events(1, 400))
    wait_for(lambda: stream.worker.metrics.events >= 60)
    broker.kill()
    time.sleep(1.0)
    assert thread.is_alive()
    broker.start()
    produce(root, events(401, 200))
    wait_for(lambda: done(root), seconds=180)
    stream.stop.set()
    thread.join()
    stream.close()
    root.written().check(root, 600)


def test_partitions_that_move_between_workers_are_decided_once(stream_root: Callable[..., StreamRoot]) -> None:
    root = stream_root(partitions=3)
    first = root.open("a", largest=10)
    threads = [running(first)]
    produce(root, events(1, 300))
    second = root.open("b", largest=10)
    threads.append(running(second))
    wait_for(lambda: second.log.following)
    produce(root, events(301, 300))
    wait_for(lambda: second.worker.metrics.events >= 50)
    first.stop.set()
    threads[0].join()
    first.close()
    produce(root, events(601, 300))
    wait_for(lambda: done(root))
    second.stop.set()
    threads[1].join()
    second.close()
    assert min(first.worker.metrics.events, second.worker.metrics.events) > 0
    root.written().check(root, 900)


def test_a_worker_whose_name_was_taken_over_cannot_write_any_more(stream_root: Callable[..., StreamRoot]) -> None:
    root = stream_root(partitions=1)
    produce(root, events(1, 60))
    zombie = root.open("w", largest=20)
    taken = []
    while not taken:
        taken = zombie.log.take(20, 1.0, 0.05)
    batch = zombie.worker.decider.decide(taken, zombie.log.following)
    heir = root.open("w")
    work(heir, 60)
    with pytest.raises(Conflict, match="taken over"):
        zombie.log.write(taken, batch)
    zombie.close()
    heir.close()
    root.written().check(root, 60)


def test_a_worker_that_slept_through_a_rebalance_cannot_write_any_more(stream_root: Callable[..., StreamRoot]) -> None:
    root = stream_root(partitions=1, patience_ms=2000)
    produce(root, events(1, 60))
    zombie = root.open("a", largest=20)
    taken = []
    while not taken:
        taken = zombie.log.take(20, 1.0, 0.05)
    batch = zombie.worker.decider.decide(taken, zombie.log.following)
    heir = root.open("b")
    work(heir, 60)
    with pytest.raises(NotWritten):
        zombie.log.write(taken, batch)
    zombie.close()
    heir.close()
    root.written().check(root, 60)


def test_an_offset_that_was_lost_or_moved_by_hand_is_read_from_the_log_of_records(
    stream_root: Callable[..., StreamRoot],
) -> None:
    root = stream_root(partitions=1)
    produce(root, events(1, 40))
    before = root.open("w")
    work(before, 40)
    before.close()
    wait_for(lambda: moved(root), seconds=30)
    produce(root, events(41, 30))
    said: list[str] = []
    after = root.open("w", said=said)
    work(after, 30)
    after.close()
    assert any("offset was lost" in one for one in said)
    root.written().check(root, 70)


def moved(root: StreamRoot) -> bool:
    """As somebody does it who wants to see events again."""
    client = Consumer(root.connection.properties(group_id=root.topics.group))
    try:
        client.commit(offsets=[TopicPartition(root.topics.events, 0, 3)], asynchronous=False)
    except KafkaException:
        return False
    finally:
        client.close()
    return True


def test_a_first_transaction_that_was_aborted_leaves_a_partition_at_its_beginning(
    stream_root: Callable[..., StreamRoot],
) -> None:
    root = stream_root(partitions=1)
    produce(root, events(1, 20))
    doomed = root.open("w")
    taken = []
    while not taken:
        taken = doomed.log.take(20, 1.0, 0.05)
    doomed.log._begin()
    doomed.log._produce(doomed.worker.decider.decide(taken, doomed.log.following))
    doomed.log._producer.flush(10)
    doomed.close()
    heir = root.open("w")
    work(heir, 20)
    heir.close()
    root.written().check(root, 20)
