"""A router whose stored features are in a real Redis: what it finds, and what it says when Redis is away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ml_platform.core.fields import category, number
from ml_platform.core.objects import ObjectStore
from ml_platform.core.settings import load_settings
from ml_platform.features import Entity, FeatureView, SameAsEvent, Source
from ml_platform.features.definitions import store as store_definition
from ml_platform.features.online import change_points
from ml_platform.features.stores import open_online_store
from ml_platform.serving.online_record import LoggedDecision, decode
from ml_platform.serving.router_answers import Answer, Rejection
from ml_platform.serving.wal import read_frames
from tests.features.support import at
from tests.services.redis import RedisServer
from tests.serving.router_support import FIRST, NOW_US, OnlineRoot, make_online_root, plain, second_parts
from tests.serving.support import train

HOUR_US = 3_600_000_000
RATES = Source(
    "rates",
    columns={"loan_id": "int64", "at": "timestamp", "rate": "float64", "region": "string"},
    keys=("loan_id",),
    event_time="at",
    known_time=SameAsEvent("the rate is set then"),
)
BY_LOAN = FeatureView(
    "by_loan",
    entity=Entity("loan", keys=("loan_id",), personal=True),
    source=RATES,
    columns=(number("rate"), category("region", nullable=True)),
)
CONTRACT = replace(
    FIRST,
    fields=tuple(
        replace(item, reference=f"{BY_LOAN.reference}:{item.name}") if item.origin == "stored" else item
        for item in FIRST.fields
    ),
)


@pytest.fixture
def server(redis_server: str, tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path / "redis")
    yield made
    made.kill()


@pytest.fixture
def world(tmp_path: Path, server: RedisServer) -> OnlineRoot:
    made = make_online_root(tmp_path / "root", train(CONTRACT), second_parts())
    with (made.root / "settings.toml").open("a") as file:
        file.write(f'online = "{server.url("router")}"\n')
    store_definition(ObjectStore(made.settings.objects), BY_LOAN)
    made.routes.write(made.route())
    return replace(made, settings=load_settings(made.root / "settings.toml"))


def publish(server: RedisServer, rate: float, at_us: int) -> None:
    loans = list(range(20))
    rows = RATES.conform(
        pa.table(
            {
                "loan_id": loans,
                "at": pa.array([at_us] * 20, pa.int64()).cast(pa.timestamp("us", "UTC")),
                "rate": [rate] * 20,
                "region": ["north" if loan % 2 else None for loan in loans],
            }
        )
    )
    until = NOW_US - HOUR_US
    store = open_online_store(server.url("router"))
    store.publish(BY_LOAN, change_points(BY_LOAN, rows, until=at(until)), until_us=until)
    store.close()


def test_a_router_reads_redis_refuses_while_it_is_away_and_goes_on_when_it_is_back(
    world: OnlineRoot, server: RedisServer
) -> None:
    publish(server, 0.25, NOW_US - 3 * HOUR_US)
    router = world.router(features=None)
    try:
        (first,) = router.handle([plain(7)])
        assert isinstance(first, Answer)
        server.kill()
        (away,) = router.handle([plain(8)])
        assert isinstance(away, Rejection)
        assert away.unavailable
        assert "online" in away.text
        assert router.metrics.unavailable["features"] == 1
        server.start()
        (back,) = router.handle([plain(9)])
        assert isinstance(back, Answer)
    finally:
        router.close()
    (path,) = (world.root / "wal").glob("*/*/*.wal")
    records = [decode(payload, {CONTRACT.digest: CONTRACT}.__getitem__) for payload in read_frames(path).frames]
    assert all(isinstance(one, LoggedDecision) for one in records)
    assert [one.section.keys[0][1] for one in records] == [7, 9]  # what was not answered is not recorded as decided
    names = [item.name for item in CONTRACT.fields]
    stored = dict(zip(names, records[0].section.features, strict=True))
    assert stored["rate"] == ("f32", 0.25)
    assert stored["region"] == ("text", "north")


def test_a_view_that_nobody_published_is_said_with_the_command(world: OnlineRoot) -> None:
    router = world.router(features=None)
    try:
        (found,) = router.handle([plain(7)])
        assert isinstance(found, Rejection)
        assert "mlp features materialize" in found.text
    finally:
        router.close()
