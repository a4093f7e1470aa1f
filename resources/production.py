"""The cluster: ``ML_PLATFORM_SETTINGS`` names a mounted settings file, and that file says where everything lives.

There is no default on purpose: a pod whose settings are missing must not quietly write to a folder of its own.
"""

from pathlib import Path

from ml_platform.orchestration import PlatformResource

# An image without history makes the authors unknown, and an unknown author takes two approvers.
platform = PlatformResource(code=str(Path(__file__).resolve().parent.parent))

__all__ = ["platform"]
