"""Entities, sources, request and feature views, their definitions, and the point-in-time join."""

from __future__ import annotations

from ml_platform.features.aggregations import Aggregation, count, distinct, last, max_, mean, min_, sum_
from ml_platform.features.declaration import Declaration
from ml_platform.features.entity import Entity
from ml_platform.features.expressions import Expression
from ml_platform.features.source import INGESTED, SameAsEvent, Source
from ml_platform.features.views import FeatureView, RequestView

__all__ = [
    "INGESTED",
    "Aggregation",
    "Declaration",
    "Entity",
    "Expression",
    "FeatureView",
    "RequestView",
    "SameAsEvent",
    "Source",
    "count",
    "distinct",
    "last",
    "max_",
    "mean",
    "min_",
    "sum_",
]
