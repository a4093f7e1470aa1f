"""Windows over 100,000,000 source rows within 4 GB, beside DuckDB's own range window with the same memory.

Run: ``python benchmarks/out_of_core.py [--rows N] [--parts N] [--memory-gb N] [--folder FOLDER]``. Takes many minutes
and some gigabytes of disk.

Ours are the change points of a count and an exact sum over 30 days, refreshed daily: when each value changes, at the
arrival and at the leaving of rows. DuckDB's are the two values at each row. Both read one Parquet file and write
Parquet; each runs in a process of its own, whose peak memory is the system's figure. A sample of our values is compared
with brute force.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from ml_platform import Entity, FeatureView, SameAsEvent, Source, count, sum_  # noqa: E402
from ml_platform.features.parts import change_parts  # noqa: E402

DAY_US = 86_400_000_000
PAYMENTS = Source(
    "payments",
    columns={"payment": "int64", "account": "int64", "paid_at": "timestamp", "cents": "int64"},
    keys=("payment",),
    event_time="paid_at",
    known_time=SameAsEvent(reason="The ledger is the event."),
)
VIEW = FeatureView(
    "spending",
    entity=Entity("account", keys=("account",)),
    source=PAYMENTS,
    aggregations=[count(over="30d"), sum_("cents", over="30d")],
    refresh="1d",
)


def connect(memory_bytes: int, folder: Path):
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": f"{memory_bytes}B"})
    connection.execute(f"SET temp_directory = '{folder / 'spill'}'")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    return connection


def write_rows(folder: Path, rows: int) -> None:
    accounts = max(rows // 100, 1)
    connect(1_500_000_000, folder).execute(
        f"COPY (SELECT i AS payment, (hash(i) % {accounts})::BIGINT AS account, "
        f"make_timestamptz(((hash(i + {rows}) % {365 * DAY_US}))::BIGINT + 1600000000000000) AS paid_at, "
        f"(hash(i + {2 * rows}) % 100000)::BIGINT AS cents FROM range({rows}) t(i)) "
        f"TO '{folder / 'rows.parquet'}' (FORMAT parquet)"
    )


def ours(folder: Path, parts: int, memory_bytes: int) -> int:
    target = folder / "ours"
    (target / "work").mkdir(parents=True)
    written = 0
    data = ds.dataset(folder / "rows.parquet")
    made = change_parts(VIEW, data, parts=parts, folder=target / "work", memory_bytes=memory_bytes, threads=2)
    for number, part in enumerate(made):
        pq.write_table(part, target / f"part-{number:04d}.parquet")
        written += part.num_rows
    return written


def bare(folder: Path, _parts: int, memory_bytes: int) -> int:
    connect(memory_bytes, folder).execute(
        "COPY (SELECT account, paid_at, count(*) OVER w AS n, sum(cents) OVER w AS total "
        f"FROM '{folder / 'rows.parquet'}' WINDOW w AS (PARTITION BY account ORDER BY paid_at "
        f"RANGE BETWEEN INTERVAL 30 DAY PRECEDING AND CURRENT ROW)) TO '{folder / 'bare.parquet'}' (FORMAT parquet)"
    )
    return pq.read_metadata(folder / "bare.parquet").num_rows


def measured(task, results, *arguments) -> None:
    start, processor = time.perf_counter(), time.process_time()
    try:
        rows = task(*arguments)
    except Exception as error:  # noqa: BLE001 - a benchmark reports what the compared program says
        results.put((type(error).__name__, 0.0, 0.0, 0))
        return
    wall, cpu = time.perf_counter() - start, time.process_time() - processor
    results.put((rows, wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def in_a_process(task, *arguments):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measured, args=(task, results, *arguments))
    process.start()
    got = results.get()
    process.join()
    return got


def wrong_in_sample(folder: Path, sample: int = 40) -> int:
    """Of a few accounts: every change point against the rows themselves."""
    accounts = np.random.default_rng(0).integers(0, pq.read_metadata(folder / "rows.parquet").num_rows // 100, sample)
    chosen = ds.field("account").isin(accounts)
    rows = ds.dataset(folder / "rows.parquet").to_table(filter=chosen)
    key, at, cents = (rows[name].to_numpy() for name in ("account", "paid_at", "cents"))
    at = at.astype("datetime64[us]").astype(np.int64)
    found = ds.dataset(sorted((folder / "ours").glob("*.parquet"))).to_table(filter=chosen)
    wrong = 0
    for point in found.to_pylist():
        r_us = int(point["refreshed_at"].timestamp()) * 1_000_000
        inside = (key == point["account"]) & (at <= r_us) & (r_us < at + 30 * DAY_US)
        total = float(cents[inside].sum()) if inside.any() else None
        wrong += (point["count_30d"], point["cents_sum_30d"]) != (float(inside.sum()), total)
    return wrong if found.num_rows else sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--parts", type=int, default=100)
    parser.add_argument("--memory-gb", type=float, default=1.5, help="what DuckDB may take, in both")
    parser.add_argument("--folder", type=Path, default=None, help="where the rows and spilled parts lie for a while")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        in_a_process(write_rows, folder, options.rows)
        memory = int(options.memory_gb * 1e9)
        print(f"{options.rows:,} rows, {(folder / 'rows.parquet').stat().st_size / 1e9:.1f} GB of Parquet")
        print("| side | wall s | CPU s | peak GB | rows written | wrong in sample |")
        print("|---|---|---|---|---|---|")
        for side, task in (("ours", ours), ("DuckDB's range window", bare)):
            rows, wall, cpu, peak = in_a_process(task, folder, options.parts, memory)
            wrong = wrong_in_sample(folder) if side == "ours" and isinstance(rows, int) else "–"
            print(f"| {side} | {wall:.1f} | {cpu:.1f} | {peak / 1e9:.2f} | {rows} | {wrong} |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
