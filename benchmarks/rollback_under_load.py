"""Rollback under load: from the flip to the last answer of the old version, computed from the log.

    python benchmarks/rollback_under_load.py [--flips 100] [--concurrency 16] [--json]

A router with two loaded versions is asked all the time (``wrk``, one row a request, 24 features, 200 trees). Local
flips send all requests to one version and then to the other. For each flip: the time from before the flip was written
to the newest record of the version that it took out of service; 0 where none came after. Every request is answered.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from _serving_root import MODEL, contract, make_parts, make_root  # isort: skip
from online import routed_bodies  # isort: skip
import _wrk  # isort: skip


def records(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """When each decision was recorded (µs, wall) and by which version, in the order of the log."""
    from ml_platform.serving.online_record import decision_parts, decode_header
    from ml_platform.serving.wal import read_frames

    found = []
    for file in sorted((root / "wal").rglob("*.wal")):
        for payload in read_frames(file).frames:
            header = decode_header(decision_parts(payload)[0])
            found.append((header.recorded_at_us, header.version))
    times, versions = np.array(found, np.int64).T
    return times, versions


def flip_all(folder: Path, flips: int) -> list[tuple[int, int]]:
    """Each flip's time (µs, wall, before it is written) and the version that it takes out of service."""
    from ml_platform.registry.routefolder import RouteFolder

    routes = RouteFolder.of(folder, MODEL)
    made = []
    version = 1
    for _ in range(flips):
        time.sleep(random.uniform(0.05, 0.15))  # not in step with anything
        other = 3 - version
        at_us = time.time_ns() // 1000
        routes.turn(other, principal="bench", reason_digest="sha256:" + "00" * 32, at=datetime.now(UTC))
        made.append((at_us, version))
        version = other
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not _wrk.installed():
        raise SystemExit("wrk is not installed (Debian package wrk)")
    from ml_platform.core.objects import ObjectStore
    from ml_platform.serving.declaration import Serving
    from ml_platform.serving.triton import Pusher, Server, TritonClient

    with tempfile.TemporaryDirectory() as name:
        root = make_root(Path(name) / "root", {1: make_parts(1), 2: make_parts(2)}, primary=1)
        with Server.start(root.folder, root.settings_file) as server, TritonClient(server.boot) as client:
            pusher = Pusher(root.folder, ObjectStore(root.folder / "store"), server.boot, client)
            for version, artifact in root.artifacts.items():
                pusher.version(MODEL, version, artifact, Serving())
            pusher.router(MODEL, [contract()], Serving())
            bodies, headers = routed_bodies()
            url, path = f"http://127.0.0.1:{server.boot.http_port}", f"/v2/models/{MODEL}/infer"
            seconds = int(given.flips * 0.15 + 4)
            measured: list[_wrk.Measured] = []
            load = threading.Thread(
                target=lambda: measured.append(_wrk.run(url, path, bodies, headers, given.concurrency, seconds))
            )
            load.start()
            time.sleep(2)
            flips = flip_all(root.folder, given.flips)
            load.join()
        times, versions = records(root.folder)
    late = []
    for number, (at_us, old) in enumerate(flips):
        until = flips[number + 1][0] if number + 1 < len(flips) else times[-1] + 1
        after = times[(times >= at_us) & (times < until) & (versions == old)]
        late.append((int(after.max()) - at_us) / 1000 if len(after) else 0.0)
    result = {
        "flips": len(flips),
        "p50_ms": float(np.percentile(late, 50)),
        "p99_ms": float(np.percentile(late, 99)),
        "max_ms": max(late),
        "requests": round(measured[0].rate * seconds),
        "recorded": len(times),
        "requests_per_second": measured[0].rate,
        "failed_requests": measured[0].failed,
    }
    if given.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:<20} {value:,.1f}" if isinstance(value, float) else f"{key:<20} {value:,}")
    print(f"reach: p99 < 1,000 ms, no failed request: {result['p99_ms'] < 1000 and not result['failed_requests']}")


if __name__ == "__main__":
    main()
