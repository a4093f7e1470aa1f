"""Answers as Triton's tensors: only those that a client asks for, and what repeats is made once.

A text costs Triton's Python backend a serialization in Python, and any tensor a block of the memory that it shares with
the server. Most answers have one row, and of these version, epoch, decision and reasons are few in number: their
tensors are kept and given out again, which the backend allows for it never changes an output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.serving.router_answers import Answer
from ml_platform.serving.triton.repository import REASONS

__all__ = ["AnswerTensors", "texts"]

_MOST_KEPT: Final = 1024


class AnswerTensors:
    """Makes the tensors of answers. For one thread.

    Args:
        pb: Triton's Python backend module.
        outputs: the names of the contract's outputs.
    """

    def __init__(self, pb: Any, outputs: Sequence[str]) -> None:
        self._tensor: Callable[[str, npt.NDArray[Any]], Any] = pb.Tensor
        self._outputs = frozenset(outputs)
        self._kept: dict[tuple[str, Any], Any] = {}

    def of(self, answer: Answer, wanted: Iterable[str]) -> list[Any]:
        """The wanted tensors of an answer."""
        one = self._one if len(answer.versions) == 1 else self._many
        return [
            self._tensor(name, answer.outputs[name]) if name in self._outputs else one(name, answer) for name in wanted
        ]

    def forget(self) -> None:
        """Lets go of the tensors that are kept: before the memory that holds them goes."""
        self._kept.clear()

    def _one(self, name: str, answer: Answer) -> Any:
        if name == "prediction_id":
            return self._many(name, answer)
        value = answer.epoch if name == "epoch" else _COLUMNS[name](answer)[0]
        found = self._kept.get((name, value))
        if found is None:
            found = self._many(name, answer)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[name, value] = found
        return found

    def _many(self, name: str, answer: Answer) -> Any:
        rows = len(answer.versions)
        if name == "prediction_id":
            array: npt.NDArray[Any] = texts(answer.prediction_ids, 1)
        elif name == "decision":
            array = texts([decision or "" for decision in answer.decisions], 1)
        elif name == "reason_codes":
            array = texts([one for codes in answer.reasons for one in _padded(codes)], REASONS)
        elif name == "version":
            array = np.array(answer.versions, np.int64).reshape(rows, 1)
        else:
            array = np.full((rows, 1), answer.epoch, np.int64)
        return self._tensor(name, array)


_COLUMNS: Final[dict[str, Callable[[Answer], Sequence[Any]]]] = {
    "decision": lambda answer: answer.decisions,
    "version": lambda answer: answer.versions,
    "reason_codes": lambda answer: answer.reasons,
}


def texts(values: Sequence[str], width: int) -> npt.NDArray[np.object_]:
    """Texts as Triton takes them: bytes in an array of objects [n, width]."""
    array = np.empty(len(values), np.object_)
    array[:] = [value.encode() for value in values]
    return array.reshape(-1, width)


def _padded(codes: Sequence[str]) -> list[str]:
    return [*codes[:REASONS], *[""] * (REASONS - len(codes))]
