"""The definition of point-in-time values, by brute force over plain rows. Every engine is compared with this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

Row = dict[str, Any]  # key, event, known (integers), tie, deleted, value; `fact` where it is not (key, event)


def known_at(rows: Sequence[Row], r: int) -> list[Row]:
    """Each fact once, as known at r: its last version by (known, tie), unless that one is a retraction."""
    newest: dict[Any, Row] = {}
    for row in rows:
        fact = row.get("fact", row["key"]), row["event"]
        if max(row["event"], row["known"]) <= r and (fact not in newest or rank(row) >= rank(newest[fact])):
            newest[fact] = row
    return [row for row in newest.values() if not row["deleted"]]


def rank(row: Row) -> tuple[Any, ...]:
    return row["event"], row["known"], row["tie"], row.get("fact", 0)


def value_at(rows: Sequence[Row], key: Any, t: int, *, refresh: int = 1, ttl: int | None = None) -> Row | None:
    """The row that holds for a key at T: the last fact known at floor(T, refresh), while T < event + ttl."""
    found = [row for row in known_at(rows, t // refresh * refresh) if row["key"] == key and key is not None]
    last = max(found, key=rank, default=None)
    return last if last is not None and (ttl is None or t < last["event"] + ttl) else None


def window_at(rows: Sequence[Row], key: Any, t: int, *, refresh: int, leaves: Callable[[int], int]) -> list[Row]:
    """The rows of a key's window at T: known at r = floor(T, refresh), and r < leaves(event)."""
    r = t // refresh * refresh
    inside = [row for row in known_at(rows, r) if row["key"] == key and r < leaves(row["event"])]
    return sorted(inside, key=rank)


def aggregate(function: str, values: Sequence[float | None]) -> float | None:
    """What an aggregation is of the values in a window, in the order of their ranks; sums are exact, rounded once."""
    present = [value for value in values if value is not None]
    if function in ("rows", "count", "distinct"):
        return float({"rows": len(values), "count": len(present), "distinct": len(set(present))}[function])
    if function == "last":
        return values[-1] if values else None
    if not present:
        return None
    if function in ("min", "max"):
        return min(present) if function == "min" else max(present)
    exact = sum(map(Fraction, present))
    return float(exact if function == "sum" else exact / len(present))
