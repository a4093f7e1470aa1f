"""Entities, sources, request and feature views, their definitions, and the point-in-time join."""

from __future__ import annotations

from ml_platform.features.about import About, Deprecated
from ml_platform.features.aggregations import (
    Aggregation,
    approx_distinct,
    count,
    distinct,
    first,
    last,
    max_,
    mean,
    min_,
    pivot,
    quantile,
    stddev,
    sum_,
)
from ml_platform.features.declaration import Declaration
from ml_platform.features.entity import Entity
from ml_platform.features.expressions import Expression
from ml_platform.features.published import feature_view
from ml_platform.features.quality import QualityCheck, in_range, null_rate, unique, volume
from ml_platform.features.source import INGESTED, SameAsEvent, Source
from ml_platform.features.views import FeatureView, RequestView

__all__ = [
    "INGESTED",
    "About",
    "Aggregation",
    "Declaration",
    "Deprecated",
    "Entity",
    "Expression",
    "FeatureView",
    "QualityCheck",
    "RequestView",
    "SameAsEvent",
    "Source",
    "approx_distinct",
    "count",
    "distinct",
    "feature_view",
    "first",
    "in_range",
    "last",
    "max_",
    "mean",
    "min_",
    "null_rate",
    "pivot",
    "quantile",
    "stddev",
    "sum_",
    "unique",
    "volume",
]
