"""One machine: folders and SQLite below one root."""

import os
from pathlib import Path

from ml_platform.orchestration import PlatformResource

HERE = Path(__file__).resolve().parent.parent

# A settings file that the environment names wins; without one it is the root that `make demo` leaves. The code is this
# checkout: its history says who a version's authors are.
platform = PlatformResource(
    root="" if "ML_PLATFORM_SETTINGS" in os.environ else str(HERE / "roots" / "demo"), code=str(HERE)
)

__all__ = ["platform"]
