"""The audit log: append and verify 100,000 entries, beside bare SQLite inserts of the same bytes, as durable.

Entries: nine in ten seal a segment, one in ten requests a candidate, for 30 models. Appended in transactions of 1,000,
then one by one; an entry is judged, hashed into the tree and durable (WAL, synchronous=FULL) when its append returns.
Reach: 1,000 appends/s, full verification of 1,000,000 entries in under 30 s, an inclusion proof in under 10 ms.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ml_platform.core.objects import ObjectStore
from ml_platform.registry import CheckpointSigner, Member, Registry, Signer, create, policy_document
from ml_platform.registry.events import Event
from ml_platform.registry.sshsig import public_key_line

BATCH = 1_000
SINGLES = 500
ROOT_ID = "00" * 16
DIGEST = "sha256:" + "ab" * 32
TIME = "2026-01-05T09:00:00.000000Z"


def new_registry(folder: Path) -> Registry:
    lines = [public_key_line(Ed25519PrivateKey.generate()) for _ in range(3)]
    log = Signer(f"ml-platform/{ROOT_ID}", Ed25519PrivateKey.generate())
    genesis = create(
        root_id=ROOT_ID,
        root_kind="wall",
        seed_class="private",
        seed=None,
        log_vkey=log.verifier.vkey,
        service_key=lines[0],
        evaluator_key=lines[1],
        members=[Member("officer:one", lines[2])],
        policy=policy_document({"high": {}}),
    )
    signer = CheckpointSigner(log, folder / "high_water")
    return Registry.create(f"sqlite:///{folder / 'log.sqlite'}", ObjectStore(folder / "store"), genesis, signer=signer)


def event(number: int) -> Event:
    model = f"model_{number % 30}"
    if number % 10 == 0:
        candidate = f"20260105T000000Z_{number:012x}"
        body = {"candidate": candidate, "as_of": TIME, "spec": DIGEST, "inputs": DIGEST, "requested_by": "service"}
        return Event("candidate_requested", body, model)
    segment = {
        "id": f"segment-{number}", "size": 100, "root": DIGEST, "models": [model], "first_id": f"{number:036d}",
        "last_id": f"{number:036d}", "writer": f"writer-{number}", "first_seq": 0, "last_seq": 99,
        "counts": {"decisions": 100, "flagged": 3}, "min_decided_at": TIME, "max_decided_at": TIME,
    }  # fmt: skip
    return Event("segments_sealed", {"segments": [segment]})


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare(folder: Path, rows: list[tuple[int, bytes, bytes]], batch: int) -> float:
    """The same bytes into one table, the same durability, nothing else."""
    connection = sqlite3.connect(folder / f"bare_{batch}.sqlite", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("create table entries (entry integer primary key, raw blob not null, leaf_hash blob not null)")

    def insert() -> None:
        for start in range(0, len(rows), batch):
            connection.execute("begin immediate")
            connection.executemany("insert into entries values (?, ?, ?)", rows[start : start + batch])
            connection.execute("commit")

    return seconds(insert)


def run(folder: Path, entries: int) -> dict[str, float]:
    registry = new_registry(folder)
    log = registry._log
    events = [event(number) for number in range(entries + SINGLES)]

    def append_batches() -> None:
        for start in range(0, entries, BATCH):
            log.append(events[start : min(start + BATCH, entries)])

    batched = seconds(append_batches)
    single = seconds(lambda: [log.append([one]) for one in events[entries:]])
    registry.checkpoint()
    note = registry.inclusion(entries // 2).checkpoint
    proofs = [seconds(lambda index=index: registry.inclusion(index)) for index in range(1, entries, entries // 100)]
    reopened = Registry.open(
        f"sqlite:///{folder / 'log.sqlite'}", ObjectStore(folder / "store"), signer=registry._checkpoints._signer
    )
    opening = seconds(reopened.state)
    start = time.perf_counter()
    report = reopened.verify(since=note)
    verifying = time.perf_counter() - start
    assert report.ok, report.statement
    with sqlite3.connect(folder / "log.sqlite") as connection:
        rows = connection.execute("select entry, raw, leaf_hash from entries order by entry").fetchall()
    bare_batched = bare(folder, rows[: entries + 1], BATCH)
    bare_single = bare(folder, rows[-SINGLES:], 1)
    return {
        "entries": entries,
        "appends_per_second_in_batches": entries / batched,
        "bare_sqlite_inserts_per_second_in_batches": (entries + 1) / bare_batched,
        "ratio_in_batches": bare_batched / batched,
        "appends_per_second_one_by_one": SINGLES / single,
        "bare_sqlite_inserts_per_second_one_by_one": SINGLES / bare_single,
        "ratio_one_by_one": bare_single / single,
        "verify_seconds": verifying,
        "verify_seconds_per_million": verifying / len(rows) * 1e6,
        "open_and_fold_seconds": opening,
        "inclusion_proof_ms_median": sorted(proofs)[len(proofs) // 2] * 1e3,
        "inclusion_proof_ms_largest": max(proofs) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), arguments.entries)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:>45}  {value:,.2f}")


if __name__ == "__main__":
    main()
