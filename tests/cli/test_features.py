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
