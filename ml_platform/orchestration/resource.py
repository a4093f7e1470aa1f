"""The platform as a Dagster resource: named when code is loaded, opened when something runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from ml_platform.core.settings import settings_path

if TYPE_CHECKING:
    from ml_platform.platform import Platform

__all__ = ["RESOURCE_KEY", "PlatformRef", "PlatformResource", "as_resource"]

RESOURCE_KEY: Final = "ml_platform"
_LOCK: Final = threading.Lock()
_OPENED: dict[tuple[Path, int], Platform] = {}


class PlatformResource(dg.ConfigurableResource[Any]):
    """Where the platform is. Loading a code location reads nothing; each run and tick opens it when it needs it.

    ``root`` is the root folder; when it is empty, ``ML_PLATFORM_SETTINGS`` names the settings file, read from the
    environment of the process that runs, not of the one that loads. ``code`` is the folder of the code location, whose
    history says who the authors are; the current folder when empty.
    """

    root: str = ""
    code: str = ""

    @property
    def code_folder(self) -> Path | None:
        """The folder of the code location; None: the current one."""
        return Path(self.code) if self.code else None

    def open(self) -> Platform:
        """The platform; one a process, so that a tick folds only what the log has new.

        Raises:
            SettingsError: no root is named, or its settings file is unusable.
        """
        from ml_platform.platform import Platform

        path = settings_path(Path(self.root) if self.root else None).resolve()
        with _LOCK:
            if not path.is_file():
                return Platform.from_settings(path)  # raises, with the next step
            identity = (path, path.stat().st_mtime_ns)
            if identity not in _OPENED:
                _OPENED[identity] = Platform.from_settings(path)
            return _OPENED[identity]


PlatformRef = PlatformResource | Path | str | None


def as_resource(platform: PlatformRef) -> PlatformResource:
    """A root folder, or nothing (then the environment says), as the resource."""
    if isinstance(platform, PlatformResource):
        return platform
    return PlatformResource(root="" if platform is None else str(platform))
