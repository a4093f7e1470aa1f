"""How object stores are reached: the table ``[storage]`` of the settings, in the words of each library that reads it.

Stores are folders or URLs (``s3://``, ``gs://``, ``az://``, ``abfss://``). Credentials are never among the settings:
every library takes them from the environment's normal chain (variables, profile files, web identity, the machine's
metadata service). Commits rest on conditional writes of the store, never on a lock.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ml_platform.core.errors import SettingsError, StorageFailed

__all__ = [
    "StorageSettings",
    "delta_options",
    "failure",
    "is_remote",
    "location",
    "obstore_arguments",
    "parse_storage",
    "s3_endpoint",
    "s3_region",
    "trouble",
    "uses_profile_files",
]

_SCHEMES: Final = {"s3": "s3", "s3a": "s3", "gs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
_FIRST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_PAUSE: Final = timedelta(seconds=5)
_SECRET_WORDS: Final = ("key", "secret", "token", "password", "credential", "sas")


@dataclass(frozen=True)
class StorageSettings:
    """How object stores are reached; the defaults are those of the cloud.

    Args:
        endpoint: where the store answers, where it is not the cloud's own address.
        region: of an S3 bucket; else the environment says.
        account: the storage account of an ``az://`` URL.
        allow_http: whether an ``endpoint`` without TLS may be used.
        timeout_seconds: for one request.
        connect_timeout_seconds: for one connection.
        retries: of one request that the store throttles or that breaks off.
        retry_seconds: beyond which it is not tried again.
    """

    endpoint: str | None = None
    region: str | None = None
    account: str | None = None
    allow_http: bool = False
    timeout_seconds: int = 30
    connect_timeout_seconds: int = 5
    retries: int = 6
    retry_seconds: int = 60


_DEFAULTS: Final = StorageSettings()
_NUMBERS: Final = ("timeout_seconds", "connect_timeout_seconds", "retries", "retry_seconds")
_TEXTS: Final = ("endpoint", "region", "account")


def parse_storage(value: object) -> StorageSettings:
    """The table ``[storage]`` of a settings file.

    Raises:
        SettingsError: an unknown or mistyped name, an unusable address, or a secret.
    """
    known = [item.name for item in fields(StorageSettings)]
    if not isinstance(value, dict):
        raise SettingsError("The settings of storage are a table.", field="storage", next_step="Write [storage].")
    for name in sorted(set(value) - set(known)):
        if any(word in name.lower() for word in _SECRET_WORDS):
            raise _secret(f"storage.{name}")
        raise SettingsError(
            "Unknown setting of storage.", field=f"storage.{name}", next_step=f"Known are {', '.join(known)}."
        )
    for name in _TEXTS:
        if name in value and (not isinstance(value[name], str) or not value[name]):
            raise SettingsError("The setting is not a text.", field=f"storage.{name}", next_step="Write it in quotes.")
    for name in _NUMBERS:
        number, least = value.get(name, 1), 0 if name == "retries" else 1
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= 3_600:
            raise SettingsError(
                "This is no whole number that can be used.", field=f"storage.{name}", next_step=f"Use {least} to 3600."
            )
    if not isinstance(value.get("allow_http", False), bool):
        raise SettingsError("This is neither true nor false.", field="storage.allow_http", next_step="Write one.")
    made = StorageSettings(**value)
    _check_endpoint(made)
    return made


def _check_endpoint(made: StorageSettings) -> None:
    if made.endpoint is None:
        return
    parts = urlsplit(made.endpoint)
    if parts.username or parts.password or parts.query:
        raise _secret("storage.endpoint")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(
            "This is no address of a store.", field="storage.endpoint", next_step='Write "https://host:port".'
        )
    if parts.scheme == "http" and not made.allow_http:
        raise SettingsError(
            "The address has no TLS: everybody on the way could read what is stored.",
            field="storage.endpoint",
            next_step="Use https, or write allow_http = true where the network is yours alone.",
        )


def _secret(name: str) -> SettingsError:
    return SettingsError(
        "A settings file is copied and shown; a secret does not belong in it, and this one may be known now.",
        field=name,
        next_step="Remove it, replace the credential, and give it by the environment: variables, profile, machine.",
    )


def is_remote(place: str) -> bool:
    """Whether a place is a URL, and no folder."""
    return "://" in place


def location(name: str, place: str) -> str:
    """A folder or URL as a setting names it, checked.

    Raises:
        SettingsError: the URL holds a secret, names no bucket, or is of a kind that nobody here reads.
    """
    if not is_remote(place):
        return place
    parts = urlsplit(place)
    if parts.password or parts.query or parts.fragment or (parts.username and not parts.scheme.startswith("abfs")):
        raise _secret(name)
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise SettingsError(
            "This is no URL of a store.",
            field=name,
            next_step="Use a folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or abfss://….",
        )
    return place.rstrip("/")


def _kind(url: str) -> str:
    return _SCHEMES.get(url.partition("://")[0], "")


def obstore_arguments(url: str, storage: StorageSettings) -> dict[str, Any]:
    """What ``obstore.store.from_url`` takes beside the URL."""
    named = {"endpoint": storage.endpoint}
    if _kind(url) == "s3":
        named |= {"region": storage.region}
    elif _kind(url) == "az":
        named |= {"account_name": storage.account}
    return {
        "config": {name: value for name, value in named.items() if value is not None},
        "client_options": {
            **({"allow_http": True} if storage.allow_http else {}),
            "timeout": timedelta(seconds=storage.timeout_seconds),
            "connect_timeout": timedelta(seconds=storage.connect_timeout_seconds),
        },
        "retry_config": {
            "max_retries": storage.retries,
            "retry_timeout": timedelta(seconds=storage.retry_seconds),
            "backoff": {"init_backoff": _FIRST_PAUSE, "max_backoff": _LONGEST_PAUSE, "base": 2},
        },
    }


def delta_options(url: str, storage: StorageSettings) -> dict[str, str] | None:
    """``storage_options`` of a Delta table; None for a folder."""
    if not is_remote(url):
        return None
    given = {
        "endpoint": storage.endpoint,
        "region": storage.region if _kind(url) == "s3" else None,
        "account_name": storage.account if _kind(url) == "az" else None,
        "allow_http": "true" if storage.allow_http else None,
        # A commit is a create-if-absent of its log entry, whatever lock or unsafe rename the environment proposes.
        "conditional_put": "etag" if _kind(url) == "s3" else None,
        "aws_force_credential_load": "true" if uses_profile_files(url) else None,  # by AWS's chain, which reads them
        "timeout": f"{storage.timeout_seconds}s",
        "connect_timeout": f"{storage.connect_timeout_seconds}s",
        "max_retries": str(storage.retries),
        "retry_timeout": f"{storage.retry_seconds}s",
        "backoff_config.init_backoff": f"{_FIRST_PAUSE // timedelta(milliseconds=1)}ms",
        "backoff_config.max_backoff": f"{_LONGEST_PAUSE.seconds}s",
    }
    return {name: value for name, value in given.items() if value is not None}


def s3_endpoint(storage: StorageSettings, environ: Mapping[str, str] | None = None) -> str | None:
    """Where S3 answers, for a library that does not look in the environment itself."""
    held = os.environ if environ is None else environ
    named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return storage.endpoint or next((held[name] for name in named if held.get(name)), None)


def s3_region(storage: StorageSettings, environ: Mapping[str, str] | None = None) -> str | None:
    """The bucket's region, for a library that does not look in the environment itself."""
    held = os.environ if environ is None else environ
    return storage.region or held.get("AWS_REGION") or held.get("AWS_DEFAULT_REGION") or None


def uses_profile_files(url: str, environ: Mapping[str, str] | None = None) -> bool:
    """Whether credentials of S3 come from profile files: there are some, and no variable comes before them."""
    held = os.environ if environ is None else environ
    first = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
    if _kind(url) != "s3" or any(held.get(name) for name in first):
        return False
    home = Path(held.get("HOME", "~")).expanduser() / ".aws"
    files = (
        Path(held.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials")),
        Path(held.get("AWS_CONFIG_FILE", home / "config")),
    )
    return any(file.is_file() for file in files)


_REASONS: Final = (
    (("NoSuchBucket", "InvalidBucketName", "ContainerNotFound"), "there is no such bucket"),
    (
        (
            "PermissionDenied", "Unauthenticated", "403 Forbidden", "401 Unauthorized", "status 403", "ACCESS_DENIED",
            "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound",
        ),
        "access is denied",
    ),
    (
        ("SlowDown", "503 Service", "429 Too Many", "SLOW_DOWN", "status 503", "status 429"),
        "the store throttles requests",
    ),
    (("timed out", "Timeout", "timeout was reached"), "no answer came in time"),
    (("error sending request", "Connect", "connection closed", "Couldn't connect"), "the store cannot be reached"),
    (("No space left", "File too large"), "the disk is full"),
)  # fmt: skip
_STEPS: Final = {
    "there is no such bucket": "Make the bucket, or mend the URL in the settings file.",
    "access is denied": "Check the credentials that this process finds in its environment, and the bucket's policy.",
    "the store throttles requests": "Wait and run it again; [storage] retries and retry_seconds say how long it tries.",
    "no answer came in time": "Run it again; [storage] timeout_seconds says how long it waits.",
    "the store cannot be reached": "Check the network and [storage] endpoint, then run it again.",
}


def trouble(error: BaseException) -> str | None:
    """What ails a store or disk, in a few words, from whatever a library raised; None where that says nothing known."""
    text = f"{type(error).__name__} {error}"
    return next((said for words, said in _REASONS if any(word in text for word in words)), None)


def failure(doing: str, error: BaseException, stands: str) -> StorageFailed:
    """The error of a store or disk, from whatever a library raised; its own text, which may hold anything, is not said.

    Args:
        doing: what failed, such as ``Writing a/b``.
        error: what a library raised.
        stands: what is true now.
    """
    why = trouble(error) or type(error).__name__
    step = _STEPS.get(why, "Free space or mend the store, then run it again.")
    return StorageFailed(f"{doing} failed ({why}); {stands}.", next_step=step)
