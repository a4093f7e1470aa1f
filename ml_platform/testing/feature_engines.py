"""What every feature engine must answer: the same as brute force, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, Protocol

import pyarrow as pa

from ml_platform.core.rows import micros
from ml_platform.features import FeatureView
from ml_platform.features.duckdb import point_in_time
from ml_platform.features.online import OnlineStore, change_points, key_bytes
from ml_platform.features.tables import history_of, join_of
from ml_platform.features.tiles import WindowTiles
from ml_platform.features.windows import all_changes
from ml_platform.testing import histories as generated
from ml_platform.testing.reference import feature_values

__all__ = ["DuckdbFeatures", "FeatureEngine", "OnlineFeatures", "SparkFeatures", "TileFeatures", "check_feature_engine"]

_TIME: Final = "__t"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FeatureEngine(Protocol):
    """Computes a view from its source's rows, for requests."""

    def values(self, view: FeatureView, rows: pa.Table, requests: pa.Table, time: str) -> pa.Table:
        """The view's features, one row for each request and in the order of requests.

        Args:
            view: a feature view.
            rows: conformed rows of ``view.history``.
            requests: the entity's keys, and the request time.
            time: the name of the request time.
        """
        ...


class DuckdbFeatures:
    """The embedded engine."""

    def values(self, view: FeatureView, rows: pa.Table, requests: pa.Table, time: str) -> pa.Table:
        data = all_changes(view, rows) if view.aggregations else rows
        joined = point_in_time(requests, time=time, joins=[join_of(view, history_of(view, data))])
        return joined.select([feature.name for feature in view.features])


class OnlineFeatures:
    """An online store: everything is published, then asked for."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._until = _EPOCH

    def values(self, view: FeatureView, rows: pa.Table, requests: pa.Table, time: str) -> pa.Table:
        times: list[int] = requests.column(time).cast(pa.int64()).to_numpy().tolist()
        # Never before what was published last: a store refuses that.
        until = self._until = max(self._until, _EPOCH + timedelta(microseconds=max(times, default=0)))
        self._store.publish(view, change_points(view, rows, until=until), until_us=micros(until))
        keys = zip(*(requests.column(key).to_pylist() for key in view.entity.keys), strict=True)
        found = self._store.get(view, [key_bytes(view, key) for key in keys], times)
        columns = zip(*(one.values for one in found), strict=True)
        return pa.table({field.name: list(column) for field, column in zip(view.features, columns, strict=True)})


class TileFeatures:
    """Tiles, as a stream fills and asks them: rows and requests in the order of time."""

    def values(self, view: FeatureView, rows: pa.Table, requests: pa.Table, time: str) -> pa.Table:
        tiles = WindowTiles(view)
        plain = _plain_rows(rows)
        source = view.history
        e = [max(row[source.event_time], row[source.known_column]) for row in plain]
        times: list[int] = requests.column(time).cast(pa.int64()).to_numpy().tolist()
        refreshed = [t_us if view.refresh_us is None else t_us // view.refresh_us * view.refresh_us for t_us in times]
        keys = list(zip(*(requests.column(key).to_pylist() for key in view.entity.keys), strict=True))
        # Rows before requests at the same time: what is known at T counts at T.
        moments = sorted([(at, 0, n) for n, at in enumerate(e)] + [(at, 1, n) for n, at in enumerate(refreshed)])
        found: dict[int, dict[str, float | None]] = {}
        for _, asks, n in moments:
            if asks:
                found[n] = tiles.values(keys[n], times[n])
            else:
                tiles.apply(plain[n])
        return pa.table({item.name: [found[n][item.name] for n in range(len(times))] for item in view.features})


def _plain_rows(rows: pa.Table) -> list[dict[str, Any]]:
    for position, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            rows = rows.set_column(position, field.name, rows.column(position).cast(pa.int64()))
    return rows.to_pylist()


class SparkFeatures:
    """Spark, in a session of ``core.spark.open_spark``."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def values(self, view: FeatureView, rows: pa.Table, requests: pa.Table, time: str) -> pa.Table:
        from ml_platform.features import spark, spark_sources

        frame = spark_sources.conform(view.history, self._session.createDataFrame(rows))
        data = spark.all_changes(view, frame) if view.aggregations else frame
        numbered = requests.append_column("__n", pa.array(range(requests.num_rows), pa.int64()))
        asked = self._session.createDataFrame(numbered)
        joined = spark.point_in_time(asked, time=time, joins=[join_of(view, history_of(view, data))])
        found: pa.Table = joined.toArrow().sort_by("__n")
        return found.select([feature.name for feature in view.features])


def check_feature_engine(
    engine: FeatureEngine, random: Random, *, view: str, histories: int = 25, requests: int = 12
) -> None:
    """Draws histories and requests, asks the engine about all of them at once, and compares with brute force.

    Args:
        engine: the one to be judged.
        random: where histories come from: of the standard library, or of hypothesis, which then shrinks them.
        view: one of ``ml_platform.testing.histories.VIEWS``.
        histories: how many.
        requests: how many for each history.

    Raises:
        AssertionError: the first value that differs, with the history that it was computed from.
    """
    declared = generated.VIEWS[view]
    rows: list[dict[str, Any]] = []
    asked: list[tuple[int, tuple[Any, ...], int]] = []
    drawn = [generated.history(random, declared, place) for place in range(histories)]
    for place, versions in enumerate(drawn):
        rows += versions
        times = generated.request_times(random, declared, versions, requests)
        asked += [(place, _key(random, declared, versions), t_us) for t_us in times]
    random.shuffle(rows)
    table = generated.table(rows)
    got = engine.values(declared, table, _requests(declared, asked), _TIME).to_pylist()
    if len(got) != len(asked):
        raise AssertionError(f"{len(asked)} requests were made, {len(got)} were answered.")
    for (place, key, t_us), values in zip(asked, got, strict=True):
        wanted = feature_values(declared, drawn[place], key, t_us)
        wrong = {name: (values[name], wanted[name]) for name in wanted if not _same(values[name], wanted[name])}
        if wrong:
            raise AssertionError(f"{view} of {key} at {t_us}: (got, wanted) {wrong}; history {drawn[place]}")


def _key(random: Random, view: FeatureView, versions: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    choices = sorted({tuple(row[key] for key in view.entity.keys) for row in versions}, key=repr)
    return random.choice(choices) if choices else tuple(None for _ in view.entity.keys)


def _requests(view: FeatureView, asked: Sequence[tuple[int, tuple[Any, ...], int]]) -> pa.Table:
    schema = view.history.arrow_schema()
    columns = {
        key: pa.array([keys[position] for _, keys, _ in asked], schema.field(key).type)
        for position, key in enumerate(view.entity.keys)
    }
    times = pa.array([t_us for _, _, t_us in asked], pa.int64()).cast(pa.timestamp("us", "UTC"))
    return pa.table({**columns, _TIME: times})


def _same(got: Any, wanted: Any) -> bool:
    # Each float64 has its own repr; -0.0 and 0.0 are one value.
    return (got is None) == (wanted is None) and (got is None or _text(got) == _text(wanted))


def _text(value: Any) -> str:
    return repr(float(value) + 0.0) if isinstance(value, int | float) else repr(value)
