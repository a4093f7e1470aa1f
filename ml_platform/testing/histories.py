"""Generated histories of facts: late, corrected, withdrawn, tied, without a key, with nulls and extreme numbers."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pyarrow as pa

from ml_platform.core.fields import number
from ml_platform.features import (
    Entity,
    FeatureView,
    Source,
    approx_distinct,
    count,
    distinct,
    first,
    last,
    max_,
    mean,
    min_,
    pivot,
    quantile,
    stddev,
    sum_,
)
from ml_platform.features.views import EXACT

__all__ = ["SECOND_US", "VIEWS", "history", "request_times", "table"]

SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * SECOND_US
_FACTS: Final = 100
# The ends of February of common years and of a leap year, and of a month before 1970.
_MONTH_ENDS_US: Final = tuple(day * _DAY_US for day in (58, 423, 789, -1))
_AMOUNTS: Final = (None, 0.0, -0.0, 1.0, 2.0, 0.1, 0.2, 0.3, -2.5, 1e16, -1e16, 1e-300, 1.7e308, -1.7e308, 250.25)

EVENTS: Final = Source(
    "events",
    columns={
        "id": "int64",
        "customer": "string",
        "shop": "int64",
        "event": "timestamp",
        "known": "timestamp",
        "tie": "int64",
        "withdrawn": "bool",
        "amount": "float64",
        "units": "int64",
        "channel": "string",
        "express": "bool",
    },
    keys=("id",),
    event_time="event",
    known_time="known",
    tie_break=("tie",),
    deleted="withdrawn",
)
_ALL: Final = (
    count(over="5s"),
    count("amount", over="12s"),
    sum_("amount", over="7s"),
    sum_("units", over="12s"),
    mean("amount", over="12s"),
    mean("express", over="12s"),
    stddev("amount", over="12s"),
    stddev("units", over="7s"),
    min_("amount", over="12s"),
    max_("units", over="7s"),
    first("amount", over="12s"),
    last("amount", over="7s"),
    last("express", over="12s"),
    distinct("amount", over="12s"),
    distinct("channel", over="12s"),
    approx_distinct("channel", over="12s"),
    approx_distinct("units", over="7s"),
    quantile("amount", 0.5, over="12s"),
    quantile("units", 0.9, over="7s"),
    sum_("units", over="12s", name="web_or_many", where="channel = 'web' or units > 2"),
    count(over="12s", name="unknown_channel", where="channel is null and not express"),
    *pivot("channel", ("web", "it's"), count(over="12s"), mean("amount", over="12s")),
)
_CUSTOMER: Final = Entity("customer", keys=("customer",))
_FACT: Final = Entity("fact", keys=("id",))
_HELD: Final = tuple(number(name, nullable=True) for name in ("amount", "units"))

VIEWS: Final[dict[str, FeatureView]] = {
    "refreshed": FeatureView("refreshed", entity=_CUSTOMER, source=EVENTS, aggregations=_ALL, refresh="3s"),
    "exact": FeatureView("exact", entity=_CUSTOMER, source=EVENTS, aggregations=_ALL, refresh=EXACT),
    "two_keys": FeatureView(
        "two_keys",
        entity=Entity("customer_shop", keys=("shop", "customer")),
        source=EVENTS,
        aggregations=(count(over="12s"), sum_("amount", over="12s"), last("units", over="5s")),
        refresh="2s",
    ),
    "months": FeatureView(
        "months",
        entity=_CUSTOMER,
        source=EVENTS,
        aggregations=(count(over="1mo"), sum_("units", over="12mo"), count(over="1d", name="day")),
        refresh="1d",
    ),
    "held": FeatureView("held", entity=_FACT, source=EVENTS, columns=_HELD, refresh="2s", ttl="9s"),
    "held_exactly": FeatureView("held_exactly", entity=_FACT, source=EVENTS, columns=_HELD),
}
"""The declarations that every engine is tried with."""


def history(random: Random, view: FeatureView, place: int) -> list[dict[str, Any]]:
    """Up to 14 versions of up to 5 facts about two entities; ``place`` keeps histories in one table apart."""
    unit_us, start_us = _scale(random, view)
    versions: dict[tuple[int, int, int, int], dict[str, Any]] = {}
    for _ in range(random.randint(0, 14)):
        fact, event, tie = random.randint(0, 4), random.randint(-12, 12), random.randint(0, 1)
        known = event if random.random() < 0.4 else random.randint(-12, 14)
        versions.setdefault(
            (fact, event, known, tie),
            {
                "id": place * _FACTS + fact,
                "customer": random.choice([f"{place}/a", f"{place}/a", f"{place}/b", None]),
                "shop": random.choice([1, 2, None]),
                "event": start_us + event * unit_us,
                "known": start_us + known * unit_us,
                "tie": tie,
                "withdrawn": random.random() < 0.15,
                "amount": random.choice(_AMOUNTS),
                "units": random.choice([None, -3, 0, 1, 2, 3, 2**40]),
                "channel": random.choice([None, "web", "it's", "", "büro"]),
                "express": random.choice([None, True, False]),
            },
        )
    return list(versions.values())


def _scale(random: Random, view: FeatureView) -> tuple[int, int]:
    if any(item.window.months for item in view.aggregations):
        return _DAY_US, random.choice(_MONTH_ENDS_US) + random.choice([0, 1, _DAY_US // 2])
    return SECOND_US, random.choice([0, 0, 1])


def request_times(random: Random, view: FeatureView, rows: list[dict[str, Any]], number: int) -> list[int]:
    """Times at, just before and just after those at which a value may change, and others."""
    windows = [item.window.microseconds for item in view.aggregations] or [view.ttl_us or 0]
    times = []
    for _ in range(number):
        row = random.choice(rows) if rows else {"event": 0, "known": 0}
        near = row[random.choice(["event", "known"])] + random.choice([0, 0, *windows])
        times.append(near + random.choice([-1, 0, 0, 1, random.randint(-10, 40) * SECOND_US]))
    return times


def table(rows: list[dict[str, Any]]) -> pa.Table:
    """Conformed rows of the source ``events``."""
    schema = EVENTS.arrow_schema()
    columns = {field.name: pa.array([row[field.name] for row in rows], _plain(field.type)) for field in schema}
    return EVENTS.conform(pa.table({name: column.cast(schema.field(name).type) for name, column in columns.items()}))


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.int64() if pa.types.is_timestamp(kind) else kind
