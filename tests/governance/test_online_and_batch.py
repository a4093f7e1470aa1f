"""A month's batch leaves out what was decided online: the same rows in every retry, and each row has one decision."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from ml_platform import governance, lifecycle
from ml_platform.core.ids import id_text
from ml_platform.lifecycle.features import contract_views, materialize_model_views
from ml_platform.serving.record import Section
from ml_platform.training import load_artifact
from tests.governance.online import MODEL, apply_route, decide, open_log, requests, write
from tests.governance.root import REQUESTS, CrashError, at, model

LOANS = range(7000, 7012)


@pytest.fixture
def march(root, tmp_path):
    """Twelve applications of March have arrived; the first route is in force."""
    root.replay.move(at("2010-04-01"))
    table = requests(LOANS)
    pq.write_table(table, tmp_path / "march.parquet")
    lifecycle.land_source(root, REQUESTS, tmp_path / "march.parquet")
    artifact = load_artifact(root.objects, root.registry.state().version(MODEL, 1).digests.artifact)
    materialize_model_views(root, model(), end=at("2010-04-01"), views=contract_views(root, artifact.contract))
    return root, table, apply_route(root)


def decided(platform, table, route, **changes) -> list[Section]:
    """Decided online by a router that has ended, not sealed."""
    made = decide(platform, table, route, **changes)
    log = open_log(platform, made[0].header.writer)
    write(log, made)
    log.close()
    return [one.section for one in made]


def in_batch(platform) -> set[int]:
    rows = lifecycle.list_decisions(platform, MODEL, partition="2010-03", keys=True, limit=100)["decisions"]
    return {row["entity"]["loan_id"] for row in rows if row["mode"] == "batch"}


@pytest.mark.parametrize("sealed", [False, True])
def test_a_batch_leaves_out_what_was_decided_online(march, sealed):
    platform, table, route = march
    decided(platform, table.slice(2, 5), route)
    if sealed:
        lifecycle.seal_once(platform)
    result = lifecycle.score_partition(platform, model(), "2010-03")
    assert (result.rows, result.accepted, result.already_decided) == (7, 7, 5)
    assert in_batch(platform) == {7000, 7001, *range(7007, 7012)}
    lifecycle.seal_once(platform)
    report = governance.verify(platform)
    assert report.ok, report.statement
    assert report.counts["asked_again"] == 0
    batch = governance.trace(platform, next(iter(batch_ids(platform)))).to_json()["batch"]
    assert batch["already_decided"] == 5


def batch_ids(platform) -> list[str]:
    rows = lifecycle.list_decisions(platform, MODEL, partition="2010-03", limit=100)["decisions"]
    return [row["prediction_id"] for row in rows if row["mode"] == "batch"]


def test_shadows_and_later_decisions_leave_nothing_out(march):
    platform, table, route = march
    shadow = "shadow-" + "0c" * 16
    decided(
        platform, table.slice(0, 3), route, writer=shadow, role="shadow", decision_of_record=False, route_digest=None
    )
    later = int(at("2010-04-01").timestamp() * 1_000_000) + 1
    decided(platform, table.slice(3, 2), route, decided_at_us=later)
    assert lifecycle.score_partition(platform, model(), "2010-03").already_decided == 0
    lifecycle.seal_once(platform)
    assert in_batch(platform) == set(LOANS)


def test_the_same_loan_at_another_time_is_another_row(march):
    platform, _, route = march
    other = requests([7000, 7001], times=[at("2010-03-11"), at("2010-03-12")])
    decided(platform, other, route)
    result = lifecycle.score_partition(platform, model(), "2010-03")
    assert (result.accepted, result.already_decided) == (12, 2)


def test_every_retry_leaves_out_the_same_rows(march):
    platform, table, route = march
    decided(platform, table.slice(0, 4), route)

    def die(*given: object) -> None:
        raise CrashError

    platform.registry.seal_segments = die
    with pytest.raises(CrashError):
        lifecycle.score_partition(platform, model(), "2010-03")
    del platform.registry.seal_segments
    platform.objects._store.delete("batch/small_risk/2010-03/0/commit.json")  # killed before it was complete
    decided(platform, table.slice(4, 4), route, writer="router-" + "0d" * 16)
    result = lifecycle.score_partition(platform, model(), "2010-03")
    assert (result.accepted, result.already_decided) == (8, 4)
    assert in_batch(platform) == set(range(7004, 7012))
    lifecycle.seal_once(platform)
    report = governance.verify(platform)
    assert report.ok, report.statement
    assert report.counts["asked_again"] == 4  # decided online after the batch had begun


def test_a_batch_that_decides_again_what_was_decided_online_is_found(march, findings):
    platform, table, route = march
    lifecycle.score_partition(platform, model(), "2010-03")
    made = decide(platform, table.slice(0, 1), route, recorded_at_us=1_700_000_000_000_000)
    log = open_log(platform)
    write(log, made)
    log.close()
    lifecycle.seal_once(platform)
    status, places = findings(platform)
    assert status == "tampered"
    (place,) = places
    assert place.removeprefix("prediction ") in batch_ids(platform)


def test_a_request_that_was_asked_twice_is_counted_and_no_fault(march):
    platform, table, route = march
    first = decide(platform, table.slice(0, 3), route)
    again = decide(platform, table.slice(0, 2), route, first=3)
    log = open_log(platform)
    write(log, [*first, *again])
    log.close()
    lifecycle.seal_once(platform)
    report = governance.verify(platform)
    assert report.ok, report.statement
    assert report.counts["asked_again"] == 2
    found = governance.find_decisions(platform, MODEL, {"loan_id": 7000})
    assert set(found) == {id_text(first[0].header.prediction_id), id_text(again[0].header.prediction_id)}


def test_another_number_of_rows_left_out_than_pinned_is_found(march, findings):
    platform, table, route = march
    decided(platform, table.slice(2, 5), route)
    lifecycle.score_partition(platform, model(), "2010-03")
    path = "batch/small_risk/2010-03/0/decided.bin"
    raw = platform.objects.read(path)
    platform.objects._store.put(path, raw[32:])
    lifecycle.seal_once(platform)
    status, places = findings(platform)
    assert (status, places) == ("tampered", ["batch/small_risk/2010-03/0/commit.json"])
