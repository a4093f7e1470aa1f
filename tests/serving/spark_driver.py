"""A Spark driver that is killed at a step, or whose device is full; prints what was seen as JSON.

Started by test_spark_crash.py in a process of its own, with a session of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ml_platform.core.contract import Contract
from ml_platform.core.errors import StorageFailed
from ml_platform.core.spark import SparkSettings, open_spark
from ml_platform.serving import batch, sealing, spark
from tests.services.spark import LOCAL
from tests.serving import crash_driver
from tests.serving.support import World, history


def session(folder: Path) -> Any:
    conf = {**LOCAL.conf, "spark.local.dir": str(folder / "spark")}
    return open_spark(SparkSettings(LOCAL.master, LOCAL.memory, conf=conf))


def kill_driver(driver: int, contract: Contract, rows: pa.Table) -> pa.Table:
    """Stored features, from a worker that kills the driver when they are asked for."""
    if rows.num_rows:
        os.kill(driver, signal.SIGKILL)
    return history(contract, rows)


def run(world: World, engine: spark.SparkEngine, **parts: Any) -> batch.BatchResult:
    """As in ``crash_driver``: the proposed writer is known."""
    proposed = batch._proposed
    batch._proposed = lambda job, revision: replace(proposed(job, revision), writer=crash_driver.WRITER)  # type: ignore[assignment]
    try:
        given = world.parts(crash_driver.table(), engine=engine, **parts)
        return batch.score_partition(world.job(chunk_rows=50), given)
    finally:
        batch._proposed = proposed


def dies_after(step: int, effect: Callable[..., Any]) -> Callable[..., Any]:
    """The effect, after whose n-th time the process is killed."""
    seen = 0

    def call(*given: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        result = effect(*given, **named)
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def killed(where: str, folder: Path, parts: Path) -> None:
    """Dies where it is told to; returns only if it was not killed."""
    world = crash_driver.world_at(folder / "root", parts)
    engine = spark.SparkEngine(session(folder), piece_rows=40)
    if where == "while workers score":
        from tests.serving.spark_driver import kill_driver as importable  # workers cannot import this program itself

        run(world, engine, features=partial(importable, os.getpid()))
    elif where == "when workers have reported":
        spark.SparkEngine._run = dies_after(1, spark.SparkEngine._run)  # type: ignore[method-assign]
        run(world, engine)
    else:
        sealing.commit_files = dies_after(2, sealing.commit_files)  # type: ignore[assignment]
        run(world, engine)


def device(folder: Path, parts: Path) -> list[list[int]]:
    """A device of its own for root and scratch, filled up to so many bytes: [free bytes, 7 or 0] of each."""
    opened, found = session(folder), []
    engine = spark.SparkEngine(opened, piece_rows=40)
    for free in (4_096, 65_536, 131_072, 262_144, 8_388_608):
        place = folder / f"device-{free}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=True)
        world = crash_driver.world_at(place / "root", parts)
        left = os.statvfs(place)
        ballast = place / "ballast"
        ballast.write_bytes(bytes(left.f_bavail * left.f_frsize - free))
        code = 0
        try:
            run(world, engine)
        except StorageFailed:
            code = 7
        found.append([free, code])
        ballast.unlink()
        crash_driver.run = lambda world: run(world, engine)  # type: ignore[assignment]
        crash_driver.check(world, folder)
        subprocess.run(["umount", "-l", str(place)], check=True)
    return found


def main() -> None:
    mode, folder, parts = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if mode == "device":
        sys.stdout.write(json.dumps(device(folder, parts)))
    else:
        killed(mode, folder, parts)


if __name__ == "__main__":
    main()
