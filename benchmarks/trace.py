"""Tracing one decision out of 100,000, by id and by entity, each proof checked.

    python benchmarks/trace.py [--records 100000] [--online 1000000] [--queries 50] [--json]

The records are made by the product itself: the simulated lending market, `credit_risk` trained, approved, promoted,
18 months of batch decisions. Warm: one process that has traced before; the ids are different ones, spread over all
months. Cold: the first trace of a fresh process, imports not counted. Beside it, in the same run, what answers a small
part of the question: the two rows of the record, found by DuckDB and by pandas in the same Parquet files.
With ``--online`` the decisions are online ones instead: logged as routers log them, sealed by the sealer.
Reach: under 100 ms warm.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
AS_OF, END = datetime(2010, 1, 1, tzinfo=UTC), datetime(2011, 7, 1, tzinfo=UTC)
MONTHS = [f"{year}-{month:02d}" for year in (2010, 2011) for month in range(1, 13)][:18]
LOANS_PER_RECORD = 1.96  # of the market's loans, so many apply for one that applies in these months
REACH_MILLISECONDS = 100.0

COLD = """
import sys, time
from pathlib import Path
from ml_platform import Platform, governance
platform = Platform.local(Path(sys.argv[1]))
started = time.perf_counter()
governance.trace(platform, sys.argv[2])
print((time.perf_counter() - started) * 1000)
"""


def make(folder: Path, records: int, *, batch: bool = True):
    """A root with about as many decisions by batch, or with a version in production only; and how many there are."""
    from assets.credit_risk import credit_risk
    from assets.sources import applications, outcomes, restricted_applicants
    from ml_platform import Platform, lifecycle
    from ml_platform.lifecycle.features import contract_views, materialize_model_views
    from ml_platform.simulation import LendingMarket
    from ml_platform.training import load_artifact

    LendingMarket(loans=int(records * LOANS_PER_RECORD)).write(folder)
    people = {"officer_a": ["a@example.org"], "officer_b": ["b@example.org"]}
    platform = Platform.create(folder / "root", kind="replay", member_keys=people, published_seed=bytes(32))
    platform.replay.move(AS_OF)
    for source in (applications, outcomes, restricted_applicants):
        lifecycle.land_source(platform, source, folder / f"{source.name}.parquet")
    made = lifecycle.build_candidate(platform, credit_risk, AS_OF, requested_by="launcher", code=REPOSITORY / "assets")
    version = made.registered.version
    lifecycle.stage(platform, credit_risk.name, version, principal="launcher", reason="A benchmark.")
    accept = dict.fromkeys(lifecycle.open_decisions(platform, credit_risk.name, version), "A benchmark.")
    for to in ("canary", "production"):
        for officer in people:
            key = platform.secrets.folder / "people" / officer
            lifecycle.approve(platform, credit_risk.name, version, to, key=key, reason="A benchmark.", accept=accept)
        lifecycle.promote(platform, credit_risk.name, version, to, principal="launcher", reason="A benchmark.")
    platform.replay.move(END)
    if not batch:
        end = datetime(2010, 4, 1, tzinfo=UTC)
        artifact = platform.registry.state().version(credit_risk.name, version).digests.artifact
        views = contract_views(platform, load_artifact(platform.objects, artifact).contract)
        materialize_model_views(platform, credit_risk, end=end, views=views)
        return platform, 0
    done = [lifecycle.score_partition(platform, credit_risk, month).accepted for month in MONTHS]
    platform.registry.checkpoint()
    return platform, sum(done)


def make_online(folder: Path, records: int, days: int = 60, writers: int = 10):
    """A root with so many online decisions, logged by some routers one after the other and sealed."""
    from benchmarks import online_records
    from ml_platform import lifecycle

    platform, _ = make(folder, 60_000, batch=False)
    table = online_records.requests(platform, records, days)
    each = -(-records // writers)
    for start in range(0, records, each):
        online_records.log_requests(platform, table.slice(start, each))
        lifecycle.seal_once(platform)
    platform.registry.checkpoint()
    return platform, records


def milliseconds(answer: Callable[[object], object], questions: list[object]) -> dict[str, float]:
    answer(questions[0])
    taken = []
    for question in questions[1:]:
        started = time.perf_counter()
        answer(question)
        taken.append((time.perf_counter() - started) * 1000)
    ordered = sorted(taken)
    return {"median_ms": statistics.median(ordered), "p99_ms": ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]}


def rows_by_duckdb(root: Path) -> Callable[[object], object]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("set threads to 2")
    tables = [root / "lake" / "credit_risk" / name for name in ("predictions", "predictions_personal")]
    sql = "select * from read_parquet('{}/**/*.parquet', union_by_name=true) where prediction_id = ?"
    queries = [sql.format(table) for table in tables]
    return lambda one: [connection.execute(query, [one]).fetchall() for query in queries]


def rows_by_pandas(root: Path) -> Callable[[object], object]:
    import pandas as pd

    tables = [root / "lake" / "credit_risk" / name for name in ("predictions", "predictions_personal")]

    def find(one: object) -> object:
        frames = [pd.concat(map(pd.read_parquet, sorted(table.rglob("*.parquet")))) for table in tables]
        return [frame[frame["prediction_id"] == one] for frame in frames]

    return find


def cold(root: Path, prediction_id: object) -> float:
    command = [sys.executable, "-c", COLD, str(root), str(prediction_id)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--online", type=int, default=0, help="so many online records instead")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    from ml_platform import governance

    with tempfile.TemporaryDirectory() as folder:
        whole = make_online(Path(folder), given.online) if given.online else make(Path(folder), given.records)
        platform, records = whole
        rows = platform.lake.read("credit_risk/predictions_personal", columns=["prediction_id", "key_loan_id"])
        chosen = rows.sort_by("prediction_id").to_pylist()[:: max(1, records // given.queries)][: given.queries + 1]
        ids = [row["prediction_id"] for row in chosen]
        loans = [{"loan_id": row["key_loan_id"]} for row in chosen]
        started = time.perf_counter()
        report = governance.verify(platform)
        verified = time.perf_counter() - started
        assert report.ok, report.statement
        found = {
            "records": records,
            "verify_seconds": verified,
            "cold_ms": cold(platform.root, ids[0]),
            "trace by id": milliseconds(lambda one: governance.trace(platform, str(one)), ids),
            "trace by entity": milliseconds(lambda one: governance.trace_entity(platform, "credit_risk", one), loans),
            "DuckDB, the two rows only": milliseconds(rows_by_duckdb(platform.root), ids),
            "pandas, the two rows only": milliseconds(rows_by_pandas(platform.root), ids[:6]),
        }
    if given.json:
        print(json.dumps(found))
        return
    print(
        f"{records:,} records; the whole root verified in {verified:.1f} s; first trace cold {found['cold_ms']:.0f} ms"
    )
    ours = found["trace by id"]["median_ms"]
    for name, taken in found.items():
        if isinstance(taken, dict):
            beside = f"{taken['median_ms'] / ours:6.2f} x ours"
            print(f"{name:28} median {taken['median_ms']:7.1f} ms   p99 {taken['p99_ms']:7.1f} ms   {beside}")
    print(f"reach: under {REACH_MILLISECONDS:.0f} ms warm: {'yes' if ours < REACH_MILLISECONDS else 'NO'}")


if __name__ == "__main__":
    main()
