"""One machine: folders and SQLite below one root."""

import os
from pathlib import Path

from ml_platform.orchestration import PlatformResource

_DEMO = Path(__file__).resolve().parent.parent / "roots" / "demo"

# A settings file that the environment names wins; without one it is the root that `make demo` leaves.
platform = PlatformResource(root="" if "ML_PLATFORM_SETTINGS" in os.environ else str(_DEMO))

__all__ = ["platform"]
