"""Sealing online records, beside the rate at which a bare loop can log them.

    python benchmarks/sealing.py [--records 50000] [--json]

The records are `credit_risk`'s, decided by the real contract and model. The bare loop appends their frames to a
write-ahead log, 64 in each write and sync, and does nothing else: no router is faster. The sealer then takes the same
log: decodes, hashes, writes three Delta tables, tiles and index, enters the segments in the audit log, removes files.
Reach: sealing keeps up with a router's peak rate; FACTS has 3,000 to 4,000 requests a second on this machine.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
PEAK_RECORDS_A_SECOND = 4_000
MARKET = 60_000


def main() -> None:
    from benchmarks import online_records
    from benchmarks.trace import make
    from ml_platform import lifecycle

    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        platform, _ = make(Path(folder), MARKET, batch=False)
        writer = f"router-{secrets.token_hex(16)}"
        payloads = list(online_records.decisions(platform, online_records.requests(platform, given.records, 1), writer))
        log, started = online_records.open_log(platform, writer), time.perf_counter()
        for at in range(0, len(payloads), online_records.FRAMES_A_SYNC):
            log.append(payloads[at : at + online_records.FRAMES_A_SYNC])
        logged = len(payloads) / (time.perf_counter() - started)
        log.close()
        started, cpu = time.perf_counter(), time.process_time()
        report = lifecycle.seal_once(platform)
        sealed = report.records / (time.perf_counter() - started)
        cpu_us = (time.process_time() - cpu) / report.records * 1_000_000
        assert report.records == len(payloads), report.problems
        found = {
            "records": report.records,
            "bytes a record": sum(map(len, payloads)) / len(payloads),
            "bare log, records/s": logged,
            "sealed, records/s": sealed,
            "sealed against the bare log": sealed / logged,
            "CPU a sealed record, us": cpu_us,
        }
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:30} {value:12,.2f}")
    print(f"reach: {PEAK_RECORDS_A_SECOND:,} records/s: {'yes' if sealed >= PEAK_RECORDS_A_SECOND else 'NO'}")


if __name__ == "__main__":
    main()
