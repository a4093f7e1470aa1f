"""What the edge before Triton's REST port costs: the same requests through nginx and at Triton's own port, in turn.

    python benchmarks/edge.py [--seconds 4] [--repeat 3] [--json]

One row a request, 24 features, 200 trees of 31 leaves, executor ``in_process``, all on one machine and over loopback;
``wrk`` (Debian package) sends. In JSON, where the edge reads the whole body, and as binary tensors, where it reads the
JSON part alone; ``refused`` are bodies that the edge refuses by itself. Beside: the processor time of nginx a request.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from _serving_root import MODEL, make_parts, make_root  # isort: skip
import _wrk  # isort: skip
from online import CONCURRENCIES, Target, contract_of, json_bodies, measured, median, routed_bodies  # isort: skip


def measure(folder: Path, seconds: int, repeat: int):
    from ml_platform.core.objects import ObjectStore
    from ml_platform.serving.declaration import Serving
    from ml_platform.serving.triton import Pusher, Server, TritonClient
    from ml_platform.serving.triton.nginx import Edge, Nginx

    parts = make_parts()
    root = make_root(folder, {1: parts}, primary=1)
    with Server.start(root.folder, root.settings_file, behind_edge=True) as server, TritonClient(server.boot) as client:
        pusher = Pusher(root.folder, ObjectStore(root.folder / "store"), server.boot, client)
        pusher.version(MODEL, 1, root.artifacts[1], Serving())
        pusher.router(MODEL, [contract_of(parts)], Serving())
        behind = server.boot.http_port
        with Edge.start(Nginx.required(), root.folder, host="127.0.0.1", port=0, upstream_port=behind) as edge:
            path = f"/v2/models/{MODEL}/infer"
            ports = {"Triton's port": behind, "through nginx": edge.port}
            targets = {
                f"{form}, {name}": Target(f"http://127.0.0.1:{port}", path, *bodies)
                for form, bodies in (("JSON", json_bodies()), ("binary", routed_bodies(("score",))))
                for name, port in ports.items()
            }
            bad = [body[:-1] for body in json_bodies()[0]]
            targets["refused, through nginx"] = Target(f"http://127.0.0.1:{edge.port}", path, bad, {})
            runs = measured(targets, seconds, repeat)
            through = {name: one for name, one in targets.items() if name.endswith("nginx")}
            return runs, {name: processor_us(edge.pid, one, seconds) for name, one in through.items()}


def processor_us(master: int, target: Target, seconds: int) -> float:
    """Processor time of nginx a request, in microseconds: other work on the machine changes it little."""
    import psutil

    (worker,) = psutil.Process(master).children()
    before = sum(worker.cpu_times()[:2])
    found = _wrk.run(target.url, target.path, target.bodies, target.headers, 16, seconds)
    return (sum(worker.cpu_times()[:2]) - before) / (found.rate * seconds) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not _wrk.installed():
        raise SystemExit("wrk is not installed (Debian package wrk)")
    with tempfile.TemporaryDirectory() as name:
        results, processor = measure(Path(name) / "root", given.seconds, given.repeat)
    table = {
        name: {
            count: {field: median(of, field) for field in ("rate", "p50_ms", "p99_ms", "failed")}
            for count, of in runs.by_count.items()
        }
        for name, runs in results.items()
    }
    if given.json:
        print(json.dumps({"runs": table, "nginx_processor_us": processor}))
        return
    print(f"{'':<26} " + "  ".join(f"{'req/s':>7} {'p50':>6} {'p99':>6} @{count:<3}" for count in CONCURRENCIES))
    for name, row in table.items():
        cells = (f"{one['rate']:7.0f} {one['p50_ms']:6.2f} {one['p99_ms']:6.2f}     " for one in row.values())
        failed = 0 if name.startswith("refused") else sum(one["failed"] for one in row.values())
        said = f"  {failed:.0f} NOT ANSWERED" if failed else ""
        print(f"{name:<26} " + "  ".join(cells) + f" load {statistics.mean(results[name].loads):.1f}" + said)
    costs = ", ".join(f"{name.partition(',')[0]} {us:.0f} us" for name, us in processor.items())
    print(f"nginx, processor time a request: {costs}")
    for form in ("JSON", "binary"):
        bare, through = table[f"{form}, Triton's port"], table[f"{form}, through nginx"]
        more = {count: through[count]["p50_ms"] - bare[count]["p50_ms"] for count in CONCURRENCIES}
        ratios = ", ".join(
            f"{through[count]['rate'] / bare[count]['rate']:.2f} x at {count}" for count in CONCURRENCIES
        )
        print(f"{form}: p50 {more[1]:+.2f} ms at 1; rate {ratios}")


if __name__ == "__main__":
    main()
