"""Seeds and salts: what makes a proof about a person unguessable, and erasable.

Each personal subject has a 32-byte seed. Salts, ids and index keys are derived from it, so that deleting the seed
(and the personal sections) leaves every Merkle proof valid and says nothing about the person any more.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from ml_platform.core.digests import keyed
from ml_platform.core.errors import StorageFailed

__all__ = ["Seeds", "Subjects", "salt"]

_SCHEMA: Final = """
create table if not exists subjects (
    entity text not null,
    key blob not null,
    generation integer not null default 0,
    seed blob,
    erased_at_us integer,
    primary key (entity, key, generation)
) without rowid
"""
_CHUNK: Final = 400


def salt(seed: bytes, noun: str, row_key: bytes) -> bytes:
    """HMAC(seed, "ml-platform/salt/1" ‖ noun ‖ row key): never depends on run or candidate (DECISIONS 15)."""
    return keyed(seed, "ml-platform/salt/1", ("text", noun), ("bytes", row_key))


class Seeds(Protocol):
    """Who knows the seeds of accepted subjects."""

    def seeds(self, entity: str, keys: Sequence[bytes]) -> list[bytes]:
        """The seeds of subjects, in order; new ones are made."""
        ...


class Subjects:
    """The seeds of one root, in a database of their own (its backups are short-lived, by policy).

    Args:
        path: SQLite file; made when first written.
        root_seed: in a replay root, seeds are HMAC(root seed, entity key) and equal on every machine;
            None in a wall root, where they are random.
    """

    def __init__(self, path: Path, *, root_seed: bytes | None) -> None:
        self._path = path
        self._root_seed = root_seed

    def __repr__(self) -> str:
        return f"Subjects({self._path.name!r})"

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=30.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error
        try:
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma secure_delete=on")
            connection.execute(_SCHEMA)
            yield connection
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            connection.close()

    @staticmethod
    def _failed(error: Exception) -> StorageFailed:
        return StorageFailed(
            f"The subjects' seeds cannot be read or written ({type(error).__name__}).",
            next_step="Free space or mend the folder `subjects`, then run it again.",
        )

    def _new_seed(self, entity: str, key: bytes) -> bytes:
        if self._root_seed is None:
            return secrets.token_bytes(32)
        return keyed(self._root_seed, "ml-platform/seed/1", ("text", entity), ("bytes", key))

    def seeds(self, entity: str, keys: Sequence[bytes]) -> list[bytes]:
        """The seeds of accepted subjects, in order; a new one is inserted if absent, then read back.

        Two processes that meet a subject at once get the same seed. ``keys`` are ``row/1`` bytes of the entity key.
        """
        wanted = list(dict.fromkeys(keys))
        with self._connect() as connection:
            connection.execute("begin immediate")
            found = self._read(connection, entity, wanted)
            new = [(entity, key, self._new_seed(entity, key)) for key in wanted if key not in found]
            connection.executemany(
                "insert into subjects (entity, key, seed) values (?, ?, ?) on conflict do nothing", new
            )
            connection.execute("commit")
        found.update({key: seed for _, key, seed in new})
        return [found[key] for key in keys]

    @staticmethod
    def _read(connection: sqlite3.Connection, entity: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _CHUNK):
            part = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            query = f"select key, seed from subjects where entity = ? and seed is not null and key in ({marks})"  # noqa: S608 - marks only
            found.update(connection.execute(query, [entity, *part]).fetchall())
        return found

    def find(self, entity: str, key: bytes) -> bytes | None:
        """The seed of a known subject; None where there never was one, or it was erased."""
        if not self._path.exists():
            return None
        with self._connect() as connection:
            return self._read(connection, entity, [key]).get(key)
