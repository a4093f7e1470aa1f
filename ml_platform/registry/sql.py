"""The log's database: SQLite embedded, Postgres in production, through SQLAlchemy Core.

The only module (beside the migrations) that imports sqlalchemy. A writing session holds the one row of ``head``
locked, so leaf indexes have no gaps and nobody writes beside it. SQLite runs in WAL mode with ``synchronous=FULL``:
what was committed survives a crash of the process, of the system and of the power.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, exc

from ml_platform.core.errors import ConcurrentTransition, SettingsError, StorageFailed, Tampered
from ml_platform.registry.projection import KEYS, Change

__all__ = ["METADATA", "REVISION", "Database", "Head", "Session", "StoredEntry", "require_file"]

REVISION: Final = "0001"
METADATA: Final = sa.MetaData()
_HEAD_ROW: Final = 1
_BUSY_MILLISECONDS: Final = 30_000
_PAGE: Final = 5_000

ENTRIES: Final = sa.Table(
    "entries",
    METADATA,
    sa.Column("entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
)
HEAD: Final = sa.Table(
    "head",
    METADATA,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
)
VERSIONS: Final = sa.Table(
    "versions",
    METADATA,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("candidate", sa.String(64), nullable=False),
    sa.Column("artifact", sa.String(71), nullable=False),
    sa.Column("evaluation", sa.String(71), nullable=False),
    sa.Column("training_set", sa.String(71), nullable=False),
    sa.Column("entry", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("model", "candidate", name="one_version_per_candidate"),
)
STAGES: Final = sa.Table(
    "stages",
    METADATA,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.String(16), nullable=False),
    sa.Column("entry", sa.BigInteger, nullable=False),
)
for _stage in ("staging", "canary", "production"):
    sa.Index(
        f"one_{_stage}_version_per_model",
        STAGES.c.model,
        unique=True,
        sqlite_where=sa.text(f"stage = '{_stage}'"),
        postgresql_where=sa.text(f"stage = '{_stage}'"),
    )
APPROVALS: Final = sa.Table(
    "approvals",
    METADATA,
    sa.Column("payload", sa.String(71), primary_key=True),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("principal", sa.String(64), nullable=False),
    sa.Column("nonce", sa.String(64), nullable=False, unique=True),
    sa.Column("entry", sa.BigInteger, nullable=False),
    sa.Column("revoked", sa.BigInteger),
)
NONCES: Final = sa.Table(
    "nonces",
    METADATA,
    sa.Column("nonce", sa.String(64), primary_key=True),
    sa.Column("entry", sa.BigInteger, nullable=False),
)
SEGMENTS: Final = sa.Table(
    "segments",
    METADATA,
    sa.Column("segment", sa.String(192), primary_key=True),
    sa.Column("writer", sa.String(192), nullable=False),
    sa.Column("first_id", sa.String(192), nullable=False),
    sa.Column("last_id", sa.String(192), nullable=False),
    sa.Column("min_decided_at", sa.String(27), nullable=False),
    sa.Column("max_decided_at", sa.String(27), nullable=False),
    sa.Column("entry", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Head:
    """The log's size, frontier and root as the database says them."""

    size: int
    frontier: bytes
    root: bytes


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One row of the log."""

    index: int
    raw: bytes
    leaf_hash: bytes


class Session:
    """One transaction."""

    def __init__(self, connection: sa.Connection, *, lock: bool) -> None:
        self._connection = connection
        self._lock = lock

    def head(self) -> Head:
        """The head row; locked until the end of a writing session."""
        query = sa.select(HEAD.c.size, HEAD.c.frontier, HEAD.c.root).where(HEAD.c.id == _HEAD_ROW)
        row = self._connection.execute(query.with_for_update() if self._lock else query).first()
        if row is None:
            raise Tampered("The log's head row is gone.", field="head", next_step="Restore the database from a backup.")
        return Head(int(row.size), _blob(row.frontier), _blob(row.root))

    def entries(self, start: int, stop: int | None = None) -> Iterator[StoredEntry]:
        """Rows of the log in index order, page by page."""
        while stop is None or start < stop:
            query = sa.select(ENTRIES).where(ENTRIES.c.entry >= start).order_by(ENTRIES.c.entry).limit(_PAGE)
            if stop is not None:
                query = query.where(ENTRIES.c.entry < stop)
            rows = self._connection.execute(query).all()
            for row in rows:
                yield StoredEntry(int(row.entry), _blob(row.raw), _blob(row.leaf_hash))
            if len(rows) < _PAGE:
                return
            start = rows[-1].entry + 1

    def append(self, rows: Sequence[StoredEntry], head: Head) -> None:
        """New rows and the head that includes them."""
        self._connection.execute(
            sa.insert(ENTRIES),
            [{"entry": row.index, "raw": row.raw, "leaf_hash": row.leaf_hash} for row in rows],
        )
        self._connection.execute(
            sa.update(HEAD).where(HEAD.c.id == _HEAD_ROW).values(size=head.size, frontier=head.frontier, root=head.root)
        )

    def apply(self, changes: Sequence[Change]) -> None:
        """Changes of the read tables, in order; rows that go into one table one after the other go together."""
        for (name, action), group in groupby(changes, key=lambda change: (change.table, change.action)):
            table = METADATA.tables[name]
            if action == "insert":
                self._connection.execute(sa.insert(table), [dict(change.row) for change in group])
                continue
            for change in group:
                key = sa.and_(*(table.c[column] == change.row[column] for column in KEYS[name]))
                values = {column: value for column, value in change.row.items() if column not in KEYS[name]}
                self._connection.execute(sa.update(table).where(key).values(**values))

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a read table."""
        return [dict(row) for row in self._connection.execute(sa.select(METADATA.tables[table])).mappings()]

    def row(self, table: str, **key: object) -> dict[str, Any] | None:
        """The row of a key; None when there is none."""
        found = METADATA.tables[table]
        where = sa.and_(*(found.c[name] == value for name, value in key.items()))
        row = self._connection.execute(sa.select(found).where(where)).mappings().first()
        return None if row is None else dict(row)


class Database:
    """Opens the database of a log and brings its tables to this library's revision.

    Args:
        url: an SQLAlchemy URL, such as ``sqlite:////srv/root/registry.sqlite``.
    """

    def __init__(self, url: str) -> None:
        try:
            self._engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as error:
            raise SettingsError(
                "The registry's database URL cannot be used.",
                field="registry",
                next_step="Write an SQLAlchemy URL; for Postgres install the extra `postgres`.",
            ) from error
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    def migrate(self) -> None:
        """Creates or upgrades the tables; costs one query when they are current."""
        if self._revision() == REVISION:
            return
        from ml_platform.registry.migrations import upgrade

        with self._transaction("BEGIN IMMEDIATE") as connection:
            upgrade(connection)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent view; never blocks the writer."""
        with self._transaction("BEGIN", consistent=True) as connection:
            yield Session(connection, lock=False)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """The one writer, until the block ends: committed as a whole, or nothing of it."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield Session(connection, lock=True)

    @contextmanager
    def _transaction(self, begin: str, *, consistent: bool = False) -> Iterator[sa.Connection]:
        options: dict[str, Any] = {"begin": begin}
        if consistent and self._engine.dialect.name != "sqlite":
            options["isolation_level"] = "REPEATABLE READ"  # SQLite's readers have one view anyway
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except exc.IntegrityError as error:
            raise ConcurrentTransition(
                "The database already holds a row that excludes this one; nothing was written.",
                next_step="Look at the state and decide again.",
            ) from error
        except exc.OperationalError as error:
            raise StorageFailed(
                f"The registry's database refused ({_reason(error)}); nothing was half-done.",
                next_step="Free space, or wait for the other writer, then run it again.",
            ) from error
        except exc.DatabaseError as error:
            raise Tampered(
                f"The registry's database is damaged ({type(error.orig).__name__}).",
                field="registry",
                next_step="Restore it from a backup; `mlp verify` names what is wrong.",
            ) from error

    def _revision(self) -> str | None:
        version = sa.table("alembic_version", sa.column("version_num"))
        with self._transaction("BEGIN") as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.select(version.c.version_num)).scalar()


def require_file(url: str) -> None:
    """Raises `StorageFailed` when an SQLite database that was made before is gone; opening would make an empty one."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        raise StorageFailed(
            "The registry's database is gone; nothing was made in its place.",
            field="registry",
            next_step="Put the file back; until then `mlp rollback` works by the route alone.",
        )


def _blob(value: object) -> bytes:
    """The bytes of a column, whatever somebody has put there with another tool."""
    return value.encode() if isinstance(value, str) else bytes(value) if isinstance(value, bytes) else b""


def _reason(error: exc.OperationalError) -> str:
    """SQLite's own few words; other drivers' texts may quote statements, so only their type is shown."""
    text = str(error.orig)
    return text if len(text) < 64 and ":" not in text else type(error.orig).__name__


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by us, not by the driver
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(str(connection.get_execution_options().get("begin", "BEGIN")))
