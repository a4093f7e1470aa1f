"""Which online store a root has: the settings name it by URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_platform.core.errors import SettingsError

if TYPE_CHECKING:
    from ml_platform.features.online import OnlineStore

__all__ = ["PASSWORD_VARIABLE", "open_online_store"]

PASSWORD_VARIABLE: Final = "ML_PLATFORM_REDIS_PASSWORD"  # noqa: S105 - the name of a variable
_SQLITE: Final = "sqlite:///"


def open_online_store(url: str, environ: Mapping[str, str] | None = None) -> OnlineStore:
    """The online store of a URL: ``sqlite:///`` and a path, or ``redis://HOST:PORT/DATABASE?prefix=NAME``.

    Nothing is connected before it is asked. Redis' password is read from the environment here, and nowhere else.

    Raises:
        SettingsError: another kind of URL, or one with a password; or the extra ``redis`` is not installed.
    """
    if url.startswith(_SQLITE):
        from ml_platform.features.sqlite import SqliteOnlineStore

        return SqliteOnlineStore(Path(url.removeprefix(_SQLITE)))
    if url.startswith(("redis://", "rediss://")):
        from ml_platform.features.redis import RedisOnlineStore
        from ml_platform.features.redis_address import RedisAddress

        address = RedisAddress.parse(url)
        try:
            return RedisOnlineStore(address, (os.environ if environ is None else environ).get(PASSWORD_VARIABLE))
        except ImportError:
            raise SettingsError(
                "The online store is a Redis, whose client is not installed.",
                field="online",
                next_step="pip install 'dagster-ml-platform[redis]'.",
            ) from None
    raise SettingsError(
        "This is no online store.",
        field="online",
        next_step='Write online = "sqlite:///path/of/features.sqlite", or "redis://HOST:6379/0?prefix=NAME".',
    )
