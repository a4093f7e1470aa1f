"""What a newcomer looks for: a candidate that failed, where the clock stands, which decision to trace."""

from __future__ import annotations

from pathlib import Path

from tests.cli.support import MODELS, Shop, call


def test_a_failed_candidate_can_be_looked_at(trained: Shop) -> None:
    ran = trained.mlp("train", "hopeless", "--as-of", "2010-01-01", *MODELS)
    (listed,) = trained.must("versions", "hopeless")["candidates_not_registered"]
    key = listed["candidate"]
    assert f"mlp show hopeless --candidate {key}" in ran.problem
    assert "at_least.auc fail" in ran.problem
    out = trained.mlp("show", "hopeless", "--candidate", key).out
    for text in (
        f"hopeless candidate {key}",
        "version          none",
        "as of            2010-01-01 00:00:00Z",
        "source tables    applications version ",
        " to test on",
        "immature",
        "AUC",
        "test rows",
    ):
        assert text in out, text
    (row,) = [line for line in out.splitlines() if line.split()[:1] == ["at_least.auc"]]
    assert row.split()[1] == "fail"
    assert "0.990" in row
    assert "[" in row
    found = trained.must("show", "hopeless", "--candidate", key)
    assert {one["gate"]: one["verdict"] for one in found["evaluation"]["verdicts"]} == listed["verdicts"]
    rows = found["training_set"]
    assert rows["train_rows"] + rows["test_rows"] <= rows["rows"]
    assert found["request"]["candidate"] == key
    assert found["version"] is None


def test_a_candidate_that_became_a_version_is_shown_by_its_key_too(trained: Shop) -> None:
    key = trained.must("show", "small", 1)["candidate"]
    assert trained.must("show", "small", "--candidate", key)["version"] == 1
    unknown = trained.mlp("show", "small", "--candidate", "20100101T000000Z_000000000000")
    assert (unknown.code, "mlp versions small" in unknown.problem) == (4, True)
    for line in (("show", "small"), ("show", "small", 1, "--candidate", key)):
        ran = trained.mlp(*line)
        assert (ran.code, "--candidate KEY" in ran.problem) == (2, True)


def test_the_clock_of_a_replay_root_moves_forward_only(tmp_path: Path) -> None:
    call("keys", "new", "--principal", "ada", "--out", tmp_path / "ada")
    member = ("--member", f"ada={tmp_path / 'ada'}.pub")
    replay, wall = ("--root", tmp_path / "replay"), ("--root", tmp_path / "a wall")
    assert call("init", "--kind", "replay", "--starts-at", "2010-06-15", *member, *replay).code == 0
    assert call("clock", *replay).out == "clock  2010-06-15 00:00:00Z (replay)\n"
    assert call("clock", "--move", "2010-07-01T12:00:00Z", *replay).out == "clock  2010-07-01 12:00:00Z (replay)\n"
    back = call("clock", "--move", "2010-07-01", *replay)
    assert (back.code, "forward" in back.problem) == (2, True)
    assert call("clock", "--json", *replay).document == {"kind": "replay", "now": "2010-07-01T12:00:00.000000Z"}
    made = call("init", *member, *wall)
    assert f"export ML_PLATFORM_SETTINGS='{tmp_path}/a wall/settings.toml'" in made.out
    refused = call("clock", "--move", "2010-07-01", *wall)
    assert (refused.code, "wall root" in refused.problem) == (2, True)
    assert "(wall)" in call("clock", *wall).out


def test_decisions_are_listed_so_that_one_can_be_traced(live: Shop) -> None:
    made = live.must("score", "small", "--partition", "2010-06", *MODELS)
    every = live.must("decisions", "small", "--limit", 100_000)
    assert every["found"] == len(every["decisions"]) == made["accepted"]
    month = ("decisions", "small", "--partition", "2010-06", "--decision", "declined")
    declined = live.must(*month)
    assert declined["found"] == made["declined"]
    assert len(declined["decisions"]) == min(20, made["declined"])
    ids = [one["prediction_id"] for one in declined["decisions"]]
    assert ids == sorted(ids, reverse=True)
    one = declined["decisions"][0]
    assert (one["version"], one["decision"], one["decided_at"]) == (1, "declined", "2010-07-01T00:00:00.000000Z")
    assert "entity" not in one
    traced = live.must("trace", one["prediction_id"])["prediction"]
    assert {name: one[name] for name in ("score", "outputs", "flags")} == {
        name: traced[name] for name in ("score", "outputs", "flags")
    }
    (named,) = live.must(*month, "--limit", 1, "--keys")["decisions"]
    assert named["entity"] == traced["entity"]
    out = live.mlp(*month, "--limit", 1).out
    assert f"1 of {made['declined']:,} decisions" in out
    assert one["prediction_id"] in out
    assert "loan_id" not in out


def test_where_there_is_no_decision_the_list_is_empty_and_says_so(live: Shop) -> None:
    for asked in (("small", "--partition", "2010-05"), ("small", "--decision", "x"), ("hopeless",)):
        if asked == ("hopeless",):
            live.mlp("train", "hopeless", "--as-of", "2010-01-01", *MODELS)
        assert live.must("decisions", *asked) == {"model": asked[0], "found": 0, "decisions": []}
    assert "mlp score" in live.mlp("decisions", "small", "--partition", "2010-05").out
    assert live.mlp("decisions", "nothing").code == 4
