"""What is published online is what a batch of the same requests reads, ages included."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from ml_platform import Model, Platform
from ml_platform.core.errors import DataError, NotFound
from ml_platform.core.rows import micros
from ml_platform.features.duckdb import point_in_time
from ml_platform.features.online import key_bytes
from ml_platform.features.tables import join_of, stored_history
from ml_platform.lifecycle import get_online_features, publish_features
from ml_platform.lifecycle.features import materialize_model_views
from ml_platform.lifecycle.online_features import online_store
from tests.services.redis import RedisServer

AS_OF = datetime(2010, 1, 1, tzinfo=UTC)


def test_published_features_are_those_of_the_stored_table(landed: Platform, quick: Model) -> None:
    (view,) = quick.stored_views
    (made,) = publish_features(landed, quick)
    assert made.view == view.reference
    assert made.points > 50
    materialize_model_views(landed, quick, end=AS_OF)
    keys = ("car", "credit_card", "small_business", "unheard_of", None)
    moments = [AS_OF - timedelta(hours=1 + 31 * number) for number in range(60)]
    asked = pa.table(
        {
            "purpose": [key for _ in moments for key in keys],
            "t": pa.array([at for at in moments for _ in keys], pa.timestamp("us", "UTC")),
        }
    )
    start = min(moments).replace(day=1, hour=0)
    offline = point_in_time(
        asked, time="t", joins=[join_of(view, stored_history(view, landed.lake, start=start, end=AS_OF))]
    )
    store = online_store(landed)
    found = store.get(
        view,
        [key_bytes(view, (key,)) for key in asked.column("purpose").to_pylist()],
        [micros(at) for at in moments for _ in keys],
    )
    (feature,) = (item.name for item in view.features)
    assert [one.values[0] for one in found] == offline.column(feature).to_pylist()
    assert [one.event_us for one in found] == offline.column(f"{view.name}__event_time").cast(pa.int64()).to_pylist()
    assert sum(one.event_us is not None for one in found) > 100


def test_a_value_is_shown_with_its_age_and_how_stale_the_store_is(landed: Platform, quick: Model) -> None:
    (view,) = quick.stored_views
    publish_features(landed, quick)
    shown = get_online_features(landed, view, {"purpose": "car"})
    assert 0.0 <= shown["values"]["defaulted_mean_720d"] <= 1.0
    assert shown["age_seconds"] >= 0.0
    assert shown["stale_seconds"] == 0.0
    later = get_online_features(landed, view, {"purpose": "car"}, AS_OF + timedelta(days=1))
    assert later["stale_seconds"] == 86_400.0
    assert later["age_seconds"] == shown["age_seconds"] + 86_400.0


def test_a_wrong_key_and_an_unpublished_view_are_errors(landed: Platform, quick: Model) -> None:
    (view,) = quick.stored_views
    with pytest.raises(NotFound, match="mlp features materialize"):
        get_online_features(landed, view, {"purpose": "car"})
    with pytest.raises(DataError, match="purpose"):
        get_online_features(landed, view, {"loan_id": 7})


def test_nothing_is_published_of_sources_that_were_never_landed(empty: Platform, quick: Model) -> None:
    with pytest.raises(NotFound, match="mlp land"):
        publish_features(empty, quick)


def test_the_settings_choose_redis_and_it_shows_what_the_embedded_store_shows(
    landed: Platform, quick: Model, redis: RedisServer
) -> None:
    (view,) = quick.stored_views
    publish_features(landed, quick)
    embedded = get_online_features(landed, view, {"purpose": "car"})
    shared = replace(landed, settings=replace(landed.settings, online=redis.url("lifecycle")))
    with pytest.raises(NotFound, match="mlp features materialize"):
        get_online_features(shared, view, {"purpose": "car"})
    (made,) = publish_features(shared, quick)
    assert made.points > 50
    assert get_online_features(shared, view, {"purpose": "car"}) == embedded
