"""``mlp features``, on the shop whose clock stands in July 2010."""

from __future__ import annotations

from tests.cli.support import MODELS, Shop
from tests.services.redis import RedisServer, free_port


def test_features_are_published_and_looked_up(live: Shop) -> None:
    made = live.must("features", "materialize", "small", *MODELS)
    assert [one["view"].partition("@")[0] for one in made["published"]] == ["purpose_history"]
    found = live.must("features", "get", "purpose_history", "--key", "purpose=car", *MODELS)
    assert 0.0 <= found["values"]["defaulted_mean_720d"] <= 1.0
    ran = live.mlp("features", "get", "purpose_history", "--key", "purpose=car", *MODELS)
    assert ran.code == 0
    assert "age seconds" in ran.out


def test_an_unknown_view_and_a_wrong_key_say_what_there_is(live: Shop) -> None:
    ran = live.mlp("features", "get", "nothing", "--key", "purpose=car", *MODELS)
    assert ran.code == 4
    assert "purpose_history" in ran.problem
    ran = live.mlp("features", "get", "purpose_history", "--key", "loan_id=1", *MODELS)
    assert ran.code == 3
    assert "Give purpose" in ran.problem


def test_the_same_commands_work_on_a_redis(live: Shop, redis: RedisServer) -> None:
    embedded = live.must("features", "materialize", "small", *MODELS)
    key = ("features", "get", "purpose_history", "--key", "purpose=car", *MODELS)
    before, settings = live.must(*key), live.root / "settings.toml"
    text = settings.read_text()
    try:
        settings.write_text(f'online = "{redis.url("cli")}"\n{text}')
        ran = live.mlp(*key)
        assert ran.code == 4
        assert "mlp features materialize" in ran.problem
        assert live.must("features", "materialize", "small", *MODELS) == embedded
        assert live.must(*key) == before
        settings.write_text(f'online = "redis://127.0.0.1:{free_port()}/0?prefix=cli"\n{text}')
        ran = live.mlp(*key)
        assert ran.code == 9
        assert "Start Redis" in ran.problem
    finally:
        settings.write_text(text)


def test_views_are_searched_compared_locked_and_listed_with_who_needs_them(live: Shop) -> None:
    (found,) = [
        one
        for one in live.must("features", "search", "purpose_history", *MODELS)["found"]
        if one["kind"] == "feature_view"
    ]
    assert {(use["model"], use["version"], use["stage"]) for use in found["used_by"]} == {("small", 1, "production")}
    assert found["owners"] == ["team:credit"]
    ran = live.mlp("features", "search", "outcomes purpose", *MODELS)
    assert "small 1 (production)" in ran.out
    same = live.must("features", "diff", found["reference"][:31], "purpose_history", *MODELS)
    assert same["differences"] == []
    assert "They are one definition" in live.mlp("features", "diff", "purpose_history", "purpose_history", *MODELS).out
    request = live.must("features", "diff", "application", "purpose_history", *MODELS)
    assert {one["path"][0] for one in request["differences"]} >= {"kind", "entity", "aggregations"}
    locked = live.must("features", "lock", found["reference"], "--file", live.folder / "features.lock")
    assert locked["definitions"] == [found["reference"]]
    live.must("features", "materialize", "small", *MODELS)
    ran = live.mlp("features", "retire", *MODELS)
    assert found["reference"] in ran.out
    ran = live.mlp("features", "retire", found["reference"], *MODELS)
    assert ran.code == 6
    assert "small version 1" in ran.problem
    assert live.mlp("features", "search", "no such thing", *MODELS).out.startswith("0 definitions")


def test_the_status_of_views_says_how_far_they_are(live: Shop) -> None:
    live.must("features", "materialize", "small", *MODELS)
    (view,) = live.must("features", "status", "small", *MODELS)["views"]
    assert view["complete_until"] == "2010-07-01T00:00:00.000000Z"
    assert view["published_lag_seconds"] == view["lag_seconds"] == 0.0
    assert (view["missing"], view["rejected"], view["fresh"]) == ([], [], True)
    assert "purpose_history" in live.mlp("features", "status", *MODELS).out


def test_lineage_is_written_as_events_one_a_line(shop: Shop) -> None:
    import json

    out = shop.folder / "lineage.ndjson"
    made = shop.must("lineage", "export", "small", "--out", out, "--namespace", "bank", *MODELS)
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert made["events"] == len(events) == 2
    assert {one["job"]["namespace"] for one in events} == {"bank"}
    shown = shop.mlp("lineage", "export", "small", "--namespace", "bank", *MODELS).out.splitlines()
    assert [json.loads(line)["job"] for line in shown] == [one["job"] for one in events]


def test_skew_of_decided_batches_is_told_and_a_threshold_sets_the_exit_code(live: Shop) -> None:
    found = live.must("skew", "small", "--window", "2010-06", *MODELS)
    (version,) = found["versions"]
    assert version["sampled"] > 10
    assert [(one["feature"], one["share"]) for one in version["features"]] == [("defaulted_mean_720d", 1.0)]
    ran = live.mlp("skew", "small", "--window", "2010-06", "--rows", 5, *MODELS)
    assert ran.code == 0
    assert "All features are above 99.0%." in ran.out
