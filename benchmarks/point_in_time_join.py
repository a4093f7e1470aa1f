"""Point-in-time join of 200,000 rows with two views of 1,000,000 rows × 5 features, beside DuckDB's bare ASOF.

Run: ``python benchmarks/point_in_time_join.py [--rows N] [--history N] [--threads N …] [--repeat N]``.

All sides read the same Parquet files with the same threads and take turns; medians are compared, and processor time
beside them, which other work on the machine disturbs less. Before that, a sample of our values is compared with brute
force, and the times of every value with the row's: none may come from the future.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from ml_platform.features.duckdb import History, Join, point_in_time  # noqa: E402

DAY_US = 86_400_000_000
START_US = 1_600_000_000_000_000
ENTITIES = 100_000
FEATURES = 5


def utc(micros: np.ndarray) -> pa.Array:
    return pa.array(micros).cast(pa.timestamp("us", "UTC"))


def write_data(folder: Path, rows: int, history: int) -> None:
    generator = np.random.default_rng(0)
    times = START_US + generator.integers(0, 365 * DAY_US, rows)
    table = pa.table({"row": np.arange(rows), "key": generator.integers(0, ENTITIES, rows), "t": utc(times)})
    pq.write_table(table, folder / "rows.parquet")
    for view in ("one", "two"):
        event = START_US + generator.integers(0, 365 * DAY_US, history)
        late = (generator.random(history) < 0.3) * generator.integers(0, 20 * DAY_US, history)
        columns = {
            "key": generator.integers(0, ENTITIES, history),
            "event_time": utc(event),
            "known_time": utc(event + late),
        }
        columns |= {f"{view}_{number}": generator.normal(size=history) for number in range(FEATURES)}
        pq.write_table(pa.table(columns), folder / f"{view}.parquet")


def ours(folder: Path, threads: int, known_time: str) -> pa.Table:
    joins = [
        Join(
            view,
            History(
                ds.dataset(folder / f"{view}.parquet"),
                keys=("key",),
                event_time="event_time",
                known_time=known_time,
                values=tuple(f"{view}_{number}" for number in range(FEATURES)),
            ),
        )
        for view in ("one", "two")
    ]
    return point_in_time(pq.read_table(folder / "rows.parquet"), time="t", joins=joins, threads=threads)


def bare(folder: Path, threads: int) -> pa.Table:
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": threads})
    connection.execute("SET TimeZone = 'UTC'")
    features = ", ".join(f"{view}_{number}" for view in ("one", "two") for number in range(FEATURES))
    return connection.sql(
        f"SELECT r.*, {features} FROM '{folder}/rows.parquet' r"
        f" ASOF LEFT JOIN '{folder}/one.parquet' a ON r.key = a.key AND r.t >= a.event_time"
        f" ASOF LEFT JOIN '{folder}/two.parquet' b ON r.key = b.key AND r.t >= b.event_time"
    ).to_arrow_table()


def micros(table: pa.Table, name: str) -> np.ndarray:
    return table[name].cast(pa.int64()).to_numpy(zero_copy_only=False)


def check(folder: Path, joined: pa.Table, known_time: str, sample: int = 500) -> tuple[int, int]:
    """Leaks over all rows, and wrong values of the sample by brute force."""
    leaks = wrong = 0
    asked = micros(joined, "t")
    for view in ("one", "two"):
        found = joined[f"{view}__event_time"].is_valid().to_numpy()
        for name in (f"{view}__event_time", f"{view}__known_time"):
            leaks += int((micros(joined.filter(pa.array(found)), name) > asked[found]).sum())
        history = pq.read_table(folder / f"{view}.parquet")
        key, event, known = history["key"].to_numpy(), micros(history, "event_time"), micros(history, known_time)
        order = np.argsort(key, kind="stable")
        for row in np.random.default_rng(1).choice(joined.num_rows, min(sample, joined.num_rows), replace=False):
            wanted = joined["key"][int(row)].as_py()
            mine = order[np.searchsorted(key[order], wanted) : np.searchsorted(key[order], wanted, "right")]
            mine = mine[np.maximum(event[mine], known[mine]) <= asked[row]]
            best = max(mine, key=lambda i: (event[i], known[i]), default=None)
            for number in range(FEATURES):
                value = None if best is None else history[f"{view}_{number}"][int(best)].as_py()
                wrong += joined[f"{view}_{number}"][int(row)].as_py() != value
    return leaks, wrong


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    start, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.rows, options.history)
        print("| join | threads | median s | × bare | CPU s | × bare | leaks | wrong in sample |")
        print("|---|---|---|---|---|---|---|---|")
        for threads in options.threads:
            sides: dict[str, Callable[[], pa.Table]] = {
                "DuckDB bare ASOF, no order": lambda threads=threads: bare(folder, threads),
                "ours, known = event": lambda threads=threads: ours(folder, threads, "event_time"),
                "ours, bitemporal": lambda threads=threads: ours(folder, threads, "known_time"),
            }
            checked = {
                "ours, known = event": check(folder, ours(folder, threads, "event_time"), "event_time"),
                "ours, bitemporal": check(folder, ours(folder, threads, "known_time"), "known_time"),
            }
            taken = {side: [] for side in sides}
            for _ in range(options.repeat):
                for side, function in sides.items():
                    taken[side].append(seconds(function))
            medians = {
                side: [statistics.median(column) for column in zip(*runs, strict=True)] for side, runs in taken.items()
            }
            base = medians["DuckDB bare ASOF, no order"]
            for side, (wall, cpu) in medians.items():
                leaks, wrong = checked.get(side, ("–", "–"))
                ratios = f"{wall:.3f} | {wall / base[0]:.2f} | {cpu:.3f} | {cpu / base[1]:.2f}"
                print(f"| {side} | {threads} | {ratios} | {leaks} | {wrong} |")


if __name__ == "__main__":
    main()
