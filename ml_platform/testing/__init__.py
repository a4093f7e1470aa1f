"""Contract suites that every implementation of a part must pass; for third parties too."""

from ml_platform.testing.feature_engines import (
    DuckdbFeatures,
    FeatureEngine,
    OnlineFeatures,
    SparkFeatures,
    TileFeatures,
    check_feature_engine,
)
from ml_platform.testing.online_stores import check_online_store
from ml_platform.testing.reference import feature_values
from ml_platform.testing.storage import check_lake, check_object_store
from ml_platform.testing.trainers import check_trainer

__all__ = [
    "DuckdbFeatures",
    "FeatureEngine",
    "OnlineFeatures",
    "SparkFeatures",
    "TileFeatures",
    "check_feature_engine",
    "check_lake",
    "check_object_store",
    "check_online_store",
    "check_trainer",
    "feature_values",
]
