"""What another team would write: will this flight arrive more than 15 minutes late? Known only when it has landed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml_platform import (
    Decline,
    Entity,
    FeatureView,
    Label,
    LightGBM,
    Model,
    RequestView,
    SameAsEvent,
    Source,
    TimeSplit,
    at_least,
    brier_skill,
    category,
    count,
    mean,
    not_worse_than_production,
    number,
)

flight = Entity("flight", keys=("flight_id",))
carrier = Entity("carrier", keys=("carrier",))
route = Entity("route", keys=("origin", "dest"))
departures = Source(
    "departures",
    columns={
        "flight_id": "int64",
        "scheduled_at": "timestamp",
        "carrier": "string",
        "origin": "string",
        "dest": "string",
        "distance": "int64",
        "local_hour": "int64",
    },
    keys=("flight_id",),
    event_time="scheduled_at",
    known_time=SameAsEvent("a timetable is published long before"),
)
arrivals = Source(
    "arrivals",
    columns={"flight_id": "int64", "late": "bool", "arrived_at": "timestamp"},
    keys=("flight_id",),
    event_time="arrived_at",
    known_time="arrived_at",
)
departure = RequestView(
    "departure",
    entity=flight,
    source=departures,
    time="scheduled_at",
    columns=[
        category("carrier"),
        category("origin"),
        category("dest", on_unknown="flag"),
        number("distance", range=(0, None)),
        number("local_hour", range=(0, 23)),
    ],
    derived={"far_in_the_day": "local_hour * ln(distance)"},
)
late = Label(rows=departure, outcome=arrivals, column="late", horizon="1d")
carrier_history = FeatureView(
    "carrier_history", entity=carrier, source=late.matured, aggregations=[mean("late", over="7d")], refresh="1d"
)
route_history = FeatureView(
    "route_history",
    entity=route,
    source=late.matured,
    aggregations=[mean("late", over="30d"), count(over="30d")],
    refresh="1d",
)
WAY, DAY, RECORD = "The way", "The time of day", "How punctual flights like it were"
late_arrival = Model(
    name="late_arrival",
    entity=flight,
    owners=["team:arrivals"],
    features=[departure, carrier_history, route_history],
    label=late,
    split=TimeSplit(test=0.3),
    trainer=LightGBM(objective="binary", num_leaves=15, learning_rate=0.05, rounds=60, min_data_in_leaf=100),
    gates=[at_least("auc", 0.6), brier_skill(), not_worse_than_production("auc", by=0.02)],
    decision=Decline(
        above=0.5,
        reasons={
            "carrier": RECORD, "origin": WAY, "dest": WAY, "distance": WAY, "local_hour": DAY, "far_in_the_day": DAY,
            "late_mean_7d": RECORD, "late_mean_30d": RECORD, "count_30d": RECORD,
        },
    ),
)  # fmt: skip


def write(flights: Path, folder: Path) -> dict[str, Path]:
    """The two tables of the team, of the public records."""
    raw = pq.read_table(flights)
    ids = pa.array(range(raw.num_rows), pa.int64())
    minute = pc.multiply(raw.column("minute").cast(pa.int64()), 60_000_000)
    start = pc.add(raw.column("time_hour").cast(pa.int64()), minute)
    stamp = pa.timestamp("us", "UTC")
    texts = {name: raw.column(name).cast(pa.string()) for name in ("carrier", "origin", "dest")}
    asked = pa.table(
        {"flight_id": ids, "scheduled_at": start.cast(stamp), **texts, "distance": raw.column("distance"),
         "local_hour": raw.column("hour")}
    )  # fmt: skip
    flown = pc.add(raw.column("dep_delay"), raw.column("air_time"))
    landed = pc.is_valid(pc.add(flown, raw.column("arr_delay")))
    minutes = pc.multiply(pc.fill_null(flown, 0).cast(pa.int64()), 60_000_000)
    known = pa.table(
        {
            "flight_id": ids,
            "late": pc.greater(pc.fill_null(raw.column("arr_delay"), 0), 15),
            "arrived_at": pc.add(start, minutes).cast(stamp),
        }
    ).filter(landed)
    folder.mkdir(parents=True, exist_ok=True)
    files = {"departures": folder / "departures.parquet", "arrivals": folder / "arrivals.parquet"}
    pq.write_table(asked, files["departures"])
    pq.write_table(known, files["arrivals"])
    return files
