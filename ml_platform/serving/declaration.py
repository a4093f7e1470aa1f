"""``Serving``: how a model's versions run online. It changes speed and isolation, never a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from ml_platform.core.errors import DeclarationError

__all__ = ["Executor", "Serving"]

Executor = Literal["in_process", "triton"]
_LONGEST_DELAY_US: Final = 1_000_000


@dataclass(frozen=True)
class Serving:
    """Declared beside the model; not in its digest, for the answers are the same either way.

    Args:
        executor: where the router scores: ``"in_process"`` by onnxruntime in its own process (small models on a
            processor: a third less latency), ``"triton"`` by the version's own Triton model (graphics cards,
            isolation, batches shared by routers). Choose by measurement: ``benchmarks/online.py``.
        max_batch: most rows that the server puts together, 1 to 1024.
        queue_delay_us: how long the server may hold a request for others to join it, in microseconds.
        instances: processes of each version's own Triton model, 1 to 64. A router is always one process: it has one
            write-ahead log.
    """

    executor: Executor = "in_process"
    max_batch: int = 64
    queue_delay_us: int = 0
    instances: int = 1

    def __post_init__(self) -> None:
        if self.executor not in get_args(Executor):
            raise DeclarationError(
                "There is no such executor.", field="executor", next_step='Choose "in_process" or "triton".'
            )
        for name, low, high in (("max_batch", 1, 1024), ("queue_delay_us", 0, _LONGEST_DELAY_US), ("instances", 1, 64)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise DeclarationError(
                    "The number is out of range.", field=name, next_step=f"Use a whole number from {low} to {high}."
                )

    def to_json(self) -> dict[str, Any]:
        return {
            "executor": self.executor,
            "max_batch": self.max_batch,
            "queue_delay_us": self.queue_delay_us,
            "instances": self.instances,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Of a stored document.

        Raises:
            DeclarationError: it names something else, or impossible values.
        """
        unknown = sorted(set(document) - {"executor", "max_batch", "queue_delay_us", "instances"})
        if unknown:
            raise DeclarationError("Unknown names.", field=", ".join(unknown), next_step="Serve the model again.")
        return cls(**document)
