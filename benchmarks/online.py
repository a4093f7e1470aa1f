"""Routed online inference against the version's own executor called directly, and against a FastAPI written by hand.

    python benchmarks/online.py [--seconds 4] [--repeat 3] [--json]

One row a request, 24 features, 200 trees of 31 leaves, one process a model, on loopback; ``wrk`` (Debian package)
sends, from the same machine. ``direct`` is the version's own Triton model, called with the 24 features as float32
tensors: no contract, no route, no record. ``routed`` is the router, called with the same 24 features (float64, as
clients have them), entity key and request time: contract, route, durable record of the whole decision before each
answer; like ``direct`` it is asked for the score. ``routed-all`` asks for all six outputs. All get KServe V2 with
binary tensors. ``fastapi`` is what a team writes by hand: uvicorn, one process, one LightGBM thread, JSON, no contract
and no record, answering the score; it is compared with ``routed-json``, the same JSON numbers sent to the router.

``routed-row`` is the router's other form, one tensor ``row`` with the whole row as a JSON object, and
``routed-row-json`` the same in a JSON body, without a binary part. Its ratios are told apart from those of the same
tensors: to ``direct``, to ``direct-matrix`` (the version called with all features, encoded, as its one tensor
``features``), and to FastAPI, which reads such a row in either case.

Printed beside: the processor time a request of all processes that serve it (``cpu``, µs; of a busy machine it says more
than the rate), the machine's load when each line was taken, and what a bare ``fdatasync`` costs on the log's disk.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from _online_bodies import (  # isort: skip
    BODIES,
    direct_bodies,
    json_bodies,
    matrix_bodies,
    routed_bodies,
    row_bodies,
    row_json_bodies,
)
from _serving_root import FEATURES, MODEL, make_parts, make_root, rows  # isort: skip
import _wrk  # isort: skip

CONCURRENCIES = (1, 16, 64)
FASTAPI = """
import sys

import lightgbm
import numpy as np
import uvicorn
from fastapi import FastAPI, Request

model = lightgbm.Booster(model_file=sys.argv[1])
names = sys.argv[3].split(",")
app = FastAPI()


@app.post("/predict")
async def predict(request: Request):
    row = await request.json()
    score = model.predict(np.array([[row[name] for name in names]]), num_threads=1)[0]
    return {"score": float(score)}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


@dataclass(frozen=True)
class Target:
    """What is asked: a server, by the process that began it, a path, and the bodies that are sent in turn."""

    pid: int
    url: str
    path: str
    bodies: list[bytes]
    headers: dict[str, str]


@contextmanager
def fastapi(folder: Path, native: bytes) -> Iterator[Target]:
    """The service written by hand, while it runs."""
    (folder / "model.txt").write_bytes(native)
    (folder / "service.py").write_text(FASTAPI)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "service.py", "model.txt", str(port), ",".join(FEATURES)]
    process = subprocess.Popen(command, cwd=folder)
    try:
        wait_for(port)
        bodies = [json.dumps(dict(zip(FEATURES, row, strict=True))).encode() for row in rows(BODIES).tolist()]
        yield Target(process.pid, f"http://127.0.0.1:{port}", "/predict", bodies, {"Content-Type": "application/json"})
    finally:
        process.kill()
        process.wait()


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the FastAPI service did not start")


@dataclass
class Runs:
    """The runs of one target by concurrency, processor time a request, and the machine's load at each."""

    by_count: dict[int, list[_wrk.Measured]]
    cpu_us: dict[int, list[float]]
    loads: list[float]


def processor_seconds(pid: int) -> float:
    """Of a process and all that it began."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def measured(targets: dict[str, Target], seconds: int, repeat: int) -> dict[str, Runs]:
    """Measures targets in turn, so that other work on the machine meets all of them alike."""
    found = {
        name: Runs({count: [] for count in CONCURRENCIES}, {count: [] for count in CONCURRENCIES}, [])
        for name in targets
    }
    for one in targets.values():
        _wrk.run(one.url, one.path, one.bodies, one.headers, 4, 1)  # warm
    for count in CONCURRENCIES:
        for _ in range(repeat):
            for name, one in targets.items():
                before = processor_seconds(one.pid)
                run = _wrk.run(one.url, one.path, one.bodies, one.headers, count, seconds)
                taken = processor_seconds(one.pid) - before
                found[name].by_count[count].append(run)
                found[name].cpu_us[count].append(taken / (run.rate * seconds) * 1e6)
                found[name].loads.append(os.getloadavg()[0])
    return found


def serve(folder: Path, parts: dict[str, bytes], executor: str, by_hand: Target, seconds: int, repeat: int):
    from ml_platform.core.objects import ObjectStore
    from ml_platform.serving.declaration import Serving
    from ml_platform.serving.triton import Pusher, Server, TritonClient

    root = make_root(folder, {1: parts}, primary=1)
    serving = Serving(executor=executor)
    with Server.start(root.folder, root.settings_file) as server, TritonClient(server.boot) as client:
        pusher = Pusher(root.folder, ObjectStore(root.folder / "store"), server.boot, client)
        pusher.version(MODEL, 1, root.artifacts[1], serving)
        pusher.router(MODEL, [contract_of(parts)], serving)
        url, pid = f"http://127.0.0.1:{server.boot.http_port}", server.boot.pid
        direct, routed = f"/v2/models/{MODEL}.v1/infer", f"/v2/models/{MODEL}/infer"
        targets = {
            f"direct ({executor})": Target(pid, url, direct, *direct_bodies(server.boot.parameters)),
            f"direct-matrix ({executor})": Target(pid, url, direct, *matrix_bodies(server.boot.parameters)),
            f"routed ({executor})": Target(pid, url, routed, *routed_bodies(("score",))),
            f"routed-all ({executor})": Target(pid, url, routed, *routed_bodies(())),
            f"routed-row ({executor})": Target(pid, url, routed, *row_bodies(("score",))),
            f"routed-json ({executor})": Target(pid, url, routed, *json_bodies()),
            f"routed-row-json ({executor})": Target(pid, url, routed, *row_json_bodies()),
            f"fastapi (beside {executor})": by_hand,
        }
        found = measured(targets, seconds, repeat)
    configs = {path.parent.name: path.read_text() for path in (root.folder / "triton").glob("*/config.pbtxt")}
    return found, configs


def sync_ms(folder: Path, size: int) -> float:
    """Median of 200 appends of ``size`` bytes, each with its ``fdatasync``."""
    path, taken = folder / "sync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(200):
            start = time.perf_counter()
            file.write(os.urandom(size))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    path.unlink()
    return statistics.median(taken) * 1000


def contract_of(parts: dict[str, bytes]):
    from ml_platform.training.artifact import make_artifact

    return make_artifact(parts).contract


def median(runs: list[_wrk.Measured], field: str) -> float:
    return statistics.median(getattr(one, field) for one in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--configs", action="store_true", help="print the Triton configurations in full")
    given = parser.parse_args()
    if not _wrk.installed():
        raise SystemExit("wrk is not installed (Debian package wrk)")
    results: dict[str, Runs] = {}
    syncs: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        parts = make_parts()
        syncs = {count: sync_ms(Path(name), 800 * count) for count in (1, 32)}
        for executor in ("in_process", "triton"):
            with fastapi(Path(name), parts["model.txt"]) as by_hand:
                found, configs = serve(Path(name) / executor, parts, executor, by_hand, given.seconds, given.repeat)
            results |= found
            if given.configs:
                for model, text in configs.items():
                    print(f"# {executor}: {model}\n{text}")
    table = {
        name: {
            count: {field: median(of, field) for field in ("rate", "p50_ms", "p99_ms", "failed")}
            | {"cpu_us": statistics.median(runs.cpu_us[count])}
            for count, of in runs.by_count.items()
        }
        for name, runs in results.items()
    }
    if given.json:
        print(json.dumps(table))
        return
    print(
        f"{'':<30} "
        + "  ".join(f"{'req/s':>7} {'p50':>6} {'p99':>6} {'cpu':>5} @{count:<3}" for count in CONCURRENCIES)
    )
    for name, row in table.items():
        cells = (
            f"{one['rate']:7.0f} {one['p50_ms']:6.2f} {one['p99_ms']:6.2f} {one['cpu_us']:5.0f}     "
            for one in row.values()
        )
        failed = sum(one["failed"] for one in row.values())
        print(
            f"{name:<30} "
            + "  ".join(cells)
            + f" load {statistics.mean(results[name].loads):.1f}"
            + (f"  {failed:.0f} NOT ANSWERED" if failed else "")
        )
    print("append and fdatasync of " + ", ".join(f"{count} records: {took:.2f} ms" for count, took in syncs.items()))
    for executor in ("in_process", "triton"):
        print(verdict(table, executor, "routed", "same tensors"))
        print(verdict(table, executor, "routed-row", "row form"))


def verdict(table: dict[str, dict[int, dict[str, float]]], executor: str, routed: str, form: str) -> str:
    """The ratios of one form of a request."""
    found, direct = table[f"{routed} ({executor})"], table[f"direct ({executor})"]
    matrix = table[f"direct-matrix ({executor})"]
    said, by_hand = table[f"{routed}-json ({executor})"], table[f"fastapi (beside {executor})"]

    def ratio(ours: dict[int, dict[str, float]], theirs: dict[int, dict[str, float]], count: int) -> str:
        return f"x {ours[count]['rate'] / theirs[count]['rate']:.2f} at {count}"

    return (
        f"{executor}, {form}: p50 {found[1]['p50_ms'] - direct[1]['p50_ms']:+.2f} ms at 1 (reach <= 0.5); "
        f"direct {ratio(found, direct, 16)} (>= 0.8), {ratio(found, direct, 64)} (>= 0.95); "
        f"direct-matrix {ratio(found, matrix, 16)}, {ratio(found, matrix, 64)}; "
        f"FastAPI {ratio(said, by_hand, 16)}, {ratio(said, by_hand, 64)} (>= 1); processor time of direct "
        + ", ".join(f"x {found[count]['cpu_us'] / direct[count]['cpu_us']:.2f} at {count}" for count in CONCURRENCIES)
    )


if __name__ == "__main__":
    main()
