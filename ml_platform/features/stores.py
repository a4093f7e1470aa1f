"""Which online store a root has: the settings name it by URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_platform.core.errors import SettingsError

if TYPE_CHECKING:
    from ml_platform.features.online import OnlineStore

__all__ = ["open_online_store"]

_SQLITE: Final = "sqlite:///"


def open_online_store(url: str) -> OnlineStore:
    """The online store of a URL: ``sqlite:///`` and a path.

    Raises:
        SettingsError: another kind of URL.
    """
    if url.startswith(_SQLITE):
        from ml_platform.features.sqlite import SqliteOnlineStore

        return SqliteOnlineStore(Path(url.removeprefix(_SQLITE)))
    raise SettingsError(
        "This is no online store.", field="online", next_step='Write online = "sqlite:///path/of/features.sqlite".'
    )
