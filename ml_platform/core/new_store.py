"""What an object store must show before a root is made on it."""

from __future__ import annotations

import uuid

from ml_platform.core.errors import Conflict, SettingsError
from ml_platform.core.objects import ObjectStore

__all__ = ["require_usable"]


def require_usable(store: ObjectStore, setting: str) -> None:
    """Checks that a store is empty and refuses to create twice; leaves nothing in it.

    Args:
        store: the store.
        setting: which setting names it.

    Raises:
        Conflict: something lies there already, such as another root's.
        SettingsError: a second writer may replace what the first created.
        StorageFailed: it cannot be reached, read or written.
    """
    if store.any_below(""):
        raise Conflict(
            "The store is not empty: it may be another root's, or of a root that was not finished.",
            field=setting,
            next_step="Use another prefix or bucket; empty this one only if you know what it holds.",
        )
    path = f"probe/{uuid.uuid4().hex}"
    store.create(path, b"first")
    try:
        if store.create(path, b"second"):
            raise SettingsError(
                "The store lets a second writer replace what the first created; two commits could both seem to win.",
                field=setting,
                next_step="Use a store that honours If-None-Match.",
            )
    finally:
        store.delete(path)
