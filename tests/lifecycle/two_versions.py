"""A root whose first version decides parcels while a second one waits or is in canary; decisions in real logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from ml_platform import Guardrails, LightGBM, Platform, Rollout, lifecycle
from ml_platform.core.clock import format_utc
from ml_platform.core.contract import Contract, Refusal
from ml_platform.core.ids import uuid_v7
from ml_platform.core.rows import encode_row, micros
from ml_platform.registry.state import ModelState
from ml_platform.serving import Scorer
from ml_platform.serving.online_record import LoggedDecision, LoggedRefusal, encode_decision, encode_refusal
from ml_platform.serving.record import Header
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.wal import WalWriter, WriterInfo, wal_folder
from tests.lifecycle import tiny
from tests.serving.online_support import sections

NAME = "late_parcel"
PLAN = Rollout(
    shadow="1d",
    canary=[25, 50],
    guardrails=Guardrails(errors=0.05, decision_rate=0.2, score_shift=0.8, min_units=50, min_time="1h"),
)
FIRST = replace(tiny.late_parcel, rollout=PLAN)
SECOND = replace(
    FIRST, trainer=LightGBM(objective="binary", num_leaves=3, learning_rate=0.2, rounds=7, min_data_in_leaf=10)
)
ROUTER = "router-" + "ab" * 16


def make_root(folder: Path) -> Platform:
    """Version 1 in production, version 2 in staging; the clock stands at the as-of time."""
    platform = tiny.new_root(folder / "root")
    (folder / "code").mkdir()
    (folder / "code" / "model.py").write_text("# a team's code\n")
    lifecycle.build_candidate(platform, FIRST, tiny.AS_OF, code=folder / "code")
    to(platform, 1, "canary", "production")
    lifecycle.build_candidate(platform, SECOND, tiny.AS_OF, code=folder / "code")
    lifecycle.stage(platform, NAME, 2, principal="ada", reason="Passed")
    return platform


def to(platform: Platform, version: int, *stages: str) -> None:
    """Promotes with the approvals of two people: nobody can say who wrote the code."""
    if platform.registry.state().version(NAME, version).stage == "trained":
        lifecycle.stage(platform, NAME, version, principal="ada", reason="Passed")
    for stage in stages:
        for person in ("ada", "bob"):
            key = platform.secrets.path("people") / person
            lifecycle.approve(platform, NAME, version, stage, key=key, reason="Reviewed")
        lifecycle.promote(platform, NAME, version, stage, principal="ada", reason="Reviewed")


def known(platform: Platform) -> ModelState:
    return platform.registry.state().model(NAME)


def parcels(first: int, rows: int, at: datetime, *, depots: Sequence[str] = ("north", "south", "west")) -> pa.Table:
    """Requests of one moment, each about a parcel of its own."""
    random = np.random.default_rng(first)
    return pa.table(
        {
            "parcel_id": pa.array(range(first, first + rows), pa.int64()),
            "sent_at": pa.array([at] * rows, pa.timestamp("us", "UTC")),
            "weight": random.uniform(1, 30, rows),
            "depot": [depots[one] for one in random.integers(0, len(depots), rows)],
        }
    )


def looked_up(contract: Contract, rows: pa.Table) -> pa.Table:
    """What an online store would answer: a value a day old, and none for the depot in the west."""
    none = [depot == "west" for depot in rows.column("depot").to_pylist()]
    columns: dict[str, pa.Array] = {}
    for item in contract.stored:
        columns[item.name] = pa.array([None if one else 0.25 for one in none], pa.float64())
        columns[f"age_{item.name}"] = pa.array([None if one else 86_400_000_000 for one in none], pa.int64())
    return pa.table(columns)


class Log:
    """A router's log, written as a router writes it; living until it is closed."""

    def __init__(self, platform: Platform, writer: str = ROUTER) -> None:
        self.platform, self.writer, self.seq = platform, writer, 0
        info = WriterInfo(writer, "router", NAME, platform.root_id, format_utc(platform.wall.now()), 1)
        self.wal = WalWriter(wal_folder(platform.root, NAME, writer), info, rotate_bytes=1)
        self.random = np.random.default_rng([*writer.encode()])

    def decide(self, version: int, table: pa.Table, *, role: str = "primary", ms: float = 1.0) -> list[bytes]:
        """Decides the rows now, by a version; the ids."""
        digest = self.platform.registry.state().version(NAME, version).digests.artifact
        scorer, now = Scorer.load(self.platform.objects, digest), self.platform.clock.now()
        window = (now - timedelta(days=40), now + timedelta(seconds=1))
        route = known(self.platform).route
        frames, ids = [], []
        latency = self.random.gamma(4.0, ms * 250, table.num_rows)
        for section, micro in zip(sections(scorer, looked_up, window, table), latency, strict=True):
            ids.append(uuid_v7(now, self.random.bytes(10)))
            header = Header(
                root_id=self.platform.root_id,
                model=NAME,
                version=version,
                mode="online",
                role=role,
                decision_of_record=True,
                contract_digest=scorer.contract.digest,
                artifact_digest=digest,
                route_digest=None if route is None else route.digest,
                epoch=None if route is None else route.epoch,
                flip_digest=None,
                clock="replay",
                decided_at_us=micros(now),
                recorded_at_us=micros(self.platform.wall.now()),
                latency_us=int(micro),
                supersedes=None,
                pair_of=None,
                writer=self.writer,
                prediction_id=ids[-1],
                seq=self.seq,
            )
            self.seq += 1
            frames.append(encode_decision(LoggedDecision(header, section, self.random.bytes(32))))
        self.wal.append(frames)
        return ids

    def refuse(self, version: int, first: int, rows: int) -> None:
        """Requests that the version's contract refused, each by two rules."""
        now = micros(self.platform.clock.now())
        contract = self.platform.registry.state().version(NAME, version).digests.contract
        why = (Refusal(0, "weight", "null", "null"), Refusal(0, "depot", "unknown", "an unknown category"))
        keys = [encode_row([("i64", number), ("us", now)]) for number in range(first, first + rows)]
        self.wal.append(
            [
                encode_refusal(
                    LoggedRefusal(self.writer, NAME, version, contract, now, micros(self.platform.wall.now()),
                                  quarantine_index(bytes(32), NAME, key), why)
                )
                for key in keys
            ]
        )  # fmt: skip

    def close(self) -> None:
        self.wal.close()
