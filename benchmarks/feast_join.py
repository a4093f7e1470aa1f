"""Point-in-time join of 200,000 rows with two views of 1,000,000 rows × 5 features, beside Feast's two local stores.

Run: ``python benchmarks/feast_join.py [--rows N] [--history N] [--repeat N] [--feast-python PYTHON]``.

Feast needs numpy 2 and so an environment of its own: one is made for the run with pip, unless one is named. All sides
read the same Parquet files, known time = event time, and take turns in a process each; rows that do not come back and
values that differ from ours are counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
from point_in_time_join import FEATURES, write_data

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from ml_platform.features.duckdb import History, Join, point_in_time  # noqa: E402

VIEWS = ("one", "two")
FEAST = """
import json, sys, time, warnings
from datetime import timedelta
from pathlib import Path
warnings.filterwarnings("ignore")
folder, store_type, features = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
config = RepoConfig(project="p", provider="local", registry=str(folder / f"{store_type}.db"),
    offline_store={"type": store_type}, online_store=None, entity_key_serialization_version=3)
store = FeatureStore(config=config)
entity = Entity(name="key", join_keys=["key"])
views = [FeatureView(name=name, entities=[entity], ttl=timedelta(days=3650), online=False,
    schema=[Field(name=f"{name}_{n}", dtype=Float64) for n in range(features)],
    source=FileSource(path=str(folder / f"{name}.parquet"), timestamp_field="event_time")) for name in ("one", "two")]
store.apply([entity, *views])
start, processor = time.perf_counter(), time.process_time()
rows = pd.read_parquet(folder / "rows.parquet").rename(columns={"t": "event_timestamp"})
found = store.get_historical_features(
    entity_df=rows, features=[f"{v.name}:{f.name}" for v in views for f in v.features]).to_df()
wall, cpu = time.perf_counter() - start, time.process_time() - processor
found.drop(columns="event_timestamp").to_parquet(folder / f"{store_type}.parquet")
print(json.dumps([wall, cpu, len(found)]))
"""


def ours(folder: Path) -> tuple[float, float, int]:
    start, processor = time.perf_counter(), time.process_time()
    joins = []
    for view in VIEWS:
        data = ds.dataset(folder / f"{view}.parquet")
        values = tuple(f"{view}_{number}" for number in range(FEATURES))
        joins.append(Join(view, History(data, ("key",), "event_time", "event_time", values)))
    found = point_in_time(pq.read_table(folder / "rows.parquet"), time="t", joins=joins, threads=2)
    taken = time.perf_counter() - start, time.process_time() - processor, found.num_rows
    pq.write_table(found, folder / "ours.parquet")
    return taken


def feast(python: Path, folder: Path, store: str) -> tuple[float, float, int]:
    command = [str(python), "-c", FEAST, str(folder), store, str(FEATURES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Feast's {store} store failed: {done.stderr.strip().splitlines()[-1]}")
    wall, cpu, rows = json.loads(done.stdout.strip().splitlines()[-1])
    return wall, cpu, rows


def differing(folder: Path, store: str) -> int:
    """Rows that came back with other values than ours."""
    names = ["row", *(f"{view}_{number}" for view in VIEWS for number in range(FEATURES))]
    mine = pq.read_table(folder / "ours.parquet").select(names).to_pandas().set_index("row")
    theirs = pq.read_table(folder / f"{store}.parquet").select(names).to_pandas().set_index("row")
    mine = mine.loc[theirs.index]
    return int(((mine != theirs) & ~(mine.isna() & theirs.isna())).any(axis=1).sum())


def environment(folder: Path) -> Path:
    venv.create(folder / "feast", with_pip=True)
    python = folder / "feast" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "feast[duckdb]"], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--feast-python", type=Path, default=None, help="an interpreter that has feast[duckdb]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = options.feast_python or environment(folder)
        write_data(folder, options.rows, options.history)
        sides = {"ours, 2 threads": None, "Feast, DuckDB store": "duckdb", "Feast, file store": "file"}
        taken = {side: [] for side in sides}
        for _ in range(options.repeat):
            for side, store in sides.items():
                taken[side].append(ours(folder) if store is None else feast(python, folder, store))
        print("| join | median s | × ours | CPU s | rows lost | rows that differ from ours |")
        print("|---|---|---|---|---|---|")
        base = statistics.median(run[0] for run in taken["ours, 2 threads"])
        for side, store in sides.items():
            wall, cpu, rows = (statistics.median(column) for column in zip(*taken[side], strict=True))
            other = "–" if store is None else differing(folder, store)
            print(f"| {side} | {wall:.2f} | {wall / base:.2f} | {cpu:.2f} | {options.rows - rows:.0f} | {other} |")


if __name__ == "__main__":
    main()
