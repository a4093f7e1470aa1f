"""What a router counts. Plain numbers: whoever exports them knows the exporter."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["RouterMetrics"]


@dataclass
class RouterMetrics:
    """Since the router was opened; sums are exact, gauges are as of the last batch.

    Attributes:
        requests, batches, rows: asked for; rows are those decided.
        decided: (version, arm, decision) → rows.
        refused: (field, rule) → requests, by the first rule that each broke.
        flagged: ``field:rule:policy`` → rows.
        unavailable: cause → requests answered with 503.
        latency_us_sum: over decided rows: from the batch's arrival to its record.
        log_bytes: written to the write-ahead log.
        last_sync: monotonic time of the last durable record; None before the first.
        epoch: of the route that is followed; 0 before the first.
        flipped: whether a local rollback outranks it.
        route_refused: why a route file that lies there is not followed; None when it is.
    """

    requests: int = 0
    batches: int = 0
    rows: int = 0
    largest_batch: int = 0
    decided: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    unavailable: Counter[str] = field(default_factory=Counter)
    latency_us_sum: int = 0
    log_bytes: int = 0
    last_sync: float | None = None
    epoch: int = 0
    flipped: bool = False
    route_refused: str | None = None

    def last_sync_age(self, now: float) -> float | None:
        """Seconds since the last durable record at monotonic time ``now``; None before the first."""
        return None if self.last_sync is None else now - self.last_sync
