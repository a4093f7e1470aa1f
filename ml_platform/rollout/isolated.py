"""A version in a process of its own, with a time for each answer: one that hangs harms nobody but itself."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DataError, PlatformError
from ml_platform.serving.building import Decided

__all__ = ["Decides", "IsolatedScorer"]


class Decides(Protocol):
    """A loaded version."""

    def decide(self, matrix: npt.NDArray[np.float32]) -> Decided: ...


class IsolatedScorer:
    """Loads a version in a child process and asks it; the child is killed when it does not answer in time.

    Args:
        load: makes the version, in the child; a function of a module, or a ``functools.partial`` of one.
        limit_seconds: for one batch.
        start_seconds: for loading.
    """

    def __init__(self, load: Callable[[], Decides], *, limit_seconds: float, start_seconds: float = 60.0) -> None:
        self._load = load
        self._limit = limit_seconds
        self._start = start_seconds
        self._child: tuple[BaseProcess, Connection] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decide(self, matrix: npt.NDArray[np.float32]) -> Decided | None:
        """What the version says of the rows of a matrix; None where it did not answer in time.

        Raises:
            PlatformError: the version's own error, or that its process ended.
        """
        _, pipe = self._child or self._begun()
        try:
            pipe.send(matrix)
            if not pipe.poll(self._limit):
                self.close()
                return None
            decided: Decided = _answer(pipe)
        except (EOFError, OSError) as error:
            self.close()
            raise _ended() from error
        return decided

    def _begun(self) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(self._load, there), daemon=True)
        process.start()
        there.close()
        self._child = (process, here)
        try:
            if here.poll(self._start):
                _answer(here)
                return self._child
        except (EOFError, OSError) as error:
            self.close()
            raise _ended() from error
        except PlatformError:
            self.close()
            raise
        self.close()
        raise _ended()

    def close(self) -> None:
        """Ends the child; asking again starts another."""
        if self._child is None:
            return
        process, pipe = self._child
        self._child = None
        pipe.close()
        process.kill()
        process.join()


def _answer(pipe: Connection) -> Any:
    found = pipe.recv()
    if isinstance(found, PlatformError):
        raise found
    return found


def _ended() -> DataError:
    return DataError(
        "The process of the shadow version ended, or did not start.",
        field="version",
        next_step="Look at memory and at the version's artifact; the router is not concerned.",
    )


def _serve(load: Callable[[], Decides], pipe: Connection) -> None:
    """The child: answers until the other end goes."""
    try:
        version = load()
    except PlatformError as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            matrix = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send(version.decide(matrix))
        except PlatformError as error:
            pipe.send(error)
