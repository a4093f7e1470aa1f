"""Stored features of a root: materialised by known month, joined point-in-time for training and for decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.clock import format_utc
from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.delta import Lake
from ml_platform.core.errors import DataError, NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import utc
from ml_platform.core.storage import StorageSettings
from ml_platform.features import FeatureView, definitions
from ml_platform.features.duckdb import point_in_time
from ml_platform.features.periods import floor_of
from ml_platform.features.quality import Judged
from ml_platform.features.tables import LakeSources, join_of, materialize, stored_history
from ml_platform.lifecycle.rejected import Rejected, keep_rejected, rejection
from ml_platform.lifecycle.sources import source_table
from ml_platform.model import Model, plain_sources
from ml_platform.platform import Platform
from ml_platform.serving import FeatureReader
from ml_platform.serving.tables import age_column

__all__ = [
    "Materialized",
    "contract_views",
    "feature_reader",
    "feature_versions",
    "materialize_model_views",
    "materialize_view",
    "not_over",
    "stored_columns",
    "training_join",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Materialized:
    """What a materialisation left; ``added`` counts the periods that it wrote, ``rejected`` are not visible.

    ``judged`` are the quality checks of the periods written or rejected now.
    """

    view: FeatureView
    table: str
    table_version: int
    rows: int
    added: int
    judged: Mapping[str, tuple[Judged, ...]] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view.reference,
            "table": self.table,
            "table_version": self.table_version,
            "rows": self.rows,
            f"added_{self.view.about.partition}s": self.added,
            "checked_periods": len(self.judged),
        }

    def require(self) -> Materialized:
        """Itself, where every period is there.

        Raises:
            DataError: periods were rejected; names the first, what was measured, and where the evidence is.
        """
        if self.rejected:
            raise rejection(self.view, self.rejected)
        return self


def materialize_view(
    platform: Platform, view: FeatureView, *, start: datetime, end: datetime, accept: str | None = None
) -> Materialized:
    """Writes the view's periods in [start, end), each at most once and only if it passes the view's quality checks.

    Where one fails, its rows and numbers are kept as evidence, the other periods are written, and the result says so.

    Args:
        platform: the root.
        view: a stored view; ``about.partition`` is the grain.
        start: first instant of a period, aware.
        end: likewise; outside.
        accept: why rows that fail a check are written all the same.

    Raises:
        DataError: a period is not over on the platform's clock: its values would be those of too early a time.
        NotFound: a source was never landed.
    """
    if utc(end) > platform.clock.now():
        what = f"A {view.about.partition}"
        step = f"Materialise {view.about.partition}s that are over."
        raise not_over(platform, utc(end), what, field=view.name, wall_step=step)
    tables = {source.name: source_table(source) for source in plain_sources(view.history)}
    for source, table in tables.items():
        if not platform.lake.exists(table):
            raise NotFound("The source has no rows here.", field=source, next_step="Land it first.")
    made = materialize(
        view,
        lake=platform.lake,
        sources=LakeSources(platform.lake, tables),
        start=start,
        end=end,
        grain=view.about.partition,
        accept=accept,
    )
    rejected = tuple(keep_rejected(platform, view, part) for part in made.rejected)
    return Materialized(view, made.name, made.version, made.rows, len(made.added), made.judged, rejected)


def not_over(platform: Platform, end: datetime, what: str, *, field: str, wall_step: str) -> DataError:
    """The error about a window that is not over: where the clock stands, and how a replay root's clock moves on.

    Args:
        platform: the root.
        end: when the window is over, aware.
        what: the window, as the sentence begins.
        field: of the error.
        wall_step: what to do in a wall root, whose clock nobody moves.
    """
    stands = _moment(platform.clock.now())
    move = f"Move it on: `mlp clock --move {_moment(end)}`."
    return DataError(
        f"{what} is not over on the platform's clock, which stands at {stands}.",
        field=field,
        next_step=move if platform.settings.kind == "replay" else wall_step,
    )


def _moment(at: datetime) -> str:
    """RFC 3339 without empty fractions; a bare date at midnight.

    >>> from datetime import UTC
    >>> _moment(datetime(2010, 7, 1, tzinfo=UTC)), _moment(datetime(2010, 7, 1, 12, tzinfo=UTC))
    ('2010-07-01', '2010-07-01T12:00:00Z')
    """
    return format_utc(at).replace(".000000Z", "Z").removesuffix("T00:00:00Z")


def materialize_model_views(
    platform: Platform, model: Model, *, end: datetime, views: Sequence[FeatureView] | None = None
) -> list[Materialized]:
    """Every stored view of a model, for all periods of its requests that end by ``end``; those done before are kept.

    Args:
        platform: the root.
        model: the declaration.
        end: aware.
        views: instead of the declared views, those of a version in service.

    Raises:
        DataError: a period failed a quality check.
    """
    declared = {view.digest: view for view in model.stored_views}
    # A definition that was stored says nothing about partitions and quality; the declaration of today may.
    wanted = [declared.get(view.digest, view) for view in (model.stored_views if views is None else views)]
    if not wanted:
        return []
    start, made = _first_month(platform, model), []
    for view in wanted:
        until = floor_of(end, view.about.partition)
        made += [materialize_view(platform, view, start=start, end=until).require()] if start < until else []
    return made


def _first_month(platform: Platform, model: Model) -> datetime:
    source = model.request.source
    first: Any = pc.min(platform.lake.read(source_table(source), columns=[model.request.time]).column(0)).as_py()
    return floor_of(first if first is not None else platform.clock.now(), "month")


def feature_versions(platform: Platform, model: Model) -> dict[str, dict[str, Any]]:
    """Table and newest version of each stored view, by reference."""
    return {
        view.reference: {"table": view.table, "table_version": platform.lake.version(view.table) or 0}
        for view in model.stored_views
    }


def training_join(
    platform: Platform, time: str, pinned: Mapping[str, Mapping[str, Any]]
) -> Callable[[pa.Table, Sequence[FeatureView]], pa.Table]:
    """The join of a training set, over the pinned versions of the stored tables."""

    def join(rows: pa.Table, views: Sequence[FeatureView]) -> pa.Table:
        return _joined(platform.lake, rows, time, views, pinned)

    return join


def _joined(
    lake: Lake,
    rows: pa.Table,
    time: str,
    views: Sequence[FeatureView],
    pinned: Mapping[str, Mapping[str, Any]],
) -> pa.Table:
    start, end = _span(rows, time)
    joins = [
        join_of(
            view,
            stored_history(
                view,
                lake,
                start=start,
                end=end,
                version=int(pinned[view.reference]["table_version"]) if view.reference in pinned else None,
            ),
        )
        for view in views
    ]
    return point_in_time(rows, time=time, joins=joins)


def _span(rows: pa.Table, time: str) -> tuple[datetime, datetime]:
    """[earliest, just after the latest) request time."""
    limits: Any = pc.min_max(rows.column(time).cast(pa.timestamp("us", "UTC")).cast(pa.int64())).as_py()
    return tuple(  # type: ignore[return-value]
        _EPOCH + timedelta(microseconds=at) for at in (limits["min"], limits["max"] + 1)
    )


def contract_views(platform: Platform, contract: Contract) -> tuple[FeatureView, ...]:
    """The stored views that a version reads, as they were declared for it."""
    return _contract_views(platform.objects, contract)


def _contract_views(objects: ObjectStore, contract: Contract) -> tuple[FeatureView, ...]:
    references = dict.fromkeys(_view_reference(item) for item in contract.stored)
    return tuple(_load_view(objects, reference) for reference in references)


def _view_reference(item: ResolvedField) -> str:
    return item.reference.rpartition(":")[0]


def _load_view(objects: ObjectStore, reference: str) -> FeatureView:
    view = definitions.load(objects, reference.partition("@")[2])
    if not isinstance(view, FeatureView):
        raise NotFound("The definition is no feature view.", field=reference, next_step="Restore it from a backup.")
    return view


def feature_reader(platform: Platform) -> FeatureReader:
    """Reads the stored features of a contract as they were known at each row's request time; crosses processes."""
    return _StoredFeatures(platform.lake, platform.objects)


class _StoredFeatures:
    """The reader over a lake and the definitions in an object store."""

    def __init__(self, lake: Lake, objects: ObjectStore) -> None:
        self._lake = lake
        self._objects = objects

    def __reduce__(self) -> tuple[object, ...]:
        # Another process opens the same places, once.
        return _stored_features, (_absolute(self._lake.root), _absolute(self._objects.url), self._objects.storage)

    def __call__(self, contract: Contract, rows: pa.Table) -> pa.Table:
        views = _contract_views(self._objects, contract)
        found = _joined(self._lake, rows, contract.time, views, {}) if rows.num_rows else _empty(rows, contract, views)
        return stored_columns(contract, found)


@lru_cache(maxsize=4)
def _stored_features(lake: str, objects: str, storage: StorageSettings) -> _StoredFeatures:
    return _StoredFeatures(Lake(lake, storage), ObjectStore(objects, storage))


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())


def stored_columns(contract: Contract, found: pa.Table) -> pa.Table:
    """Of joined rows, what a ``FeatureReader`` returns: each stored field and its age at the request time."""
    columns: dict[str, Any] = {}
    times = found.column(contract.time).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    for item in contract.stored:
        view = _view_reference(item).partition("@")[0]
        event = found.column(f"{view}__event_time").cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        columns[item.name] = found.column(item.name)
        columns[age_column(item)] = pc.subtract(times, event)
    return pa.table(columns)


def _empty(rows: pa.Table, contract: Contract, views: Sequence[FeatureView]) -> pa.Table:
    kinds = {"number": pa.float64(), "category": pa.string()}
    for item in contract.stored:
        rows = rows.append_column(item.name, pa.array([], kinds[item.kind]))
    for view in views:
        rows = rows.append_column(f"{view.name}__event_time", pa.array([], pa.timestamp("us", "UTC")))
    return rows
