"""One task at a time on a second thread: sorting and writing release the interpreter, hashing goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

__all__ = ["Behind"]


class Behind:
    """Runs tasks in order; at most one waits, so that memory holds one more chunk and no queue.

    An error of a task is raised by the next ``run`` or at the end of the ``with`` block.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._pool.shutdown()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def run(self, task: Callable[..., object], *given: object) -> None:
        """Starts a task when the one before it has ended."""
        self._wait()
        self._last = self._pool.submit(task, *given)
