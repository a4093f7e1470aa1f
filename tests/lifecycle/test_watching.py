from __future__ import annotations

from dataclasses import replace

import pytest

from ml_platform import Monitor, lifecycle
from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import Conflict, NotFound
from ml_platform.lifecycle.watching import matured_window
from ml_platform.lifecycle.window_records import monitored_window
from tests.governance.conftest import root, shared  # noqa: F401 - fixtures
from tests.governance.root import land_march, make_version, to_production
from tests.lifecycle.watched import alerts_of, at, watched
from tests.monitoring.test_notices import Receiver

MODEL = "small_risk"


def test_a_purpose_that_the_version_never_saw_is_raised_once(root):  # noqa: F811
    found = lifecycle.watch(root, watched(), "2010-02")
    assert ("psi", "purpose") in {(one.rule, one.subject) for one in found.raised}
    assert found.closed == ()
    size = root.registry.state().size
    again = lifecycle.watch(root, watched(), "2010-02")
    assert (again.raised, again.closed) == ((), ())
    assert [one.alert for one in again.open] == [one.alert for one in found.open]
    assert root.registry.state().size == size


def test_an_alert_names_rule_feature_version_and_window_and_its_evidence_is_kept(root):  # noqa: F811
    lifecycle.watch(root, watched(), "2010-02")
    shown = next(one for one in lifecycle.list_alerts(root)["alerts"] if one["rule"] == "psi")
    assert (shown["severity"], shown["version"], shown["window"]) == ("P2", 1, "2010-02")
    evidence = parse_canonical(root.objects.get(shown["evidence"]))
    assert evidence["judgement"]["numbers"]["psi"] > 0.2
    assert lifecycle.show_alert(root, shown["alert"])["judgement"] == evidence["judgement"]
    assert b"boat" not in root.objects.get(shown["evidence"])


def test_an_alert_is_about_its_own_months_drift_and_stays_while_it_lasts(root):  # noqa: F811
    lifecycle.watch(root, watched(), "2010-01")
    first = {one["alert"] for one in lifecycle.list_alerts(root, open_only=True)["alerts"] if one["rule"] == "psi"}
    lifecycle.watch(root, watched(), "2010-02")
    assert {
        one["alert"] for one in lifecycle.list_alerts(root, open_only=True)["alerts"] if one["rule"] == "psi"
    } == first


def test_it_closes_itself_when_a_later_window_is_quiet(root):  # noqa: F811
    lifecycle.watch(root, watched(), "2010-02")
    assert ("psi", "purpose", True) in alerts_of(root)
    root.replay.move(at("2010-04-01"))
    land_march(root)  # three loans of known purposes: too few to say that anything moved
    lifecycle.score_partition(root, watched(), "2010-03")
    found = lifecycle.watch(root, watched(), "2010-03")
    closed = {(one.rule, one.subject): one for one in found.closed}
    assert closed["psi", "purpose"].cause == "recovered"
    assert ("psi", "purpose", True) not in alerts_of(root)
    # An older window, judged again, neither reopens nor repeats it.
    assert lifecycle.watch(root, watched(), "2010-02").raised == ()


def test_it_closes_when_another_version_is_in_production(root, tmp_path):  # noqa: F811
    lifecycle.watch(root, watched(), "2010-02")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text("# another\n")
    declared = replace(watched(), trainer=replace(watched().trainer, rounds=13))
    version = make_version(root, declared, tmp_path)
    to_production(root, version)
    found = lifecycle.watch(root, watched(), "2010-02")
    assert {one.cause for one in found.closed} == {"version_replaced"}
    assert all(one.version == version for one in found.open)


def test_nothing_is_raised_for_features_that_are_not_critical(root):  # noqa: F811
    lifecycle.watch(root, replace(watched(), monitor=Monitor()), "2010-02")
    assert not [rule for rule, subject, _ in alerts_of(root) if subject == "purpose" and rule == "psi"]


def test_a_window_without_decisions_raises_and_recovers_nothing(root):  # noqa: F811
    lifecycle.watch(root, watched(), "2010-02")
    before = alerts_of(root, open_only=True)
    found = lifecycle.watch(root, watched(), "2010-12")
    assert (found.raised, found.closed) == ((), ())
    assert alerts_of(root, open_only=True) == before


def test_matured_windows_are_those_whose_labels_are_all_known():
    month, day = monitored_window("2010-05"), monitored_window("2010-05-03")
    assert matured_window(watched(), month, at("2010-06-01")).partition == "2010-03"
    assert matured_window(watched(), month, at("2010-05-31")).partition == "2010-02"
    assert matured_window(watched(), month, at("2012-01-01")).partition == "2010-05"
    assert matured_window(watched(), day, at("2010-05-04")).partition == "2010-03-03"


def test_an_alert_is_acknowledged_by_the_first_and_closed_by_hand(root):  # noqa: F811
    lifecycle.watch(root, watched(), "2010-02")
    alert = lifecycle.list_alerts(root, MODEL, open_only=True)["alerts"][0]["alert"]
    shown = lifecycle.acknowledge_alert(root, alert, principal="officer_ann", reason="Boats are a new product.")
    assert shown["acknowledged_by"] == "officer_ann"
    size = root.registry.state().size
    lifecycle.acknowledge_alert(root, alert, principal="officer_bob", reason="I too.")
    assert root.registry.state().size == size
    assert lifecycle.close_alert(root, alert, principal="officer_ann")["cause"] == "by_hand"
    with pytest.raises(NotFound, match="alert"):
        lifecycle.acknowledge_alert(root, "al-unknown", principal="officer_ann", reason="x")
    other = [one["alert"] for one in lifecycle.list_alerts(root)["alerts"] if one["open"]]
    for one in other:
        lifecycle.close_alert(root, one, principal="officer_ann")
        with pytest.raises(Conflict):
            lifecycle.acknowledge_alert(root, one, principal="officer_ann", reason="Too late.")


def test_alerts_survive_verification(root, findings):  # noqa: F811
    lifecycle.watch(root, watched(), "2010-02")
    alert = lifecycle.list_alerts(root)["alerts"][0]["alert"]
    lifecycle.acknowledge_alert(root, alert, principal="officer_ann", reason="Seen.")
    root.registry.checkpoint()
    assert findings(root)[1] == []


@pytest.fixture
def findings():
    from ml_platform import governance

    def run(platform):
        report = governance.verify(platform)
        return report.status, [finding.where for finding in report.findings]

    return run


def test_notices_go_to_the_routes_of_the_settings_once(root, tmp_path):  # noqa: F811
    from ml_platform import Platform

    with Receiver() as receiver:
        secret = root.secrets.folder / "alerts_desk"
        secret.write_text(receiver.url)
        secret.chmod(0o600)
        settings = root.root / "settings.toml"
        settings.write_text(settings.read_text() + '\n[alerts.desk]\nkind = "webhook"\nleast = "P2"\n')
        platform = Platform.local(root.root)
        raised = lifecycle.watch(platform, watched(), "2010-02").raised
        (first,) = lifecycle.deliver_notices(platform)
        assert (first.route, first.sent, first.failed) == ("desk", len(raised), None)
        lifecycle.acknowledge_alert(platform, raised[0].alert, principal="officer_ann", reason="Seen: a new product.")
        assert lifecycle.deliver_notices(platform)[0].sent == 1
        assert lifecycle.deliver_notices(platform)[0].sent == 0
    assert [one["event"] for one in receiver.got] == ["raised"] * len(raised) + ["acknowledged"]
    assert {one["alert"] for one in receiver.got} == {one.alert for one in raised}
    assert "boat" not in str(receiver.got)
    assert "new product" not in str(receiver.got)
