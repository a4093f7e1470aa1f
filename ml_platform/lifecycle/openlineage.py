"""Lineage for the catalogue that an auditor already has: OpenLineage job events with columns, one JSON object each.

The events are design-time lineage (``JobEvent``): what each view and training set is computed from as declared, column
by column, traced through SQL. Source: https://openlineage.io/docs/spec/object-model, column lineage facet 1.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import SettingsError
from ml_platform.features import FeatureView
from ml_platform.model import Model, plain_sources
from ml_platform.platform import Platform

__all__ = ["export_lineage", "lineage_events"]

_TYPES: Final = {"number": "float64", "category": "string"}
Pairs = Iterable[tuple[str, str]]


def export_lineage(platform: Platform, models: Sequence[Model], namespace: str | None = None) -> list[dict[str, Any]]:
    """The events of the models' views and training sets, as of now.

    Args:
        platform: the root; its id is the namespace unless one is given.
        models: whose lineage.
        namespace: of jobs and datasets in the catalogue.

    Raises:
        SettingsError: the extra ``lineage`` is not installed.
    """
    where = namespace or f"ml-platform/{platform.root_id}"
    return lineage_events(models, namespace=where, at=platform.wall.now())


def lineage_events(models: Sequence[Model], *, namespace: str, at: datetime) -> list[dict[str, Any]]:
    """One event a definition of a view and one a training set, in the order in which they are computed.

    Datasets are named as here: ``sources/<name>``, ``features/<view>/<digest, 12>``, ``<model>/training_set``.
    """
    try:
        events = _Events(namespace, format_utc(at))
    except ImportError:
        raise SettingsError(
            "The OpenLineage client is not installed.",
            field="lineage",
            next_step="pip install 'dagster-ml-platform[lineage]'.",
        ) from None
    views = {view.reference: view for model in models for view in model.stored_views}
    found = [events.of_view(view, _owners(view, models)) for _, view in sorted(views.items())]
    return [*found, *(events.of_training_set(model) for model in sorted(models, key=lambda one: one.name))]


def _owners(view: FeatureView, models: Iterable[Model]) -> list[str]:
    users = {owner for model in models if view in model.stored_views for owner in model.owners}
    return sorted(view.about.owners) or sorted(users)


class _Events:
    """Builds events of one namespace by the vendor's own classes, which know the schema of each facet."""

    def __init__(self, namespace: str, at: str) -> None:
        from openlineage.client import event_v2, facet_v2

        self._event, self._facet = event_v2, facet_v2
        self._namespace, self._at = namespace, at
        self._producer = f"https://dagster-ml-platform.invalid/{version('dagster-ml-platform')}"

    def of_view(self, view: FeatureView, owners: Sequence[str]) -> dict[str, Any]:
        kind = "AGGREGATION" if view.aggregations else "TRANSFORMATION" if view.history.sql else "IDENTITY"
        fields = {
            name: [self._input(f"sources/{source}", column, "DIRECT", kind) for source, column in pairs]
            for name, pairs in view.lineage().items()
        }
        origin = view.history.lineage()
        grouped = {pair for key in view.entity.keys for pair in origin[key]} if view.aggregations else set()
        indirect = [
            self._input(f"sources/{source}", column, "INDIRECT", "GROUP_BY") for source, column in sorted(grouped)
        ]
        schema = {key: view.history.columns[key] for key in view.entity.keys}
        schema |= {item.name: _TYPES[item.kind] for item in view.features}
        inputs = [f"sources/{source.name}" for source in plain_sources(view.history)]
        job = self._job(view.table, owners, view.about.description, view.history.sql)
        return self._json(job, inputs, view.table, schema, fields, indirect)

    def of_training_set(self, model: Model) -> dict[str, Any]:
        request, label = model.request, model.label
        derived = set(request.derived)
        fields = {
            name: self._sources(pairs, "TRANSFORMATION" if name in derived else "IDENTITY")
            for name, pairs in request.lineage().items()
        }
        for view in model.stored_views:
            for item in view.features:
                fields[item.name] = [self._input(view.table, item.name, "DIRECT", "IDENTITY")]
        outcome = label.outcome.lineage()[label.column]
        fields[label.column] = self._sources(outcome, "TRANSFORMATION")
        joined = {key for view in model.stored_views for key in view.entity.keys} | set(model.entity.keys)
        origin = request.source.lineage()
        pairs = sorted({pair for key in joined for pair in origin[key]})
        indirect = [self._input(f"sources/{source}", column, "INDIRECT", "JOIN") for source, column in pairs]
        plain = [*plain_sources(request.source), *plain_sources(label.outcome)]
        inputs = [f"sources/{source.name}" for source in plain] + [view.table for view in model.stored_views]
        schema = {key: request.source.columns[key] for key in model.entity.keys}
        features = [*request.features, *(item for view in model.stored_views for item in view.features)]
        schema |= {item.name: _TYPES[item.kind] for item in features}
        name = f"{model.name}/training_set"
        job = self._job(name, sorted(model.owners), model.description, None)
        return self._json(job, inputs, name, schema | {label.column: "int64"}, fields, indirect)

    def _sources(self, pairs: Pairs, kind: str) -> list[Any]:
        return [self._input(f"sources/{source}", column, "DIRECT", kind) for source, column in sorted(pairs)]

    def _input(self, dataset: str, column: str, kind: str, subtype: str) -> Any:
        lineage = self._facet.column_lineage_dataset
        how = lineage.Transformation(type=kind, subtype=subtype)
        return lineage.InputField(self._namespace, dataset, column, transformations=[how])

    def _job(self, name: str, owners: Sequence[str], description: str, sql: str | None) -> Any:
        facet = self._facet
        facets: dict[str, Any] = {
            "jobType": facet.job_type_job.JobTypeJobFacet("BATCH", "ML_PLATFORM", jobType="QUERY" if sql else "JOB")
        }
        if owners:
            facets["ownership"] = facet.ownership_job.OwnershipJobFacet(
                owners=[facet.ownership_job.Owner(name=owner) for owner in owners]
            )
        if description:
            facets["documentation"] = facet.documentation_job.DocumentationJobFacet(description=description)
        if sql:
            facets["sql"] = facet.sql_job.SQLJobFacet(query=sql, dialect="duckdb")
        return self._event.Job(self._namespace, name, facets=facets)

    def _json(
        self,
        job: Any,
        inputs: Iterable[str],
        output: str,
        schema: Mapping[str, str],
        fields: Mapping[str, Sequence[Any]],
        indirect: Sequence[Any],
    ) -> dict[str, Any]:
        from openlineage.client.serde import Serde

        facet = self._facet
        columns = [facet.schema_dataset.SchemaDatasetFacetFields(name, type=kind) for name, kind in schema.items()]
        lineage = {name: facet.column_lineage_dataset.Fields(list(read)) for name, read in sorted(fields.items())}
        made = self._event.OutputDataset(
            self._namespace,
            output,
            facets={
                "schema": facet.schema_dataset.SchemaDatasetFacet(fields=columns),
                "columnLineage": facet.column_lineage_dataset.ColumnLineageDatasetFacet(lineage, list(indirect)),
            },
        )
        event = self._event.JobEvent(
            eventTime=self._at,
            producer=self._producer,
            job=job,
            inputs=[self._event.InputDataset(self._namespace, name) for name in sorted(set(inputs))],
            outputs=[made],
        )
        document: dict[str, Any] = json.loads(Serde.to_json(event))
        return document
