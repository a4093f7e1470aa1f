"""Where a root's Redis is, how it is connected, and what its errors are in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from ml_platform.core.errors import SettingsError, StorageFailed

if TYPE_CHECKING:
    import redis

__all__ = ["RedisAddress", "failures"]

_CONNECT_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 2.0  # a router whose Redis hangs refuses its batch after twice this
_PREFIX: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class RedisAddress:
    """Where a root's online store is. The password never comes from the settings, and is never shown.

    Raises:
        SettingsError: the URL holds a password, has no prefix, or is none of Redis; its text is not repeated.
    """

    host: str
    port: int
    database: int
    prefix: str
    user: str | None = None
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """The address of ``redis://[USER@]HOST[:PORT][/DATABASE]?prefix=NAME``; ``rediss://`` is TLS."""
        parts = urlsplit(url)
        if parts.password is not None:
            raise SettingsError(
                "The URL of the online store holds a password.",
                field="online",
                next_step="Take it out, and give it in the environment as ML_PLATFORM_REDIS_PASSWORD.",
            )
        named = parse_qs(parts.query, keep_blank_values=True)
        prefix = named.pop("prefix", [""])[0]
        database = parts.path.strip("/") or "0"
        try:
            port = parts.port or 6379
        except ValueError:
            port = 0
        known = parts.scheme in {"redis", "rediss"} and parts.hostname and port and database.isdigit() and not named
        if not known or not _PREFIX.fullmatch(prefix):
            raise SettingsError(
                "This is no address of a Redis with a prefix, by which the roots that share it are told apart.",
                field="online",
                next_step='Write online = "redis://HOST:6379/0?prefix=NAME"; rediss:// is TLS.',
            )
        return cls(str(parts.hostname), port, int(database), prefix, parts.username, parts.scheme == "rediss")

    def connect(self, password: str | None) -> redis.Redis:
        """A client that opens connections as they are needed, and opens them anew after a server's restart."""
        import redis as vendor
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return vendor.Redis(
            host=self.host,
            port=self.port,
            db=self.database,
            username=self.user,
            password=password,
            ssl=self.tls,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 1),  # a connection that died with the old server costs one more try
            protocol=2,
        )


@contextmanager
def failures() -> Iterator[None]:
    """Errors of the vendor as ours. Their texts may hold what was sent, so only their kind is told."""
    import redis as vendor

    try:
        yield
    except vendor.RedisError as error:
        raise StorageFailed(
            f"The online store does not do what it was asked ({type(error).__name__}).",
            field="online",
            next_step=_step(error),
        ) from None


def _step(error: Exception) -> str:
    import redis as vendor

    if isinstance(error, vendor.AuthenticationError):
        return "Give its password in the environment as ML_PLATFORM_REDIS_PASSWORD."
    if isinstance(error, vendor.OutOfMemoryError):
        return "Give Redis more memory, or `mlp features retire` what no version needs; what was held is held."
    return "Start Redis, or mend the setting `online`; then publish the views again if it came back empty."
