"""What the commits of a table say of themselves, from the entries of its log, whose names are their versions.

Delta's ``history()`` counts versions down from the newest that the handle knew before it read, and is wrong by one
where another commit came between (tried: eight threads on one table).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ml_platform.core.errors import NotFound
from ml_platform.core.objects import ObjectStore

__all__ = ["commit_info", "commits"]


def commit_info(store: ObjectStore, name: str, version: int) -> dict[str, Any] | None:
    """The ``commitInfo`` of one version; None where there is no such entry.

    Args:
        store: of the lake.
        name: the table.
        version: the table version.
    """
    try:
        entry = store.read(f"{name}/_delta_log/{version:020d}.json")
    except NotFound:
        return None
    actions = [json.loads(line) for line in entry.splitlines()]
    found: dict[str, Any] = next((one["commitInfo"] for one in actions if "commitInfo" in one), {})
    return found


def commits(store: ObjectStore, name: str, newest: int) -> Iterator[dict[str, Any]]:
    """The commits up to a version, newest first, each with its ``version``; ends where entries were cleaned up."""
    for version in range(newest, -1, -1):
        info = commit_info(store, name, version)
        if info is None:
            return  # nobody cleans up but retention
        yield {**info, "version": version}
