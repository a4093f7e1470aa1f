"""What Dagster shows of our tables: typed columns, and of each column the columns that it is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import dagster as dg

from ml_platform.core.fields import Field
from ml_platform.datasets.labels import MATURED_AT, SPLIT
from ml_platform.features import FeatureView, Source
from ml_platform.model import Model
from ml_platform.orchestration.keys import SourceKeys, view_key

__all__ = [
    "source_columns",
    "training_columns",
    "training_lineage",
    "view_columns",
    "view_lineage",
]

Columns = dict[str, dg.TableColumn]


def _column(name: str, kind: str, description: str = "", *, nullable: bool = False) -> dg.TableColumn:
    constraints = dg.TableColumnConstraints(nullable=nullable)
    return dg.TableColumn(name, type=kind, description=description or None, constraints=constraints)


def _feature(field: Field, number: str) -> dg.TableColumn:
    kind = number if field.kind == "number" else "string"
    return _column(field.name, kind, field.description, nullable=field.nullable)


def _schema(columns: Iterable[dg.TableColumn]) -> dg.TableSchema:
    return dg.TableSchema(columns=list({column.name: column for column in columns}.values()))


def source_columns(source: Source) -> dg.TableSchema:
    """The source as it is stored."""
    fixed = {*source.keys, source.event_time}
    return _schema(_column(name, kind, nullable=name not in fixed) for name, kind in source.stored_columns.items())


def view_columns(views: Iterable[FeatureView]) -> dg.TableSchema:
    """Keys and features of a stored view; of several definitions of one view, all their features."""
    found: Columns = {}
    for view in views:
        for key in view.entity.keys:
            found.setdefault(key, _column(key, view.history.columns[key]))
        for field in view.features:
            found.setdefault(field.name, _feature(field, "float64"))
    return _schema(found.values())


def view_lineage(views: Iterable[FeatureView], sources: SourceKeys) -> dg.TableColumnLineage:
    """Of each feature, the source columns that it is computed from."""
    found: dict[str, set[tuple[str, str]]] = {}
    for view in views:
        for name, pairs in view.lineage().items():
            found.setdefault(name, set()).update(pairs)
    return _lineage({name: _source_deps(pairs, sources) for name, pairs in found.items()})


def training_columns(model: Model) -> dg.TableSchema:
    """Keys, request time, features as the model sees them, the label, when it matured, and the part."""
    request, label = model.request, model.label
    types = request.source.columns
    fields = [*request.features, *(field for view in model.stored_views for field in view.features)]
    label_type = "int64" if label.kind == "event_within" else "float64"
    return _schema(
        [
            *(_column(key, types[key]) for key in model.entity.keys),
            _column(request.time, "timestamp", "The request time T: features are those known at T."),
            *(_feature(field, "float32") for field in fields),
            _column(label.column, label_type, "What is learned."),
            _column(MATURED_AT, "timestamp", "When the label was old enough to count."),
            _column(SPLIT, "string", "train or test."),
        ]
    )


def training_lineage(model: Model, sources: SourceKeys) -> dg.TableColumnLineage:
    """Request columns come from their source, stored features from their view, the label from its outcome."""
    deps = {name: _source_deps(pairs, sources) for name, pairs in model.request.lineage().items()}
    for view in model.stored_views:
        key = view_key(view.name)
        deps |= {field.name: [dg.TableColumnDep(key, field.name)] for field in view.features}
    outcome = model.label.outcome.lineage()[model.label.column]
    return _lineage({**deps, model.label.column: _source_deps(outcome, sources)})


def _source_deps(pairs: Iterable[tuple[str, str]], sources: SourceKeys) -> list[dg.TableColumnDep]:
    return [dg.TableColumnDep(sources.key(source), column) for source, column in sorted(pairs)]


def _lineage(deps: Mapping[str, list[dg.TableColumnDep]]) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(deps_by_column=dict(deps))
