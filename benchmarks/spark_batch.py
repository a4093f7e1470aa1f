"""Batch scoring on Spark, on one core and on two, beside the embedded engine on the same file.

    python benchmarks/spark_batch.py [--rows 2000000] [--repeat 3] [--cores 1,2] [--json]

The same work in each: a Parquet file of ``rows`` rows × 24 features becomes recorded decisions (200 trees × 31 leaves,
reasons off), read to marker. Each measurement is a process of its own that may use so many cores (its processor set is
limited, Java and workers included); starting Spark and one small warm-up partition are not timed, since a session
scores many partitions. ``per core`` is rows a second by the cores that it might use; ``x embedded`` compares that with
the embedded engine on as many cores; ``x by processor`` compares processor time, which other work on the machine
hardly changes. Memory and processor time are those of driver, Java and workers together; memory is sampled.

Then what a task costs: a window of no rows in 1 task and in 101; the difference by 100.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from batch_scoring import END, START, make  # noqa: E402


class Peak:
    """The most memory that this process and all below it held at once: proportional set size, in MB."""

    def __init__(self) -> None:
        self.mb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        import psutil

        me = psutil.Process()
        while not self._ended.wait(0.25):
            held = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    held += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            self.mb = max(self.mb, held / 1e6)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()


def processor_seconds() -> float:
    """Of this process and all below it, those that have ended too."""
    import psutil

    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in [me, *me.children(recursive=True)])


def parts_and_job(folder: Path, root: Path, engine: Any, rows: Any, partition: str) -> tuple[Any, Any]:
    from ml_platform.core.delta import Lake
    from ml_platform.core.objects import ObjectStore
    from ml_platform.core.subjects import Subjects
    from ml_platform.serving import BatchJob, BatchParts, Scorer

    digest = (folder / "artifact").read_text()
    scorer = Scorer.load(ObjectStore(folder / "objects"), digest, reasons=False)
    job = BatchJob(
        root_id="0" * 32, model="bench", partition=partition, start=START, end=END, version=1,
        artifact_digest=digest, decided_at=END, recorded_at=END, clock="wall", entity="row", personal=False,
    )  # fmt: skip
    parts = BatchParts(
        objects=ObjectStore(folder / "objects"),
        lake=Lake(root / "lake"),
        subjects=Subjects(root / "subjects.db", root_seed=bytes(32)),
        load=lambda _: scorer,
        rows=lambda _: rows,
        scratch=root / "scratch",
        engine=engine,
    )
    return job, parts


def engine_of(kind: str, cores: int, folder: Path) -> tuple[Any, Any]:
    """The engine and Spark's session, if it has one."""
    from ml_platform.core.spark import SparkSettings, open_spark
    from ml_platform.serving.engine import ArrowEngine
    from ml_platform.serving.spark import SparkEngine

    if kind == "embedded":
        return ArrowEngine(), None
    conf = {"spark.log.level": "ERROR", "spark.local.dir": str(folder / "spark")}
    session = open_spark(SparkSettings(f"local[{cores}]", "1g", conf=conf))
    return SparkEngine(session), session


def one(kind: str, folder: Path, rows: int, cores: int) -> dict[str, float]:
    """A measured run in this process, which may use only so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from ml_platform.serving import score_partition
    from ml_platform.serving.files import RowFiles
    from ml_platform.serving.spark import SparkRows

    source = folder / f"rows-{rows}.parquet"
    engine, session = engine_of(kind, cores, folder)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name)

        def scored(partition: str, given: Any) -> float:
            job, parts = parts_and_job(folder, root, engine, given, f"{partition}-{name[-8:]}")
            start = time.perf_counter()
            score_partition(job, parts)
            return time.perf_counter() - start

        warm = RowFiles.of([folder / "rows-10000.parquet"])
        scored("warm", SparkRows(session.read.parquet(str(warm.paths[0]))) if kind == "frame" else warm)
        scored("all-workers", RowFiles.of([folder / "nothing.parquet"] * 8))
        before = processor_seconds()
        with Peak() as peak:
            rows_of = SparkRows(session.read.parquet(str(source))) if kind == "frame" else RowFiles.of([source])
            found["seconds"] = scored("timed", rows_of)
        found["peak_mb"], found["cpu_seconds"] = peak.mb, processor_seconds() - before
        if kind == "files":
            nothing = folder / "nothing.parquet"
            single = scored("one-task", RowFiles.of([nothing]))
            found["task_ms"] = (scored("many-tasks", RowFiles.of([nothing] * 101)) - single) * 10
    return found


def measured(kind: str, folder: Path, rows: int, cores: int, repeat: int) -> dict[str, float]:
    command = [
        sys.executable,
        __file__,
        "--one",
        kind,
        "--folder",
        str(folder),
        "--rows",
        str(rows),
        "--cores",
        str(cores),
    ]
    runs = [
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
        for _ in range(repeat)
    ]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    import pyarrow.parquet as pq

    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--cores", default="1,2")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=["embedded", "files", "frame"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.folder, given.rows, int(given.cores))))
        return
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, 10_000)
        make(folder, given.rows)
        pq.write_table(pq.read_table(folder / "rows-10000.parquet").slice(0, 0), folder / "nothing.parquet")
        for cores in (int(count) for count in given.cores.split(",")):
            embedded = measured("embedded", folder, given.rows, cores, given.repeat)
            for kind, what in (("embedded", "embedded"), ("files", "Spark, files"), ("frame", "Spark, DataFrame")):
                figures = embedded if kind == "embedded" else measured(kind, folder, given.rows, cores, given.repeat)
                lines.append(
                    {
                        "cores": cores,
                        "what": what,
                        "seconds": round(figures["seconds"], 2),
                        "rows_per_second_per_core": round(given.rows / figures["seconds"] / cores),
                        "x_embedded": round(embedded["seconds"] / figures["seconds"], 2),
                        "cpu_seconds": round(figures["cpu_seconds"], 1),
                        "x_by_processor": round(embedded["cpu_seconds"] / figures["cpu_seconds"], 2),
                        "peak_mb": round(figures["peak_mb"]),
                        "task_ms": round(figures["task_ms"], 1) if "task_ms" in figures else None,
                    }
                )
    if given.json:
        print(json.dumps({"rows": given.rows, "lines": lines}))
        return
    print(f"{given.rows} rows x 24, 200 trees x 31 leaves, reasons off")
    titles = [("cores", 6), ("what", 18), ("seconds", 9), ("rows/s a core", 15), ("x embedded", 12)]
    titles += [("cpu s", 8), ("x by processor", 16), ("peak MB", 9), ("ms a task", 11)]
    print("".join(f"{title:>{width}}" for title, width in titles))
    for line in lines:
        values = ["" if value is None else value for value in line.values()]
        print("".join(f"{value:>{width}}" for value, (_, width) in zip(values, titles, strict=True)))


if __name__ == "__main__":
    main()
