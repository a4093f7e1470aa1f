"""Online decisions: traced before and after they are sealed, verified with their sequences, listed."""

from __future__ import annotations

from datetime import timedelta
from threading import Event, Thread

import pytest

from ml_platform import Platform, governance, lifecycle
from ml_platform.cli.blocks import plain_lines
from ml_platform.cli.trace_view import trace_blocks
from ml_platform.core.errors import NotFound, Tampered
from ml_platform.core.files import write_atomically
from ml_platform.governance import trace, trace_entity
from ml_platform.lifecycle.asking import undecided
from ml_platform.lifecycle.features import contract_views, materialize_model_views
from ml_platform.registry.route import open_route
from ml_platform.training import load_artifact
from tests.governance import spoiling
from tests.governance.online import MODEL, NOW, WRITER, apply_route, decide, ids, open_log, refuse, requests, write
from tests.governance.root import at, model


@pytest.fixture
def online(root):
    """The root with a route, its clock in March."""
    root.replay.move(at("2010-04-01"))
    version = root.registry.state().version(MODEL, 1)
    contract = load_artifact(root.objects, version.digests.artifact).contract
    materialize_model_views(root, model(), end=at("2010-04-01"), views=contract_views(root, contract))
    return root, apply_route(root)


@pytest.fixture
def logged(online):
    """Ten decisions of a living router, none sealed."""
    platform, route = online
    made = decide(platform, requests(range(7000, 7010)), route)
    log = open_log(platform)
    write(log, made)
    yield platform, made, log
    log.close()


def test_a_decision_that_only_the_log_holds_is_traced_and_not_yet_proven(logged):
    platform, made, _ = logged
    found = trace(platform, ids(made)[3])
    document = found.to_json()
    assert not found.proven
    assert document["proofs"]["status"] == "recorded, not yet proven"
    assert document["recording"]["says"] == "recorded, not yet proven"
    assert document["prediction"]["entity"] == {"loan_id": 7003}
    assert document["prediction"]["score"] == pytest.approx(made[3].section.outputs[0], rel=1e-6)
    assert document["prediction"]["latency_us"] == 420
    assert document["batch"] is None
    (stored,) = [one for one in document["features"] if one["origin"] == "stored"]
    assert stored["age_us"] == made[3].section.ages_us[0]
    assert "recorded, not yet proven" in "\n".join(plain_lines(trace_blocks(document)))


def test_the_route_is_shown_and_its_signature_checked(logged):
    platform, made, _ = logged
    route = trace(platform, ids(made)[0]).to_json()["route"]
    assert (route["digest"], route["epoch"], route["arm"]) == (made[0].header.route_digest, 1, "primary")
    assert route["signature_checked"]
    assert route["document"]["arms"][0]["version"] == 1
    assert platform.registry.entry(route["log_index"]).kind == "route_applied"
    assert route["flip"] is None


def test_the_same_decision_is_proven_once_it_is_sealed(logged):
    platform, made, log = logged
    before = trace(platform, ids(made)[5]).to_json()
    assert lifecycle.seal_once(platform).records == 10
    after = trace(platform, ids(made)[5])
    document = after.to_json()
    assert after.proven
    assert document["proofs"]["leaf"] | {"says": ""} == before["proofs"]["leaf"] | {"says": ""}
    assert {name: document[name] for name in ("prediction", "features", "route")} == {
        name: before[name] for name in ("prediction", "features", "route")
    }
    assert document["recording"]["late"] is False
    assert document["recording"]["lag_seconds"] < 60
    log.close()


def test_a_record_sealed_after_the_declared_lag_is_late_recorded(online):
    platform, route = online
    early = platform.wall.now() - timedelta(seconds=75)
    made = decide(platform, requests([7100]), route, recorded_at_us=int(early.timestamp() * 1_000_000))
    log = open_log(platform)
    write(log, made)
    log.close()
    assert lifecycle.seal_once(platform).late == 1
    recording = trace(platform, ids(made)[0]).to_json()["recording"]
    assert recording["late"] is True
    assert recording["says"].startswith("late-recorded: sealed 7")
    assert governance.verify(platform).ok


def test_an_entitys_decision_is_found_sealed_or_not(logged):
    platform, made, log = logged
    assert trace_entity(platform, MODEL, {"loan_id": "7004"}).prediction_id == ids(made)[4]
    assert governance.find_decisions(platform, MODEL, {"loan_id": 7004}) == (ids(made)[4],)
    lifecycle.seal_once(platform)
    log.close()
    assert trace_entity(platform, MODEL, {"loan_id": "7004"}).prediction_id == ids(made)[4]
    assert governance.find_decisions(platform, MODEL, {"loan_id": 7004}) == (ids(made)[4],)


def test_a_refused_request_says_why_sealed_or_not(online):
    platform, _ = online
    log = open_log(platform)
    write(log, [refuse(platform, 7777, NOW)])
    for _ in range(2):
        with pytest.raises(NotFound, match=r"refused by version 1 online: amount range \(number\)"):
            trace_entity(platform, MODEL, {"loan_id": "7777"}, NOW)
        log.close()
        lifecycle.seal_once(platform)


def test_another_signature_under_the_route_is_tampering(logged):
    platform, made, _ = logged
    entry = platform.registry.state().model(MODEL).route
    raw = platform.objects.get(entry.route)
    assert open_route(raw, platform.registry.state().genesis.service_key)
    spoiling.overwrite(platform, platform.objects.path_of(entry.route), raw.replace(b'"epoch":1', b'"epoch":2'))
    with pytest.raises(Tampered):
        trace(platform, ids(made)[0])


def test_a_record_that_names_a_version_outside_its_route_is_tampering(online):
    platform, route = online
    made = decide(platform, requests([7200]), route, role="canary")
    log = open_log(platform)
    write(log, made)
    log.close()
    with pytest.raises(Tampered, match="does not name the version"):
        trace(platform, ids(made)[0])


def test_a_route_that_the_log_does_not_know_yet_is_said_so(online):
    platform, route = online
    made = decide(platform, requests([7300]), route, route_digest="sha256:" + "9" * 64)
    log = open_log(platform)
    write(log, made)
    log.close()
    shown = trace(platform, ids(made)[0]).to_json()["route"]
    assert not shown["signature_checked"]
    assert "absent" in shown["document"]


def test_unsealed_and_online_decisions_are_listed(logged):
    platform, made, log = logged
    before = lifecycle.list_decisions(platform, MODEL, limit=500)
    assert {one["prediction_id"] for one in before["decisions"]} >= set(ids(made))
    newest = before["decisions"][0]
    assert (newest["prediction_id"], newest["mode"], newest["sealed"]) == (ids(made)[-1], "online", False)
    lifecycle.seal_once(platform)
    log.close()
    after = lifecycle.list_decisions(platform, MODEL, limit=500)
    assert after["found"] == before["found"]
    assert after["decisions"][0] == newest | {"sealed": True}
    march = lifecycle.list_decisions(platform, MODEL, partition="2010-03", keys=True)
    assert march["found"] == 10
    assert {one["entity"]["loan_id"] for one in march["decisions"]} == set(range(7000, 7010))
    declined = lifecycle.list_decisions(platform, MODEL, partition="2010-03", decision="declined")
    assert declined["found"] == sum(one.section.decision == "declined" for one in made)


def test_unsealed_records_are_reported_and_no_tampering(logged, findings):
    platform, _, log = logged
    assert findings(platform) == ("verified", [])
    report = governance.verify(platform)
    assert report.counts["unsealed"] == 10
    assert report.to_json()["unsealed"][0]["writer"] == WRITER
    lifecycle.seal_once(platform)
    log.close()
    lifecycle.seal_once(platform)
    report = governance.verify(platform, deep=True)
    assert report.ok, report.statement
    assert report.counts["unsealed"] == 0


def test_online_records_of_two_writers_on_one_day_are_verified_apart(online, findings):
    platform, route = online
    other = "router-" + "0b" * 16
    for writer, start in ((WRITER, 7000), (other, 8000)):
        log = open_log(platform, writer)
        write(log, decide(platform, requests(range(start, start + 8)), route, writer=writer))
        log.close()
    lifecycle.seal_once(platform)
    assert findings(platform) == ("verified", [])


def test_a_deleted_online_record_is_named(logged, findings):
    platform, made, log = logged
    log.close()
    lifecycle.seal_once(platform)
    spoiling.through_delta(platform, "predictions", spoiling.without(ids(made)[4]))
    status, places = findings(platform)
    assert status == "tampered"
    assert any(ids(made)[4] in place for place in places)


def test_a_writer_that_was_never_closed_and_left_no_log_is_incomplete(logged, findings):
    import shutil

    platform, _, log = logged
    lifecycle.seal_once(platform)
    shutil.rmtree(log.folder)
    status, places = findings(platform)
    assert status == "incomplete"
    assert places == [f"writer {WRITER}"]


def test_a_gap_in_an_unsealed_log_is_told(online, findings):
    platform, route = online
    log = open_log(platform)
    for one in decide(platform, requests(range(7000, 7006)), route):
        write(log, [one])
    log.close()
    sorted(log.folder.glob("*.wal"))[2].unlink()
    status, places = findings(platform)
    assert status == "incomplete"
    assert places == [f"writer {WRITER}"]


def test_records_that_cannot_be_read_are_told(logged, findings):
    platform, _, log = logged
    log.close()
    write_atomically(log.folder / "writer.json", b"{}")
    status, _ = findings(platform)
    assert status == "incomplete"


def test_a_root_is_verified_while_a_sealer_is_at_work(online):
    platform, route = online
    stop, failed = Event(), []

    def work() -> None:
        mine = Platform.local(platform.root)
        try:
            for number in range(6):
                writer = f"router-{number:032x}"
                log = open_log(mine, writer)
                rows = requests(range(9000 + 10 * number, 9010 + 10 * number))
                for one in decide(mine, rows, route, writer=writer):
                    write(log, [one])
                log.close()
                lifecycle.seal_once(mine)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failed.append(error)
        finally:
            stop.set()

    worker = Thread(target=work)
    worker.start()
    reports = []
    while not stop.is_set():
        reports.append(governance.verify(platform))
    worker.join()
    assert not failed, failed
    reports.append(governance.verify(platform))
    assert [one.statement for one in reports if not one.ok] == []
    assert reports[-1].counts["unsealed"] == 0


def test_requests_without_a_decision_are_the_same_before_and_after_sealing(logged):
    platform, _, _ = logged
    asked = requests(range(7000, 7012))
    assert undecided(platform, model(), asked).column("loan_id").to_pylist() == [7010, 7011]
    assert lifecycle.seal_once(platform).records == 10
    assert undecided(platform, model(), asked).column("loan_id").to_pylist() == [7010, 7011]


def test_a_decision_that_is_sealed_while_the_tables_are_read_is_not_asked_again(logged, monkeypatch):
    platform, _, _ = logged
    read, sealed = platform.lake.read, []

    def read_then_seal(*args, **kwargs):
        found = read(*args, **kwargs)
        if not sealed:
            sealed.append(True)  # first: sealing reads the lake too
            sealed.append(lifecycle.seal_once(platform).records)
        return found

    monkeypatch.setattr(platform.lake, "read", read_then_seal)
    asked = requests(range(7000, 7012))
    assert undecided(platform, model(), asked).column("loan_id").to_pylist() == [7010, 7011]
    assert sealed == [True, 10]
