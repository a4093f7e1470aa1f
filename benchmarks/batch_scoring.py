"""Batch scoring, read to written and recorded, against pandas + LightGBM on the same file and in memory.

    python benchmarks/batch_scoring.py [--rows 1000000] [--threads 1,2] [--repeat 3] [--json]

Each measurement is a process of its own (so that peak memory is its own); imports and loading the model are not timed.
``pandas`` reads the Parquet file, predicts and writes the rows with their score to Parquet. ``predict`` is LightGBM's
``predict`` on a float32 matrix in memory. ``ours`` reads the same file through contract and ONNX and writes records:
ids, salts, commitments, leaves, Merkle tree, two record tables, the entity index, tiles and the commit marker.
The number of threads is that of LightGBM and of our scoring; reading, hashing and writing use whatever core is free,
in pandas as in ours.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
FEATURES = [f"x{number:02d}" for number in range(24)]
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
MONTH_US = 31 * 86_400_000_000


def contract():
    from ml_platform.core.contract import Contract, ResolvedField

    fields = tuple(ResolvedField(name, f"bench@sha256:00:{name}", "input", "number", "float64") for name in FEATURES)
    return Contract((("row_id", "int64"),), "at", fields)


def make(folder: Path, rows: int) -> None:
    """A model of 200 trees with 31 leaves, and a Parquet file of ``rows`` rows."""
    from ml_platform.core.objects import ObjectStore
    from ml_platform.training.artifact import CONTRACT_PART, DECISION_PART, ONNX_PART, store_artifact
    from ml_platform.training.decision import Decline
    from ml_platform.training.lightgbm import NATIVE_PART, LightGBM
    from ml_platform.training.trainer import RunContext, TrainingData

    rng = np.random.default_rng(1)
    train = rng.normal(size=(100_000, len(FEATURES))).astype(np.float32)
    labels = (train[:, 0] + train[:, 1] * train[:, 2] + rng.normal(size=len(train)) > 0).astype(np.float64)
    trainer = LightGBM(num_leaves=31, rounds=200, learning_rate=0.1, min_data_in_leaf=50)
    native = trainer.fit(TrainingData(train, labels, contract()), RunContext(seed=1, threads=2))
    parts = {
        NATIVE_PART: native,
        ONNX_PART: trainer.to_onnx(native, contract()),
        CONTRACT_PART: contract().to_bytes(),
        DECISION_PART: Decline(0.5, dict.fromkeys(FEATURES, "reason")).to_bytes(),
    }
    (folder / "artifact").write_text(store_artifact(ObjectStore(folder / "objects"), parts).digest)
    (folder / "model.txt").write_bytes(native)
    schema = pa.schema(
        [("row_id", pa.int64()), ("at", pa.timestamp("us", "UTC")), *((n, pa.float32()) for n in FEATURES)]
    )
    with pq.ParquetWriter(folder / f"rows-{rows}.parquet", schema) as writer:
        for first in range(0, rows, 100_000):
            size = min(100_000, rows - first)
            times = int(START.timestamp()) * 1_000_000 + rng.integers(0, MONTH_US, size)
            columns = [pa.array(np.arange(first, first + size)), pa.array(times, pa.timestamp("us", "UTC"))]
            columns += [pa.array(rng.normal(size=size).astype(np.float32)) for _ in FEATURES]
            writer.write_table(pa.table(columns, schema=schema))


def booster(folder: Path):
    import lightgbm

    return lightgbm.Booster(model_str=(folder / "model.txt").read_text())


@dataclass
class Timed:
    """Wall-clock and processor seconds (all threads) of a ``with`` block."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __enter__(self):
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error):
        self.seconds, self.cpu_seconds = time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def run_pandas(folder: Path, source: Path, threads: int) -> Timed:
    import pandas as pd

    model = booster(folder)
    with Timed() as timed:
        frame = pd.read_parquet(source)
        frame["score"] = model.predict(frame[FEATURES], num_threads=threads)
        frame.to_parquet(folder / "scored.parquet")
    return timed


def run_predict(folder: Path, source: Path, threads: int) -> Timed:
    model = booster(folder)
    table = pq.read_table(source, columns=FEATURES)
    matrix = np.column_stack([column.to_numpy() for column in table.columns])
    with Timed() as timed:
        model.predict(matrix, num_threads=threads)
    return timed


def run_ours(folder: Path, source: Path, threads: int, *, personal: bool, known: bool = True) -> Timed:
    from ml_platform.core.delta import Lake
    from ml_platform.core.objects import ObjectStore
    from ml_platform.core.rows import encode_row
    from ml_platform.core.subjects import Subjects
    from ml_platform.serving import BatchJob, BatchParts, Scorer, score_partition

    objects, digest = ObjectStore(folder / "objects"), (folder / "artifact").read_text()
    scorer = Scorer.load(objects, digest, threads=threads, reasons=False)
    with tempfile.TemporaryDirectory(dir=folder) as root:
        subjects = Subjects(Path(root) / "subjects.db", root_seed=None)
        if personal and known:
            for first in range(0, pq.read_metadata(source).num_rows, 100_000):
                subjects.seeds("row", [encode_row([("i64", row)]) for row in range(first, first + 100_000)])
        job = BatchJob(
            root_id="0" * 32, model="bench", partition="2026-01", start=START, end=END, version=1,
            artifact_digest=digest, decided_at=END, recorded_at=END, clock="wall", entity="row", personal=personal,
        )  # fmt: skip
        parts = BatchParts(
            objects=ObjectStore(Path(root) / "objects"),
            lake=Lake(Path(root) / "lake"),
            subjects=subjects,
            load=lambda _: scorer,
            rows=lambda _: pq.ParquetFile(source, pre_buffer=False).iter_batches(65_536),
            scratch=Path(root) / "scratch",
        )
        with Timed() as timed:
            result = score_partition(job, parts)
    assert result.accepted == pq.read_metadata(source).num_rows
    return timed


MODES = {
    "pandas": run_pandas,
    "predict": run_predict,
    "ours": lambda *given: run_ours(*given, personal=False),
    "ours, personal": lambda *given: run_ours(*given, personal=True),
    "ours, personal, new subjects": lambda *given: run_ours(*given, personal=True, known=False),
}


def measured(mode: str, folder: Path, rows: int, threads: int, repeat: int) -> dict[str, float]:
    command = [
        sys.executable,
        __file__,
        "--one",
        mode,
        "--folder",
        str(folder),
        "--rows",
        str(rows),
        "--threads",
        str(threads),
    ]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(repeat)]
    return {key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu_seconds", "peak_mb")}


def table(folder: Path, rows: int, threads: list[int], repeat: int) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    for count in threads:
        found = {mode: measured(mode, folder, rows, count, repeat) for mode in MODES}
        for mode, figures in found.items():
            lines.append(
                {
                    "threads": count,
                    "what": mode,
                    "seconds": round(figures["seconds"], 2),
                    "cpu_seconds": round(figures["cpu_seconds"], 2),
                    "peak_mb": round(figures["peak_mb"]),
                    "x_pandas": round(found["pandas"]["seconds"] / figures["seconds"], 2),
                    "x_predict": round(found["predict"]["seconds"] / figures["seconds"], 2),
                }
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        source = given.folder / f"rows-{given.rows}.parquet"
        timed = MODES[given.one](given.folder, source, int(given.threads))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": timed.seconds, "cpu_seconds": timed.cpu_seconds, "peak_mb": peak}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder, quarter = Path(name), given.rows // 4
        make(folder, given.rows)
        make(folder, quarter)
        lines = table(folder, given.rows, [int(count) for count in given.threads.split(",")], given.repeat)
        memory = {rows: round(measured("ours", folder, rows, 1, 1)["peak_mb"]) for rows in (quarter, given.rows)}
    if given.json:
        print(json.dumps({"rows": given.rows, "lines": lines, "peak_mb": memory}))
        return
    print(f"{given.rows} rows x {len(FEATURES)}, 200 trees x 31 leaves, reasons off")
    print(f"{'threads':>7}  {'what':30} {'seconds':>8} {'cpu s':>7} {'peak MB':>8} {'x pandas':>9} {'x predict':>9}")
    for line in lines:
        print(
            f"{line['threads']:>7}  {line['what']:30} {line['seconds']:>8} {line['cpu_seconds']:>7} "
            f"{line['peak_mb']:>8} {line['x_pandas']:>9} {line['x_predict']:>9}"
        )
    print("peak memory, ours: " + ", ".join(f"{rows} rows {peak} MB" for rows, peak in memory.items()))


if __name__ == "__main__":
    main()
