"""Tables, migrations and constraints."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from ml_platform.core.errors import SettingsError, StorageFailed, Tampered
from ml_platform.registry.projection import KEYS
from ml_platform.registry.sql import METADATA, REVISION, Database


def test_migrations_make_exactly_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(f"sqlite:///{tmp_path / 'db'}")
    database.migrate()
    with database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        inspector = sa.inspect(connection)
        assert {index["name"] for index in inspector.get_indexes("stages")} == {
            "one_staging_version_per_model",
            "one_canary_version_per_model",
            "one_production_version_per_model",
        }
        checks = [check["sqltext"] for check in inspector.get_check_constraints("head")]
        assert checks == ["id = 1"]


def test_the_newest_migration_is_the_revision_that_the_code_expects() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import ml_platform.registry.migrations as folder

    config = Config()
    config.set_main_option("script_location", str(Path(str(folder.__file__)).parent))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'db'}"
    for _ in range(2):
        database = Database(url)
        database.migrate()
        with database.reading() as session:
            assert session.head().size == 0
        database.close()


def test_read_tables_have_the_keys_that_the_projection_uses() -> None:
    for table, key in KEYS.items():
        assert tuple(column.name for column in METADATA.tables[table].primary_key) == key


def test_sqlite_is_durable_and_lets_readers_go_on(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'db'}")
    database.migrate()
    with database._engine.connect() as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("pragma synchronous").scalar() == 2
        assert connection.exec_driver_sql("pragma busy_timeout").scalar() == 30_000
    with database.writing() as writer, database.reading() as reader:
        assert reader.head() == writer.head()


def test_a_url_that_means_nothing_is_a_settings_error() -> None:
    for url in ("nonsense", "nodatabase://x"):
        with pytest.raises(SettingsError):
            Database(url)


def test_a_folder_that_cannot_be_written_is_a_storage_failure(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        Database(f"sqlite:///{tmp_path / 'missing' / 'db'}").migrate()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(Tampered, match="damaged"):
        Database(f"sqlite:///{tmp_path / 'db'}").migrate()


def test_a_lost_head_row_is_named(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'db'}")
    database.migrate()
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute("delete from head")
    with pytest.raises(Tampered, match="head"), database.reading() as session:
        session.head()


def test_pages_of_entries_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ml_platform.registry import sql

    database = Database(f"sqlite:///{tmp_path / 'db'}")
    database.migrate()
    monkeypatch.setattr(sql, "_PAGE", 3)
    with database.writing() as session:
        session.append([sql.StoredEntry(number, b"x", b"y") for number in range(10)], session.head())
        for start, stop in ((0, None), (0, 9), (2, 8), (3, 6), (9, None), (10, None), (4, 4)):
            found = [one.index for one in session.entries(start, stop)]
            assert found == list(range(10))[start:stop]
