"""Decisions as a router logs them, made by the real contract and model, in a real write-ahead log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ml_platform.core.clock import FixedClock, format_utc
from ml_platform.core.contract import Refusal
from ml_platform.core.errors import Conflict
from ml_platform.core.ids import uuid_v7
from ml_platform.core.rows import encode_row, micros
from ml_platform.registry.state import WriterState
from ml_platform.serving import Scorer
from ml_platform.serving.online_columns import EntityOf
from ml_platform.serving.online_record import LoggedDecision, LoggedRefusal, encode_decision, encode_refusal
from ml_platform.serving.online_sealing import OnlineSealer, SealParts
from ml_platform.serving.preparing import Preparer
from ml_platform.serving.record import Header, Section
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.wal import WalWriter, WriterInfo, wal_folder
from tests.serving.support import CONTRACT, END, ROOT_ID, START, World, history, loans

MODEL = "credit_risk"
WRITER = "router-" + "ab" * 16
NOON = datetime(2010, 6, 1, 12, tzinfo=UTC)
WALL = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def sections(world: World, table: pa.Table) -> list[Section]:
    """What the contract and the version make of accepted rows."""
    prepared = Preparer(CONTRACT, (micros(START), micros(END)), history).prepare(table)
    decided = Scorer.of(world.artifact).decide(prepared.matrix)
    times = prepared.times.cast(pa.int64()).to_pylist()
    columns = {name: column.to_pylist() for name, column in prepared.columns.items()}
    found = []
    for row, time in enumerate(times):
        found.append(
            Section(
                request_time_us=time,
                keys=(("i64", columns["key_loan_id"][row]),),
                features=tuple(
                    ("f32" if item.kind == "number" else "text", columns[f"{item.kind}_{item.name}"][row])
                    for item in CONTRACT.fields
                ),
                ages_us=tuple(columns[f"age_{item.name}"][row] for item in CONTRACT.stored),
                flags=prepared.flags.lists[prepared.flags.codes[row]],
                outputs=tuple(float(decided.outputs[output.name][row]) for output in CONTRACT.outputs),
                decision=decided.decision_texts[decided.decisions[row]],
                reasons=decided.reasons.lists[decided.reasons.codes[row]],
            )
        )
    return found


def decisions(
    world: World, rows: int, *, writer: str = WRITER, first: int = 0, decided_at: datetime = NOON, **changes: Any
) -> list[LoggedDecision]:
    """``rows`` decisions of one writer, about loans of their own, from sequence number ``first`` on."""
    rng = np.random.default_rng([*writer.encode(), first])
    made = []
    for place, section in enumerate(sections(world, loans(rows, seed=first + 1, start=first + 1000 * (len(writer) % 7)))):
        at = decided_at + timedelta(milliseconds=place)
        header = Header(
            root_id=ROOT_ID,
            model=MODEL,
            version=1,
            mode="online",
            role="primary",
            decision_of_record=True,
            contract_digest=CONTRACT.digest,
            artifact_digest=world.artifact.digest,
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


def open_log(root: Path, writer: str = WRITER, *, rotate_bytes: int = 1 << 30, root_id: str = ROOT_ID) -> WalWriter:
    info = WriterInfo(writer, writer.partition("-")[0], MODEL, root_id, format_utc(WALL), 1)
    return WalWriter(wal_folder(root, MODEL, writer), info, rotate_bytes=rotate_bytes, rotate_seconds=3600)


def log_all(root: Path, items: Sequence[LoggedDecision | LoggedRefusal], *, writer: str = WRITER, files: int = 1) -> None:
    """A writer that logged these in so many files and ended."""
    log = open_log(root, writer, rotate_bytes=1)
    size = -(-len(items) // files)
    for start in range(0, len(items), size):
        log.append(payloads(items[start : start + size]))
    log.close()


@dataclass
class Log:
    """The audit log's rules about segments, in memory."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    writers: dict[str, WriterState] = field(default_factory=dict)

    def state(self) -> Log:
        return self

    def seal_segments(self, segments: Sequence[Any]) -> list[int]:
        for one in segments:
            known = [entry for entry in self.entries if entry["id"] == one["id"]]
            if known:
                if known[0] != dict(one):
                    raise Conflict("Sealed with other content.", field="id", next_step="Find which is real.")
                continue
            before = self.writers.get(one["writer"]) or WriterState(0)
            assert not before.closed and before.next_seq == one["first_seq"], (before, one)
            self.entries.append(dict(one))
            self.writers[one["writer"]] = WriterState(one["last_seq"] + 1)
        return []

    def close_writer(self, writer: str, last_seq: int) -> int | None:
        assert self.writers[writer].next_seq == last_seq + 1
        self.writers[writer] = WriterState(last_seq + 1, closed=True)
        return None


def seal_parts(world: World, log: Any, *, wall: datetime = WALL + timedelta(seconds=5), **changes: Any) -> SealParts:
    base = SealParts(
        root_id=ROOT_ID,
        wal=world.root / "wal",
        objects=world.objects,
        lake=world.lake,
        subjects=world.subjects,
        log=log,
        contracts={CONTRACT.digest: CONTRACT}.__getitem__,
        entity=lambda model: EntityOf("loan", True),
        wall=FixedClock(wall),
    )
    return replace(base, **changes)


def sealer(world: World, log: Any, **changes: Any) -> OnlineSealer:
    return OnlineSealer(seal_parts(world, log, **changes))
