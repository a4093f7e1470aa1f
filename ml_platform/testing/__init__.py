"""Contract suites that every implementation of a part must pass; for third parties too."""

from ml_platform.testing.storage import check_lake, check_object_store
from ml_platform.testing.trainers import check_trainer

__all__ = ["check_lake", "check_object_store", "check_trainer"]
