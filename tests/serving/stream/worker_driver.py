"""A worker in a process of its own, that may die by SIGKILL behind the n-th time of a step of its loop.

Arguments: root, model, instance, events a batch. It works until TERM. With ``steps`` behind them it forks a worker for
each step, one after the other, that dies there, and prints each step with its exit code.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from threading import Event as Flag
from typing import Any

from ml_platform.core.settings import load_settings
from ml_platform.serving.stream.deciding import StreamDecider
from ml_platform.serving.stream.kafka_transactions import TransactionalLog
from ml_platform.serving.stream.opening import open_stream
from tests.serving.router_support import Store

STEPS: dict[str, tuple[type, str]] = {
    "joined": (TransactionalLog, "_loaded"),
    "taken": (TransactionalLog, "take"),
    "decided": (StreamDecider, "decide"),
    "begun": (TransactionalLog, "_begin"),
    "half produced": (TransactionalLog, "_batch"),
    "produced": (TransactionalLog, "_produce"),
    "sent": (TransactionalLog, "_produce"),
    "offsets": (TransactionalLog, "_offsets"),
    "committed": (TransactionalLog, "_commit"),
}


def die_behind(step: str, nth: int) -> None:
    """Replaces a step by itself and, the n-th time that it did something, the end of the process."""
    owner, name = STEPS[step]
    real = getattr(owner, name)
    left = [nth]

    def doomed(self: Any, *arguments: Any) -> Any:
        found = real(self, *arguments)
        left[0] -= found != []  # a look that found no event is no step
        if left[0] <= 0:
            if step == "sent":
                self._producer.flush(10)  # the brokers have everything, and no commit
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, doomed)


def worked(root: str, model: str, instance: str, largest: str) -> None:
    """Until TERM, or whatever was arranged."""
    stop = Flag()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stream = open_stream(
        load_settings(Path(root) / "settings.toml"),
        model,
        instance,
        said=lambda text: sys.stderr.write(text + "\n"),
        stop=stop,
        features=Store(),
        largest=int(largest),
    )
    try:
        stream.run()
    finally:
        stream.close()


def main() -> None:
    arguments = sys.argv[1:5]
    if sys.argv[5:] != ["steps"]:
        worked(*arguments)
        return
    for number, step in enumerate(STEPS):  # everything is imported and no client is made: a child starts at once
        child = os.fork()
        if child == 0:
            die_behind(step, 1 if step == "joined" else 1 + number % 3)
            worked(*arguments)
            os._exit(0)
        sys.stdout.write(f"{step}:{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")


if __name__ == "__main__":
    main()
