"""Online decisions for benchmarks: `credit_risk` decides the market's loans, and a router's log holds them.

Contract, features and model are the real ones, whole columns at a time; header, section and frame are those of a
router. Beyond some thousand, decisions repeat: with other loans, times, ids, numbers and salts, so that every record is
one of its own, under its own leaf. What is not measured here is the router itself.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
FRAMES_A_SYNC = 64


def requests(platform, records: int, days: int) -> pa.Table:
    """So many applications of the first days of 2010, by time; loans beyond the market's are the same under new ids."""
    from assets.credit_risk import credit_risk
    from ml_platform.lifecycle.sources import read_source

    view = credit_risk.request
    start = datetime(2010, 1, 1, tzinfo=UTC)
    table = read_source(platform, view.source, known_until_us=2**53)
    times = pa.compute.field(view.time)
    end = pa.scalar(start + timedelta(days=180), pa.timestamp("us", "UTC"))
    table = table.filter((times >= pa.scalar(start, pa.timestamp("us", "UTC"))) & (times < end))
    place, loans = np.arange(records), table.num_rows
    table = table.take(place % loans)
    ids = table.column("loan_id").to_numpy() + place // loans * 100_000_000
    stamps = np.linspace(0, days * 86_400_000_000 - 1, records).astype(np.int64) + int(start.timestamp()) * 1_000_000
    for name, values in (("loan_id", pa.array(ids)), (view.time, pa.array(stamps, pa.timestamp("us", "UTC")))):
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def decisions(platform, table: pa.Table, writer: str, *, chunk: int = 16_384) -> Iterator[bytes]:
    """Payloads of one writer about these requests; decided at the request's time."""
    from assets.credit_risk import credit_risk
    from ml_platform.core.ids import uuid_v7
    from ml_platform.core.rows import micros
    from ml_platform.lifecycle.features import feature_reader
    from ml_platform.serving import Header, Scorer, Section
    from ml_platform.serving.online_record import LoggedDecision, encode_decision, key_types
    from ml_platform.serving.preparing import Preparer

    version = platform.registry.state().version(credit_risk.name, 1)
    scorer = Scorer.load(platform.objects, version.digests.artifact)
    contract = scorer.contract
    keys = list(zip((name for name, _ in contract.entity_keys), key_types(contract), strict=True))
    names = [*(name for name, _ in contract.entity_keys), contract.time, *(item.name for item in contract.inputs)]
    seq, wall = 0, micros(platform.wall.now())
    for start in range(0, table.num_rows, chunk):
        rows = table.slice(start, chunk).select(names)
        prepared = Preparer(contract, (0, 2**53), feature_reader(platform)).prepare(rows)
        decided = scorer.decide(prepared.matrix)
        columns = {name: column.to_pylist() for name, column in prepared.columns.items()}
        times = prepared.times.cast(pa.int64()).to_pylist()
        for row, time in enumerate(times):
            at = datetime.fromtimestamp(time / 1_000_000, UTC)
            header = Header(
                platform.root_id, credit_risk.name, 1, "online", "primary", True, contract.digest,
                version.digests.artifact, "sha256:" + "0" * 64, 1, None, "replay", time, wall, 350, None, None,
                writer, uuid_v7(at, secrets.token_bytes(10)), seq,
            )  # fmt: skip
            section = Section(
                time,
                tuple((kind, columns[f"key_{name}"][row]) for name, kind in keys),
                tuple(
                    ("f32" if item.kind == "number" else "text", columns[f"{item.kind}_{item.name}"][row])
                    for item in contract.fields
                ),
                tuple(columns[f"age_{item.name}"][row] for item in contract.stored),
                prepared.flags.lists[prepared.flags.codes[row]],
                tuple(float(decided.outputs[output.name][row]) for output in contract.outputs),
                decided.decision_texts[decided.decisions[row]],
                decided.reasons.lists[decided.reasons.codes[row]],
            )  # fmt: skip
            seq += 1
            yield encode_decision(LoggedDecision(header, section, secrets.token_bytes(32)))


def repeated(payloads: list[bytes], writer: str, table: pa.Table, first: int) -> Iterator[bytes]:
    """The same decisions again, about other loans at other times, with ids, numbers and salts of their own.

    Args:
        payloads: decisions of one writer in a replay root, none of which supersedes another.
        writer: whose decisions these are; its name is as long.
        table: the requests that they are about.
        first: the number of the first.
    """
    from assets.credit_risk import credit_risk

    ids = table.column("loan_id").to_pylist()
    times = table.column(credit_risk.request.time).cast(pa.int64()).to_pylist()
    name = writer.encode()
    for place, (loan, time) in enumerate(zip(ids, times, strict=True)):
        raw = bytearray(payloads[place % len(payloads)])
        end = 6 + int.from_bytes(
            raw[2:6], "little"
        )  # of the header: … decided, recorded, latency, 2 nulls, writer, id, seq
        raw[end - 8 : end] = (first + place).to_bytes(8, "little")
        stamp = (time // 1000).to_bytes(6, "big") + b"\x70\x00\x80" + secrets.token_bytes(7)
        raw[end - 25 : end - 9] = stamp
        raw[end - 30 - len(name) : end - 30] = name
        decided = end - 30 - len(name) - 5 - 2 - 27
        for at in (decided + 1, end + 5 + 36):
            raw[at : at + 8] = time.to_bytes(8, "little", signed=True)
        raw[end + 50 : end + 58] = loan.to_bytes(8, "little", signed=True)
        raw[-32:] = secrets.token_bytes(32)
        yield bytes(raw)


def open_log(platform, writer: str):
    from assets.credit_risk import credit_risk
    from ml_platform.core.clock import format_utc
    from ml_platform.serving.wal import WalWriter, WriterInfo, wal_folder

    info = WriterInfo(writer, "router", credit_risk.name, platform.root_id, format_utc(platform.wall.now()), 1)
    return WalWriter(wal_folder(platform.root, credit_risk.name, writer), info)


def log_requests(platform, table: pa.Table, *, batch: int = 4_096, decided: int = 16_384) -> None:
    """One router's log of decisions about all of them; the router has ended. The model decides the first ones."""
    writer = f"router-{secrets.token_hex(16)}"
    made = list(decisions(platform, table.slice(0, decided), writer))
    more = repeated(made, writer, table.slice(len(made)), len(made))
    log, waiting = open_log(platform, writer), made
    for payload in more:
        waiting.append(payload)
        if len(waiting) >= batch:
            log.append(waiting)
            waiting = []
    log.append(waiting)
    log.close()
