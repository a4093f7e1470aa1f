"""The smallest whole model: parcels, and whether one of them will be late. Everything of it fits into seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform import (
    Decline,
    Entity,
    FeatureView,
    Label,
    LightGBM,
    Model,
    Platform,
    RequestView,
    SameAsEvent,
    Source,
    TimeSplit,
    at_least,
    category,
    mean,
    number,
)
from ml_platform.lifecycle import land_source

START, AS_OF = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 560

parcel = Entity("parcel", keys=("parcel_id",))
depot = Entity("depot", keys=("depot",))
parcels = Source(
    "parcels",
    columns={"parcel_id": "int64", "sent_at": "timestamp", "weight": "float64", "depot": "string"},
    keys=("parcel_id",),
    event_time="sent_at",
    known_time=SameAsEvent("a parcel is known when it is handed in"),
)
arrivals = Source(
    "arrivals",
    columns={"parcel_id": "int64", "late": "int64", "known_at": "timestamp"},
    keys=("parcel_id",),
    event_time="known_at",
    known_time="known_at",
)
sending = RequestView(
    "sending", entity=parcel, source=parcels, time="sent_at", columns=[number("weight"), category("depot")]
)
late_in_ten_days = Label(rows=sending, outcome=arrivals, column="late", horizon="10d")
depot_history = FeatureView(
    "depot_history",
    entity=depot,
    source=late_in_ten_days.matured,
    aggregations=[mean("late", over="30d")],
    refresh="1d",
)
REASONS = {"weight": "The weight", "depot": "The depot", "late_mean_30d": "The depot"}
PLAIN = Decline(above=0.5, reasons={"weight": "The weight", "depot": "The depot"})
late_parcel = Model(
    name="late_parcel",
    entity=parcel,
    owners=["team:parcels"],
    features=[sending, depot_history],
    label=late_in_ten_days,
    split=TimeSplit(test=0.3),
    trainer=LightGBM(objective="binary", num_leaves=3, learning_rate=0.2, rounds=6, min_data_in_leaf=10),
    gates=[at_least("auc", 0.5)],
    decision=Decline(above=0.5, reasons=REASONS),
)


def tables() -> tuple[pa.Table, pa.Table]:
    """Parcels, ten a day, and their arrivals: heavy ones from one of three depots are late."""
    random = np.random.default_rng(5)
    sent = [START + timedelta(days=number // 10, minutes=number % 10) for number in range(ROWS)]
    weight = random.uniform(1, 30, ROWS)
    place = random.integers(0, 3, ROWS)
    late = (weight + 8 * (place == 1) + random.normal(0, 5, ROWS) > 22).astype(np.int64)
    ids = pa.array(range(ROWS), pa.int64())
    stamp = pa.timestamp("us", "UTC")
    known = pa.array([at + timedelta(days=2 + number % 5) for number, at in enumerate(sent)], stamp)
    return (
        pa.table(
            {
                "parcel_id": ids,
                "sent_at": pa.array(sent, stamp),
                "weight": weight,
                "depot": pa.array([("north", "south", "west")[one] for one in place]),
            }
        ),
        pa.table({"parcel_id": ids, "late": late, "known_at": known}),
    )


def new_root(root: Path) -> Platform:
    """A replay root at the as-of time with both tables landed."""
    platform = Platform.create(
        root,
        kind="replay",
        member_keys={"ada": ["ada@example.org"], "bob": ["bob@example.org"]},
        published_seed=b"2" * 32,
        starts_at=AS_OF,
    )
    for source, table in zip((parcels, arrivals), tables(), strict=True):
        file = root / f"{source.name}.parquet"
        pq.write_table(table, file)
        land_source(platform, source, file)
    return platform
