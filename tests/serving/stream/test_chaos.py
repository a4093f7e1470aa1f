"""Two workers that are killed again and again, a broker that dies, events that are poison: everything once, exactly."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.services.kafka import Broker
from tests.serving.stream.support import StreamRoot, done, produce, values

EVENTS = 50_000
KILLS = 6


def start(root: StreamRoot, instance: str) -> subprocess.Popen[bytes]:
    arguments = [str(root.root), root.model, instance, "500"]
    return subprocess.Popen([sys.executable, "-m", "tests.serving.stream.worker_driver", *arguments])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_event_is_answered_or_a_dead_letter_once_through_all_of_it(
    stream_root: Callable[..., StreamRoot], broker: Broker
) -> None:
    root, rng = stream_root(partitions=4), random.Random(7)
    workers = {name: start(root, name) for name in "ab"}
    try:
        killed = 0
        for part in range(KILLS):
            first, last = (EVENTS * at // KILLS for at in (part, part + 1))
            kinds = [rng.random() for _ in range(first, last)]
            produce(
                root,
                [
                    rng.randbytes(rng.randrange(60)) if kind < 0.01
                    else values(loan, grade="Z") if kind < 0.05
                    else values(loan // 2, applied_at=values(loan)["applied_at"] - rng.randrange(10**12))
                    for loan, kind in enumerate(kinds, first)
                ],
            )  # fmt: skip
            time.sleep(rng.uniform(1.0, 3.0))
            name = rng.choice("ab")
            workers[name].send_signal(signal.SIGKILL)
            killed += workers[name].wait() == -signal.SIGKILL
            if part == KILLS // 2:
                broker.kill()
                broker.start()
            workers[name] = start(root, name)
        until = time.monotonic() + 600
        while not done(root):
            assert time.monotonic() < until
            time.sleep(0.5)
        assert killed == KILLS
    finally:
        for one in workers.values():
            one.terminate()
        for one in workers.values():
            one.wait(timeout=60)
    written = root.written()
    written.check(root, EVENTS)
    assert EVENTS * 0.03 < len(written.letters) < EVENTS * 0.08
