"""One task's work in this process: tried again it leaves the same, and says of itself what the driver needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.core.contract import Contract
from ml_platform.core.errors import (
    ContractViolation,
    DuplicateKeys,
    NotFound,
    SchemaMismatch,
    ServerUnavailable,
    SettingsError,
)
from ml_platform.core.storage import StorageSettings
from ml_platform.serving.batch import _proposed
from ml_platform.serving.seed_server import SeedServer
from ml_platform.serving.spark_task import TaskPlan, load_scorer, merged, run_task
from tests.serving.support import World, history, loans
from tests.serving.test_preparing import with_values

NONCE = b"n" * 16


@pytest.fixture
def plan(world: World, tmp_path: Path) -> Iterator[TaskPlan]:
    (tmp_path / "parts").mkdir()
    with SeedServer(world.subjects, "loan") as server:
        yield TaskPlan(
            intent=_proposed(world.job(), 0),
            objects=world.objects.url,
            storage=StorageSettings(),
            reasons=True,
            entity="loan",
            personal=True,
            chunk_rows=50,
            folder=str(tmp_path / "parts"),
            seeds=server.address,
            nonce=NONCE,
            pieces=False,
            features=history,
            earlier=None,
            left_out=frozenset(),
        )


def ran(plan: TaskPlan, table: pa.Table) -> pa.RecordBatch:
    (report,) = run_task(plan, iter(table.to_batches()))
    return report


def together(*reports: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches(reports)


def test_a_task_that_is_tried_again_reports_and_leaves_the_same(plan: TaskPlan) -> None:
    table = with_values(loans(130), "grade", {3: "Z"})
    first = ran(plan, table)
    files = {path.name: path.stat().st_size for path in Path(plan.folder).iterdir()}
    assert ran(plan, table).equals(first)
    assert {path.name: path.stat().st_size for path in Path(plan.folder).iterdir()} == files
    assert len(files) == 2  # records, and the row that was refused


def test_reports_add_up_to_what_one_task_over_all_rows_says(plan: TaskPlan) -> None:
    table = with_values(with_values(loans(130), "grade", {3: "Z", 90: "Z"}), "amount", {90: -1.0})
    whole, _, _ = merged(together(ran(plan, table)), NONCE)
    pieces = [ran(plan, table.slice(start, 40)) for start in range(0, 130, 40)]
    tally, records, quarantine = merged(together(*pieces), NONCE)
    for name in ("rows", "accepted", "refused", "flagged", "declined", "refusals", "flags"):
        assert getattr(tally, name) == getattr(whole, name), name
    assert (tally.rows, tally.refused, tally.declined > 0, tally.flagged > 0) == (130, 2, True, True)
    assert (sum(part.rows for part in records), sum(part.rows for part in quarantine)) == (128, 3)
    assert sorted(np.concatenate(tally.seen)) == sorted(np.concatenate(whole.seen))
    tally.check(0.05)
    with pytest.raises(DuplicateKeys, match="40 rows"):
        merged(together(*pieces, pieces[0]), NONCE)[0].check(0.05)


def test_too_many_refused_rows_are_counted_over_all_tasks(plan: TaskPlan) -> None:
    pieces = [ran(plan, with_values(loans(20, start=at), "grade", dict.fromkeys(range(6), "Z"))) for at in (0, 20)]
    with pytest.raises(ContractViolation, match="12 of 40"):
        merged(together(*pieces), NONCE)[0].check(0.05)


@pytest.mark.parametrize("rows", [[], [loans(5).slice(0, 0)]], ids=["no batch", "an empty batch"])
def test_a_task_without_rows_leaves_no_file(plan: TaskPlan, rows: list[pa.Table]) -> None:
    (report,) = run_task(plan, (batch for table in rows for batch in table.to_batches()))
    tally, records, quarantine = merged(together(report), NONCE)
    assert (tally.rows, records, quarantine, list(Path(plan.folder).iterdir())) == (0, [], [], [])


def test_no_report_at_all_is_an_empty_window() -> None:
    tally, records, quarantine = merged(pa.table({"report": pa.array([], pa.string()), "seen": []}), NONCE)
    assert (tally.rows, records, quarantine) == (0, [], [])


def test_what_a_second_try_cannot_mend_is_reported_and_raised_as_what_it_is(plan: TaskPlan) -> None:
    good, bad = ran(plan, loans(5)), ran(plan, loans(5).drop_columns(["income"]))
    with pytest.raises(SchemaMismatch, match="income") as raised:
        merged(together(good, bad), NONCE)
    assert raised.value.field == "income"
    absent = replace(plan, intent=replace(plan.intent, artifact_digest="sha256:" + "0" * 64))
    reported = ran(absent, loans(5))
    with pytest.raises(NotFound):
        merged(together(reported), NONCE)
    assert sorted(path.suffix for path in Path(plan.folder).iterdir()) == [".arrow"]  # only of the good one


def test_what_may_be_mended_is_raised_for_spark_to_try_again(plan: TaskPlan, world: World) -> None:
    with SeedServer(world.subjects, "loan") as gone:
        pass
    with pytest.raises(ServerUnavailable):
        ran(replace(plan, seeds=gone.address), loans(5))
    full = replace(plan, folder="/dev/full")
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's
        ran(full, loans(5))


def fails_late(contract: Contract, rows: pa.Table) -> pa.Table:
    if rows.num_rows and rows.column("loan_id")[0].as_py() >= 150:
        raise OSError(28, "No space left on device")
    return history(contract, rows)


def test_a_task_that_fails_on_its_way_leaves_no_file(plan: TaskPlan) -> None:
    with pytest.raises(OSError, match="No space left"):
        ran(replace(plan, features=fails_late), with_values(loans(200), "grade", {3: "Z"}))
    assert list(Path(plan.folder).iterdir()) == []


def test_workers_that_hash_differently_are_refused_since_repeated_rows_would_be_missed(plan: TaskPlan) -> None:
    here = ran(plan, loans(5)).to_pylist()[0]
    document = json.loads(here["report"])
    other: dict[str, Any] = {**here, "report": json.dumps({**document, "probe": document["probe"] + 1})}
    with pytest.raises(SettingsError, match="PYTHONHASHSEED"):
        merged(pa.Table.from_pylist([here, other]), NONCE)


def test_the_version_is_loaded_once_a_worker(plan: TaskPlan) -> None:
    load_scorer.cache_clear()
    for _ in range(3):
        ran(plan, loans(5))
    assert (load_scorer.cache_info().misses, load_scorer.cache_info().hits) == (1, 2)
