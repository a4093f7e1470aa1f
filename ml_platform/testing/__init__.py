"""Contract suites that every implementation of a part must pass; for third parties too."""

from ml_platform.testing.online_stores import check_online_store
from ml_platform.testing.trainers import check_trainer

__all__ = ["check_online_store", "check_trainer"]
