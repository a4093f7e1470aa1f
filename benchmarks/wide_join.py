"""Point-in-time join of 17,000 rows with 1,000 features in 50 views, beside DuckDB's bare ASOF joins.

Run: ``python benchmarks/wide_join.py [--rows N] [--views N] [--features N] [--history N] [--threads N] [--repeat N]``.

Each view has its own history of 50,000 rows, a third of them known late. The bare side joins one view after the other
by event time only, in one connection. Sides take turns, each time in a process of its own whose peak memory is the
system's figure; medians are compared.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from ml_platform.features.duckdb import History, Join, point_in_time  # noqa: E402

DAY_US = 86_400_000_000
START_US = 1_600_000_000_000_000
ENTITIES = 10_000


def utc(micros: np.ndarray) -> pa.Array:
    return pa.array(micros).cast(pa.timestamp("us", "UTC"))


def write_data(folder: Path, options: argparse.Namespace) -> None:
    generator = np.random.default_rng(0)
    times = START_US + generator.integers(0, 365 * DAY_US, options.rows)
    keys = generator.integers(0, ENTITIES, options.rows)
    pq.write_table(pa.table({"key": keys, "t": utc(times)}), folder / "rows.parquet")
    for view in range(options.views):
        event = START_US + generator.integers(0, 365 * DAY_US, options.history)
        late = (generator.random(options.history) < 0.3) * generator.integers(0, 20 * DAY_US, options.history)
        columns = {"key": generator.integers(0, ENTITIES, options.history), "e": utc(event), "k": utc(event + late)}
        columns |= {name: generator.normal(size=options.history) for name in features(view, options)}
        pq.write_table(pa.table(columns), folder / f"view_{view}.parquet")


def features(view: int, options: argparse.Namespace) -> list[str]:
    return [f"f{view}_{number}" for number in range(options.features // options.views)]


def ours(folder: Path, options: argparse.Namespace) -> int:
    joins = []
    for view in range(options.views):
        data = pq.read_table(folder / f"view_{view}.parquet")
        joins.append(Join(f"v{view}", History(data, ("key",), "e", "k", tuple(features(view, options)))))
    rows = pq.read_table(folder / "rows.parquet")
    return point_in_time(rows, time="t", joins=joins, threads=options.threads).num_columns


def bare(folder: Path, options: argparse.Namespace) -> int:
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": options.threads})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET asof_loop_join_threshold = 0")
    columns = 0
    for view in range(options.views):
        chosen = ", ".join(features(view, options))
        found = connection.sql(
            f"SELECT r.*, {chosen} FROM '{folder}/rows.parquet' r "
            f"ASOF LEFT JOIN '{folder}/view_{view}.parquet' h ON r.key = h.key AND r.t >= h.e"
        )
        columns += found.to_arrow_table().num_columns
    return columns


def measured(task, results, *arguments) -> None:
    start, processor = time.perf_counter(), time.process_time()
    task(*arguments)
    wall, cpu = time.perf_counter() - start, time.process_time() - processor
    results.put((wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def in_a_process(task, *arguments):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measured, args=(task, results, *arguments))
    process.start()
    got = results.get()
    process.join()
    return got


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=17_000)
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--features", type=int, default=1_000)
    parser.add_argument("--history", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options)
        sides = {"DuckDB bare ASOF, view by view": bare, "ours, bitemporal": ours}
        taken = {side: [] for side in sides}
        for _ in range(options.repeat):
            for side, task in sides.items():
                taken[side].append(in_a_process(task, folder, options))
        print(f"{options.rows:,} rows × {options.features:,} features in {options.views} views")
        print("| side | median s | least s | CPU s | × bare CPU | peak GB |")
        print("|---|---|---|---|---|---|")
        base = statistics.median(run[1] for run in taken["DuckDB bare ASOF, view by view"])
        for side, runs in taken.items():
            wall, cpu, peak = (statistics.median(column) for column in zip(*runs, strict=True))
            least = min(run[0] for run in runs)
            print(f"| {side} | {wall:.2f} | {least:.2f} | {cpu:.2f} | {cpu / base:.2f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
