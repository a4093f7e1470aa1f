"""Decisions as a router logs them, made by the real contract and model, in a real write-ahead log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ml_platform.core.clock import FixedClock, format_utc
from ml_platform.core.contract import Refusal
from ml_platform.core.ids import uuid_v7
from ml_platform.core.rows import encode_row, micros
from ml_platform.platform import Platform
from ml_platform.registry import Registry
from ml_platform.serving import Scorer, load_segment, load_tiles
from ml_platform.serving.online_columns import EntityOf
from ml_platform.serving.online_record import (
    LoggedDecision,
    LoggedRefusal,
    encode_decision,
    encode_refusal,
    key_types,
)
from ml_platform.serving.online_sealing import OnlineSealer, SealParts
from ml_platform.serving.preparing import FeatureReader, Preparer
from ml_platform.serving.record import Header, Section
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.wal import WAL_FOLDER, WalWriter, WriterInfo, wal_folder
from ml_platform.training.artifact import Artifact, store_artifact
from tests.serving.support import CONTRACT, END, START, World, history, loans

MODEL = "credit_risk"
WRITER = "router-" + "ab" * 16
NOON = datetime(2010, 6, 1, 12, tzinfo=UTC)
WALL = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def sections(
    scorer: Scorer, features: FeatureReader, window: tuple[datetime, datetime], table: pa.Table
) -> list[Section]:
    """What the contract and the version make of accepted rows."""
    contract = scorer.contract
    prepared = Preparer(contract, (micros(window[0]), micros(window[1])), features).prepare(table)
    decided = scorer.decide(prepared.matrix)
    times = prepared.times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    columns = {name: column.to_pylist() for name, column in prepared.columns.items()}
    keys = list(zip((name for name, _ in contract.entity_keys), key_types(contract), strict=True))
    return [
        Section(
            request_time_us=time,
            keys=tuple((kind, columns[f"key_{name}"][row]) for name, kind in keys),
            features=tuple(
                ("f32" if item.kind == "number" else "text", columns[f"{item.kind}_{item.name}"][row])
                for item in contract.fields
            ),
            ages_us=tuple(columns[f"age_{item.name}"][row] for item in contract.stored),
            flags=prepared.flags.lists[prepared.flags.codes[row]],
            outputs=tuple(float(decided.outputs[output.name][row]) for output in contract.outputs),
            decision=decided.decision_texts[decided.decisions[row]],
            reasons=decided.reasons.lists[decided.reasons.codes[row]],
        )
        for row, time in enumerate(times)
    ]


def decisions(
    online: OnlineWorld, rows: int, *, writer: str = WRITER, first: int = 0, decided_at: datetime = NOON, **changes: Any
) -> list[LoggedDecision]:
    """``rows`` decisions of one writer, about loans of their own, from sequence number ``first`` on."""
    rng = np.random.default_rng([*writer.encode(), first])
    table = loans(rows, seed=first + 1, start=first + 100_000 * (writer.encode()[-1] % 7))
    made = []
    for place, section in enumerate(sections(Scorer.of(online.world.artifact), history, (START, END), table)):
        at = decided_at + timedelta(milliseconds=place)
        header = Header(
            root_id=online.platform.root_id,
            model=MODEL,
            version=1,
            mode="online",
            role="primary",
            decision_of_record=True,
            contract_digest=CONTRACT.digest,
            artifact_digest=online.world.artifact.digest,
            route_digest="sha256:" + "1" * 64,
            epoch=3,
            flip_digest=None,
            clock="replay",
            decided_at_us=micros(at),
            recorded_at_us=micros(WALL) + place,
            latency_us=350 + place,
            supersedes=None,
            pair_of=None,
            writer=writer,
            prediction_id=uuid_v7(at, rng.bytes(10)),
            seq=first + place,
        )
        made.append(LoggedDecision(replace(header, **changes), section, rng.bytes(32)))
    return made


def refusal(loan: int, *, writer: str = WRITER, at: datetime = NOON) -> LoggedRefusal:
    """A request of that loan which broke two rules."""
    key = encode_row([("i64", loan), ("us", at)])
    why = (Refusal(0, "amount", "range", "number"), Refusal(0, "grade", "unknown", "text"))
    index = quarantine_index(bytes(32), MODEL, key)
    return LoggedRefusal(writer, MODEL, 1, CONTRACT.digest, micros(at), micros(WALL), index, why)


def payloads(items: Sequence[LoggedDecision | LoggedRefusal]) -> list[bytes]:
    return [encode_decision(one) if isinstance(one, LoggedDecision) else encode_refusal(one) for one in items]


def open_log(online: OnlineWorld, writer: str = WRITER, *, rotate_bytes: int = 1 << 30) -> WalWriter:
    """A living writer; it lives until it is closed or its process ends."""
    info = WriterInfo(writer, writer.partition("-")[0], MODEL, online.platform.root_id, format_utc(WALL), 1)
    return WalWriter(wal_folder(online.root, MODEL, writer), info, rotate_bytes=rotate_bytes, rotate_seconds=3600)


def log_all(
    online: OnlineWorld, items: Sequence[LoggedDecision | LoggedRefusal], *, writer: str = WRITER, files: int = 1
) -> None:
    """A writer that logged these in so many files and ended."""
    log = open_log(online, writer, rotate_bytes=1)
    size = -(-len(items) // files)
    for start in range(0, len(items), size):
        log.append(payloads(items[start : start + size]))
    log.close()


@dataclass(frozen=True)
class OnlineWorld:
    """A root of its own with one artifact, and the audit log's real rules."""

    platform: Platform
    world: World

    @property
    def root(self) -> Path:
        return self.platform.root

    @property
    def log(self) -> Registry:
        return self.platform.registry

    def sealed(self) -> list[dict[str, Any]]:
        """The segments of the log, in its order."""
        entries = [one for one in self.log.entries() if one.kind == "segments_sealed"]
        return [dict(segment) for entry in entries for segment in entry.body["segments"]]

    def proven(self) -> int:
        """How many records the tables hold, each with its leaf in its sealed segment."""
        leaves = {(index, leaf) for leaf, index in self.world.leaves()}
        stored = set()
        for one in self.sealed():
            tree = load_tiles(self.world.objects, load_segment(self.world.objects, one["id"]))
            stored |= {(index, tree.leaves[index * 32 : index * 32 + 32]) for index in range(tree.size)}
        assert leaves == stored
        return len(leaves)


def make_online(folder: Path, parts: dict[str, bytes]) -> OnlineWorld:
    """A root whose seeds are the same whenever it is made."""
    people = {"officer_a": ["a@example.org"]}
    platform = Platform.create(folder, kind="replay", member_keys=people, published_seed=bytes(range(32)))
    return open_online(platform.root, store_artifact(platform.objects, parts))


def open_online(root: Path, artifact: Artifact) -> OnlineWorld:
    platform = Platform.local(root)
    return OnlineWorld(platform, World(root, platform.objects, platform.lake, platform.subjects, artifact))


def seal_parts(online: OnlineWorld, *, wall: datetime = WALL + timedelta(seconds=5), **changes: Any) -> SealParts:
    base = SealParts(
        root_id=online.platform.root_id,
        wal=online.root / WAL_FOLDER,
        objects=online.world.objects,
        lake=online.world.lake,
        subjects=online.world.subjects,
        log=online.log,
        contracts={CONTRACT.digest: CONTRACT}.__getitem__,
        entity=lambda model: EntityOf("loan", True),
        wall=FixedClock(wall),
    )
    return replace(base, **changes)


def sealer(online: OnlineWorld, **changes: Any) -> OnlineSealer:
    return OnlineSealer(seal_parts(online, **changes))
