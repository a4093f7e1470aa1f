"""A small root, made by the product itself: a real LightGBM on simulated loans, approved, in production, with decisions."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
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
    at_least,
    category,
    lifecycle,
    mean,
    number,
)

SAME_TIME = "an application is known the moment it arrives"
LOAN = Entity("loan", keys=("loan_id",), personal=True)
PURPOSE = Entity("purpose", keys=("purpose",))
REQUESTS = Source(
    "loan_requests",
    columns={"loan_id": "int64", "applied_at": "timestamp", "amount": "float64", "purpose": "string"},
    keys=("loan_id",),
    event_time="applied_at",
    known_time=SameAsEvent(reason=SAME_TIME),
)
OUTCOMES = Source(
    "loan_outcomes",
    columns={"loan_id": "int64", "defaulted": "int64", "known_at": "timestamp"},
    keys=("loan_id",),
    event_time="known_at",
    known_time="known_at",
)
REQUEST = RequestView(
    "request",
    entity=LOAN,
    source=REQUESTS,
    time="applied_at",
    columns=[number("amount", range=(0, None)), category("purpose", on_unknown="flag")],
    derived={"amount_root": "amount / 100"},
)
DEFAULTED = Label(rows=REQUEST, outcome=OUTCOMES, column="defaulted", kind="event_within", horizon="2mo")
HISTORY = FeatureView(
    "purpose_history",
    entity=PURPOSE,
    source=DEFAULTED.matured,
    aggregations=[mean("defaulted", over="360d")],
    refresh="1d",
)
NAMES = ("amount", "purpose", "amount_root", "defaulted_mean_360d")


def model(trainer: object = None) -> Model:
    return Model(
        name="small_risk",
        entity=LOAN,
        features=[REQUEST, HISTORY],
        label=DEFAULTED,
        trainer=trainer or LightGBM(num_leaves=4, learning_rate=0.2, rounds=12, min_data_in_leaf=20),
        gates=[at_least("auc", 0.55)],
        decision=Decline(above=0.4, reasons={name: f"The {name} speaks against it" for name in NAMES}),
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


AS_OF = at("2010-01-01")
MONTHS = ("2010-01", "2010-02")


def loans(folder: Path, rows: int = 1500) -> tuple[Path, Path]:
    """Applications and outcomes of 2009-01 to 2010-02; large amounts default, and some outcomes come late."""
    rng = np.random.default_rng(5)
    start, end = (int(at(day).timestamp()) for day in ("2009-01-01", "2010-03-01"))
    applied = np.sort(rng.integers(start, end, rows)) * 1_000_000
    amount = rng.uniform(1_000, 20_000, rows).round(2)
    late = applied > int(at("2010-01-01").timestamp()) * 1_000_000
    purpose = np.where(late & (rng.random(rows) < 0.1), "boat", rng.choice(["car", "home", "other"], rows))
    defaulted = rng.random(rows) < 1 / (1 + np.exp(-(amount - 13_000) / 2_000))
    known = applied + rng.integers(5, 90, rows) * 86_400_000_000
    stamp = pa.timestamp("us", "UTC")
    ids = pa.array(np.arange(1, rows + 1), pa.int64())
    amounts = amount.copy()
    amounts[np.flatnonzero(late)[:2]] = -1.0  # refused: out of range
    requests = pa.table(
        {
            "loan_id": ids,
            "applied_at": pa.array(applied, stamp),
            "amount": pa.array(amounts),
            "purpose": pa.array(purpose.tolist(), pa.string()),
        }
    )
    outcomes = pa.table(
        {"loan_id": ids, "defaulted": pa.array(defaulted.astype(np.int64)), "known_at": pa.array(known, stamp)}
    )
    paths = folder / "requests.parquet", folder / "outcomes.parquet"
    pq.write_table(requests, paths[0])
    pq.write_table(outcomes, paths[1])
    return paths


def make_platform(folder: Path, **how: object) -> Platform:
    folder.mkdir(parents=True, exist_ok=True)
    platform = Platform.create(
        folder / "root",
        kind="replay",
        member_keys={"officer_ann": ["ann@example.org"], "officer_bob": ["bob@example.org"]},
        published_seed=bytes(range(32)),
        **how,
    )
    code = folder / "code"
    code.mkdir()
    (code / "model.py").write_text("# the model\n")
    return platform


def land_march(platform: Platform) -> None:
    """Three more applications."""
    stamp = pa.timestamp("us", "UTC")
    rows = pa.table(
        {
            "loan_id": pa.array([9001, 9002, 9003], pa.int64()),
            "applied_at": pa.array([at(f"2010-03-0{day}") for day in (2, 3, 4)], stamp),
            "amount": pa.array([2_000.0, 12_000.0, 19_000.0]),
            "purpose": pa.array(["car", "home", "other"]),
        }
    )
    path = platform.root.parent / "march.parquet"
    pq.write_table(rows, path)
    lifecycle.land_source(platform, REQUESTS, path)


class CrashError(Exception):
    """The process dies here."""


def score_march_without_sealing(platform: Platform) -> str:
    """Decisions of a third month, by a process that died between recording and sealing; returns one id."""

    def die(segments: object) -> None:
        raise CrashError

    platform.replay.move(at("2010-04-01"))
    land_march(platform)
    platform.registry.seal_segments = die  # type: ignore[method-assign]
    try:
        lifecycle.score_partition(platform, model(), "2010-03")
    except CrashError:
        pass
    finally:
        del platform.registry.seal_segments
    return max(platform.lake.read("small_risk/predictions", columns=["prediction_id"]).column(0).to_pylist())


def make_version(platform: Platform, declared: Model, folder: Path) -> int:
    return lifecycle.build_candidate(
        platform, declared, AS_OF, requested_by="launcher", code=folder / "code"
    ).registered.version


def to_production(
    platform: Platform, version: int, reason: str = "The gates are green and the sample is large."
) -> None:
    lifecycle.stage(platform, "small_risk", version, principal="launcher", reason="First look.")
    for to in ("canary", "production"):
        for officer in ("officer_ann", "officer_bob"):  # the code is in no repository: its author is unknown
            key = platform.secrets.folder / "people" / officer
            lifecycle.approve(platform, "small_risk", version, to, key=key, reason=reason)
        lifecycle.promote(platform, "small_risk", version, to, principal="launcher", reason=f"To {to}.")


def make_root(folder: Path, *, months: tuple[str, ...] = MONTHS, **how: object) -> Platform:
    """Version 1 in production, decisions about two months."""
    platform = make_platform(folder, **how)
    platform.replay.move(AS_OF)
    declared = model()
    requests, outcomes = loans(folder)
    lifecycle.land_source(platform, REQUESTS, requests)
    lifecycle.land_source(platform, OUTCOMES, outcomes)
    to_production(platform, make_version(platform, declared, folder))
    platform.replay.move(at("2010-03-01"))
    for month in months:
        lifecycle.score_partition(platform, declared, month)
    platform.registry.checkpoint()
    return platform


def copy_root(platform: Platform, folder: Path) -> Platform:
    """The same root elsewhere, so that a test may spoil it."""
    shutil.copytree(platform.root, folder / "root")
    return Platform.local(folder / "root")
