"""``wrk`` as the load generator: the same few microseconds a request whatever answers, so that servers are compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
local folder, count, path = "{folder}", {count}, "{path}"
local requests = {{}}
local place = 0
function init(args)
  for i = 1, count do
    local file = io.open(folder .. "/" .. i .. ".body", "rb")
    requests[i] = wrk.format("POST", path, {headers}, file:read("*a"))
    file:close()
  end
end
function request()
  place = place % count + 1
  return requests[place]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nRESULT {{"requests": %d, "us": %d, "p50": %d, "p99": %d, "refused": %d, "broken": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.status,
    e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True)
class Measured:
    """One run: answers a second, latency in ms, and what was not answered with 200."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def installed() -> bool:
    """Whether ``wrk`` is here (a Debian package)."""
    return shutil.which("wrk") is not None


def run(url: str, path: str, bodies: list[bytes], headers: dict[str, str], concurrency: int, seconds: int) -> Measured:
    """Sends the bodies in turn over ``concurrency`` connections, each with one request at a time."""
    with tempfile.TemporaryDirectory() as folder:
        for number, body in enumerate(bodies, start=1):
            (Path(folder) / f"{number}.body").write_bytes(body)
        table = "{" + ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()) + "}"
        script = Path(folder) / "load.lua"
        script.write_text(_SCRIPT.format(folder=folder, count=len(bodies), path=path, headers=table))
        command = ["wrk", "-t1", f"-c{concurrency}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(said.rpartition("RESULT ")[2])
    rate = found["requests"] / found["us"] * 1e6
    return Measured(rate, found["p50"] / 1000, found["p99"] / 1000, found["refused"] + found["broken"])
