"""Stored features online: published to the online store at every refresh, asked for as of a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import DataError, NotFound
from ml_platform.core.rows import _EPOCH, micros
from ml_platform.features import FeatureView
from ml_platform.features.online import OnlineStore, change_points, key_bytes
from ml_platform.features.quality import judge
from ml_platform.features.stores import open_online_store
from ml_platform.features.tables import LakeSources, read_rows
from ml_platform.lifecycle.features import contract_views
from ml_platform.lifecycle.sources import source_table
from ml_platform.model import Model, plain_sources
from ml_platform.platform import Platform
from ml_platform.training.artifact import load_artifact

__all__ = ["Published", "get_online_features", "online_store", "publish_features", "publish_view", "views_in_service"]

_SERVED = ("staging", "canary", "production")


@dataclass(frozen=True)
class Published:
    """What publishing a view left in the online store."""

    view: str
    points: int
    until: datetime

    def to_json(self) -> dict[str, Any]:
        return {"view": self.view, "change_points": self.points, "published_until": format_utc(self.until)}


def online_store(platform: Platform) -> OnlineStore:
    """The root's online store."""
    return open_online_store(platform.settings.online)


def publish_view(platform: Platform, view: FeatureView, store: OnlineStore | None = None) -> Published:
    """Replaces what the online store holds of a view by what is known now, on the platform's clock.

    Raises:
        NotFound: a source was never landed.
        DataError: nulls or ranges fail the view's quality checks; what the store held it holds.
        StorageFailed: the store refused; what it held it holds.
    """
    now = platform.clock.now()
    tables = {source.name: source_table(source) for source in plain_sources(view.history)}
    for source, table in tables.items():
        if not platform.lake.exists(table):
            raise NotFound("The source has no rows here.", field=source, next_step=f"`mlp land {source} FILE`.")
    rows, _ = read_rows(view.history, LakeSources(platform.lake, tables), until=now)
    found = change_points(view, rows, until=now)
    _require_quality(view, found)
    return Published(view.reference, (store or online_store(platform)).publish(view, found, until_us=micros(now)), now)


def _require_quality(view: FeatureView, points: pa.Table) -> None:
    """Nothing is published whose nulls or ranges fail the view's checks; rows of periods are counted elsewhere."""
    checks = [check for check in view.about.quality if check.kind in {"null_rate", "range"}]
    failed = [one.words() for one in judge(checks, points, rows_before=None) if not one.passed]
    if failed:
        raise DataError(
            f"What would be published fails a quality check: {'; '.join(failed)}.",
            field=view.name,
            next_step="Correct the source and publish again; what the online store holds is unchanged.",
        )


def publish_features(platform: Platform, model: Model) -> list[Published]:
    """Every view that a model declares, and every one that a version in service reads, older definitions too."""
    store = online_store(platform)
    views = {view.reference: view for view in (*views_in_service(platform, model.name), *model.stored_views)}
    return [publish_view(platform, view, store) for _, view in sorted(views.items())]


def views_in_service(platform: Platform, model: str) -> tuple[FeatureView, ...]:
    """The views, as they were declared, of the versions that hold a stage or held production."""
    known = platform.registry.state().models.get(model)
    found: dict[str, FeatureView] = {}
    for version in known.versions.values() if known else ():
        if version.stage in _SERVED or version.productions:
            contract = load_artifact(platform.objects, version.digests.artifact).contract
            found |= {view.reference: view for view in contract_views(platform, contract)}
    return tuple(found.values())


def get_online_features(
    platform: Platform, view: FeatureView, key: Mapping[str, Any], at: datetime | None = None
) -> dict[str, Any]:
    """What a router would find for a key: values, their event time and age.

    Args:
        platform: the root.
        view: a stored view.
        key: the entity's key, by column.
        at: the request time T; now on the platform's clock if None.

    Raises:
        DataError: the key is not the entity's, or has another type.
        NotFound: the view was never published.
    """
    store, t_us = online_store(platform), micros(at or platform.clock.now())
    (held,) = store.get(view, [key_bytes(view, _typed(view, key))], [t_us])
    until_us = store.published_until_us(view) or 0
    return {
        "view": view.reference,
        "key": dict(key),
        "values": dict(zip((item.name for item in view.features), held.values, strict=True)),
        "event_time": None if held.event_us is None else _text(held.event_us),
        "age_seconds": None if held.event_us is None else (t_us - held.event_us) / 1e6,
        "published_until": _text(until_us),
        "stale_seconds": max(0.0, (t_us - until_us) / 1e6),
    }


def _typed(view: FeatureView, key: Mapping[str, Any]) -> Sequence[Any]:
    if set(key) != set(view.entity.keys):
        raise DataError(
            "This is not the key of the view's entity.",
            field=", ".join(sorted(set(key) ^ set(view.entity.keys))),
            next_step=f"Give {', '.join(view.entity.keys)}.",
        )
    kinds = view.history.columns
    try:
        return [int(key[name]) if kinds[name] == "int64" else key[name] for name in view.entity.keys]
    except (TypeError, ValueError):
        raise DataError("The key is no whole number.", field="key", next_step="Give an integer.") from None


def _text(us: int) -> str:
    return format_utc(_EPOCH + timedelta(microseconds=us))
