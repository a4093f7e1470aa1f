"""Training-serving skew: logged decisions are sampled, their stored features recomputed, differences explained."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.contract import ResolvedField
from ml_platform.features import FeatureView
from ml_platform.features.online import AT, EVENT, KEY, ChangePoint, change_points, key_bytes
from ml_platform.features.tables import LakeSources, read_rows
from ml_platform.lifecycle.features import contract_views
from ml_platform.lifecycle.sources import source_table
from ml_platform.lifecycle.window_records import WindowRecords, monitored_window, read_window, versions_of_record
from ml_platform.model import Model, plain_sources
from ml_platform.monitoring.skew import REASONS, FeatureSkew, skew_reason
from ml_platform.platform import Platform

__all__ = ["SkewReport", "VersionSkew", "feature_skew"]

DEFAULT_ROWS: Final = 500
DEFAULT_LEAST: Final = 0.99
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class VersionSkew:
    """One version's sampled decisions of a window, feature by feature."""

    version: int
    decisions: int
    sampled: int
    features: tuple[FeatureSkew, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "decisions": self.decisions,
            "sampled": self.sampled,
            "features": [one.to_json() for one in self.features],
        }


@dataclass(frozen=True)
class SkewReport:
    """A window's skew against a threshold; ``least`` is the smallest share of equal values that is right."""

    model: str
    window: str
    least: float
    versions: tuple[VersionSkew, ...]

    @property
    def failed(self) -> list[tuple[int, FeatureSkew]]:
        """The features below the threshold, by version."""
        return [(one.version, item) for one in self.versions for item in one.features if item.share < self.least]

    def words(self) -> list[str]:
        """One line a feature that fails: how much is equal, and the reasons, most frequent first."""
        lines = []
        for version, item in self.failed:
            reasons = sorted(item.reasons.items(), key=lambda one: (-one[1], one[0]))
            why = "; ".join(f"{count} × {name}: {REASONS[name]}" for name, count in reasons)  # type: ignore[index]
            lines.append(f"{item.feature} (version {version}): {item.share:.1%} of {item.compared} equal. {why}")
        return lines

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "window": self.window,
            "least": self.least,
            "passed": not self.failed,
            "versions": [one.to_json() for one in self.versions],
        }


def feature_skew(
    platform: Platform, model: Model, window: str, *, rows: int = DEFAULT_ROWS, least: float = DEFAULT_LEAST
) -> SkewReport:
    """Recomputes the stored features of a window's logged decisions as of their request times, and compares.

    The sample is the same whenever it is drawn: the decisions whose ids have the smallest hashes. Values are recomputed
    from the sources as they are known now, by the definitions that the version's contract names.

    Args:
        platform: the root.
        model: the declaration.
        window: a month ``YYYY-MM`` or a day ``YYYY-MM-DD`` of request times.
        rows: how many decisions of each version are sampled at most.
        least: the smallest share of equal values that is right.

    Raises:
        NotFound: a source or a definition is gone.
    """
    span, found = monitored_window(window), []
    for version in versions_of_record(platform, model.name, span):
        records = read_window(platform, model.name, span, version)
        sample = _sample(records.table, rows)
        views = contract_views(platform, records.contract)
        features = [one for view in views for one in _view_skew(platform, view, records, sample)]
        found.append(VersionSkew(version, records.table.num_rows, sample.num_rows, tuple(features)))
    return SkewReport(model.name, window, least, tuple(found))


def _sample(table: pa.Table, rows: int) -> pa.Table:
    ids: Any = table.column("prediction_id").to_pylist()
    order = sorted(range(len(ids)), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    return table.take(pa.array(sorted(order[:rows]), pa.int64()))


def _view_skew(platform: Platform, view: FeatureView, records: WindowRecords, sample: pa.Table) -> list[FeatureSkew]:
    keys, times = _keys(view, sample), _micros(sample)
    history = _history(platform, view, {key for key in keys if key is not None}) if sample.num_rows else {}
    names = [item.name for item in view.features]
    mine = [item for item in records.contract.stored if item.reference.rpartition(":")[0] == view.reference]
    ids: Any = sample.column("prediction_id").to_pylist()
    return [
        _compare(view, item, names.index(item.reference.rpartition(":")[2]), (keys, times, ids), history, sample)
        for item in mine
    ]


def _compare(
    view: FeatureView,
    item: ResolvedField,
    place: int,
    rows: tuple[Sequence[bytes | None], Sequence[int], Sequence[str]],
    history: dict[bytes, list[ChangePoint]],
    sample: pa.Table,
) -> FeatureSkew:
    reasons: Counter[str] = Counter()
    examples: dict[str, tuple[str, ...]] = {}
    compared = 0
    for key, t_us, name, logged in zip(*rows, sample.column(item.name).to_pylist(), strict=True):
        if key is None:
            continue
        compared += 1
        reason = skew_reason(view, item, place, history.get(key, []), t_us, logged)
        if reason is not None:
            reasons[reason] += 1
            examples[reason] = (*examples.get(reason, ()), name)[:_EXAMPLES]
    return FeatureSkew(item.name, item.reference, compared, compared - sum(reasons.values()), reasons, examples)


def _keys(view: FeatureView, sample: pa.Table) -> list[bytes | None]:
    """The view's key of each decision, from what came with the request; None where a part of it is null."""
    columns: list[Any] = []
    for key in view.entity.keys:
        values: Any = sample.column(key).to_pylist()
        whole = view.history.columns[key] == "int64"
        columns.append([None if value is None else int(value) if whole else value for value in values])
    return [key_bytes(view, values) for values in zip(*columns, strict=True)]


def _micros(sample: pa.Table) -> list[int]:
    times: Any = sample.column("request_time").cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    return list(times)


def _history(platform: Platform, view: FeatureView, keys: set[bytes]) -> dict[bytes, list[ChangePoint]]:
    """The change points of the sampled keys, in the order of their times, as the sources are known now."""
    tables = {source.name: source_table(source) for source in plain_sources(view.history)}
    now = platform.clock.now()
    rows, _ = read_rows(view.history, LakeSources(platform.lake, tables), until=now)
    points = change_points(view, rows, until=now)
    points = points.filter(pc.is_in(points.column(KEY), value_set=pa.array(sorted(keys), pa.binary())))
    names = [item.name for item in view.features]
    found: dict[bytes, list[ChangePoint]] = {}
    for row in points.sort_by([(AT, "ascending")]).to_pylist():
        point = ChangePoint(row[AT], row[EVENT], tuple(row[name] for name in names))
        found.setdefault(row[KEY], []).append(point)
    return found
