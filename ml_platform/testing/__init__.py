"""Contract suites that every implementation of a part must pass; for third parties too."""

from ml_platform.testing.feature_engines import (
    DuckdbFeatures,
    FeatureEngine,
    OnlineFeatures,
    SparkFeatures,
    TileFeatures,
    check_feature_engine,
)
from ml_platform.testing.reference import feature_values
from ml_platform.testing.trainers import check_trainer

__all__ = [
    "DuckdbFeatures",
    "FeatureEngine",
    "OnlineFeatures",
    "SparkFeatures",
    "TileFeatures",
    "check_feature_engine",
    "check_trainer",
    "feature_values",
]
