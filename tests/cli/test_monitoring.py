"""Watching by the command line: what moved, who looks after it, who is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.support import MODELS, Shop, call
from tests.monitoring.test_notices import Receiver

WINDOW = ("--window", "2010-06", *MODELS)


@pytest.fixture
def watched(live: Shop, tmp_path: Path) -> Shop:
    """A copy, so that other tests see no alerts."""
    shutil.copytree(live.folder, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_drift_is_shown_feature_by_feature_and_raises_nothing(watched: Shop) -> None:
    out = watched.mlp("drift", "small", *WINDOW).out
    (term,) = [line for line in out.splitlines() if line.split()[:2] == ["term", "*"]]
    assert "yes" in term
    assert "small version 1, window 2010-06" in out
    found = watched.must("drift", "small", *WINDOW)
    assert found["versions"][0]["fields"]["term"]["shift"]["psi"] > 0.2
    assert watched.must("alerts")["alerts"] == []
    assert "no alerts" in watched.mlp("alerts").out


def test_a_watch_raises_once_and_a_person_looks_after_it(watched: Shop) -> None:
    first = watched.must("watch", "small", *WINDOW)
    raised = {one["rule"]: one["alert"] for one in first["raised"] if one["subject"] == "term"}
    assert set(raised) == {"psi", "new_category"}
    assert watched.must("watch", "small", *WINDOW)["raised"] == []
    alert = raised["psi"]
    out = watched.mlp("alerts", "show", alert).out
    assert "psi" in out
    assert "noise" in out
    reason = ("--reason", "60 months are a new product", "--principal", "alice")
    assert watched.must("alerts", "ack", alert, *reason)["acknowledged_by"] == "alice"
    assert "alice looks after it" in watched.mlp("alerts").out
    assert watched.must("alerts", "close", alert, "--principal", "alice")["cause"] == "by_hand"
    shown = watched.must("alerts", "list", "--model", "small", "--open")
    assert alert not in {one["alert"] for one in shown["alerts"]}
    assert shown["open"] == len(shown["alerts"])
    assert "closed" in watched.mlp("alerts").out


def test_performance_says_how_many_labels_wait(watched: Shop) -> None:
    out = watched.mlp("performance", "small", *WINDOW).out
    assert "waiting" in out
    (version,) = watched.must("performance", "small", *WINDOW)["versions"]
    assert (version["rows"], version["measured"]) == (0, None)
    assert version["waiting"] > 0
    assert "Nothing was decided" in watched.mlp("performance", "small", "--window", "2009-01", *MODELS).out


def test_a_route_that_cannot_be_reached_is_said_and_is_told_later(
    watched: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_platform.monitoring.notices.ATTEMPTS", 1)  # the pauses are tested elsewhere
    with Receiver() as receiver:
        away = receiver.url
    root = next(path for path in watched.folder.rglob("settings.toml"))
    before = root.read_text()
    root.write_text(f'{before}\n[alerts.desk]\nkind = "webhook"\nurl = "{away}"\n')
    raised = watched.must("watch", "small", *WINDOW)
    assert "cannot be reached" in raised["delivered"][0]["failed"]
    ran = watched.mlp("alerts", "deliver")
    assert ran.code == 9
    with Receiver() as receiver:
        root.write_text(f'{before}\n[alerts.desk]\nkind = "webhook"\nurl = "{receiver.url}"\n')
        assert watched.must("alerts", "deliver")["routes"][0]["sent"] == len(raised["raised"])
    assert len(receiver.got) == len(raised["raised"])


def test_mistakes_are_one_line_with_the_next_step(watched: Shop) -> None:
    assert watched.mlp("drift", "small", "--window", "May", *MODELS).code == 3
    assert watched.mlp("alerts", "show", "al-unknown").code == 4
    nothing = watched.mlp("drift", "small", "--window", "2009-01", *MODELS)
    assert nothing.code == 3
    assert "Next:" in nothing.problem
    misplaced = call("alerts", "--open", "show", "al-1")
    assert misplaced.code == 2
    assert "mlp alerts list" in misplaced.err
