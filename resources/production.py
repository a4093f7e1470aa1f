"""The cluster: ``ML_PLATFORM_SETTINGS`` names a mounted settings file, and that file says where everything lives.

There is no default on purpose: a pod whose settings are missing must not quietly write to a folder of its own.
"""

from ml_platform.orchestration import PlatformResource

platform = PlatformResource()

__all__ = ["platform"]
