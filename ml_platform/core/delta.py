"""The lake: Delta tables with log clean-up off, retention in days, and transaction versions that are enforced.

Delta records an application's transaction version but does not enforce it, and forgets old versions after 30 days at
log clean-up; both are mended here, and only here is a table created.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ml_platform.core.delta_commit import COMMIT_ATTEMPTS, Commit
from ml_platform.core.delta_log import commits
from ml_platform.core.errors import NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.core.storage import StorageSettings, delta_options, failure, is_remote, trouble

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from deltalake import DeltaTable
    from pyarrow import fs

__all__ = ["Lake"]

DEFAULT_RETENTION_DAYS: Final = 3_653  # ten years (EU AI Act Art. 18); shorter classes say so when the table is made


class Lake:
    """Delta tables below one root folder or URL; names are paths such as ``credit_risk/predictions``.

    A commit is a create-if-absent of its log entry: of writers that race one wins, and the others build on it.

    Args:
        root: a folder, or a URL as `ObjectStore` takes it.
        storage: how a URL is reached.
        scratch: where files are built before they are uploaded; the system's folder for such files if none is given.
    """

    def __init__(
        self, root: str | Path, storage: StorageSettings | None = None, *, scratch: Path | None = None
    ) -> None:
        self.root = str(root).rstrip("/")
        self.scratch = scratch
        self.store = ObjectStore(self.root, storage)
        self._read_handles: dict[str, DeltaTable] = {}
        self._datasets: dict[str, tuple[DeltaTable, int, ds.Dataset]] = {}

    def __repr__(self) -> str:
        return f"Lake({self.root!r})"

    @property
    def is_remote(self) -> bool:
        return is_remote(self.root)

    def uri(self, name: str) -> str:
        return f"{self.root}/{name}"

    @property
    def _options(self) -> dict[str, str] | None:
        return delta_options(self.root, self.store.storage)

    def exists(self, name: str) -> bool:
        from deltalake import DeltaTable

        if self.is_remote:  # Delta's own question would hold the interpreter's lock until the store answers
            return self.store.any_below(f"{name}/_delta_log")
        return bool(DeltaTable.is_deltatable(self.uri(name)))

    def table(self, name: str, version: int | None = None) -> DeltaTable:
        """A handle of its own, as the table is now or was at a version.

        Raises:
            NotFound: there is no such table or version.
            StorageFailed: the store cannot be read.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            return DeltaTable(self.uri(name), version=version, storage_options=self._options)
        except (TableNotFoundError, DeltaError) as error:
            raise NotFound(
                f"There is no table {name}" + (f" at version {version}." if version is not None else "."),
                next_step="Check the root; `mlp models` lists what it holds.",
            ) from error
        except OSError as error:
            raise failure(f"Opening the table {name}", error, "nothing was changed") from error

    def _newest(self, name: str) -> DeltaTable:
        """A handle for reading the newest version; kept, since opening a table anew reads its whole log."""
        from deltalake.exceptions import DeltaError

        held = self._read_handles.get(name)
        if held is not None:
            try:
                held.update_incremental()
            except (DeltaError, OSError):
                held = None  # the table was replaced or mended under us
        if held is None:
            held = self.table(name)
            self._read_handles[name] = held
        return held

    def create(
        self,
        name: str,
        schema: pa.Schema,
        *,
        partition_by: Sequence[str] = (),
        retention_days: int = DEFAULT_RETENTION_DAYS,
    ) -> None:
        """Makes an empty table with our retention, unless it exists."""
        from deltalake import CommitProperties, DeltaTable
        from deltalake.exceptions import DeltaError

        if self.exists(name):
            return
        interval = f"interval {retention_days} days"  # in days: years and months silently become 30 days
        try:
            DeltaTable.create(
                self.uri(name),
                schema=schema,
                mode="ignore",
                partition_by=list(partition_by),
                configuration={
                    "delta.logRetentionDuration": interval,
                    "delta.deletedFileRetentionDuration": interval,
                    "delta.enableExpiredLogCleanup": "false",
                },
                storage_options=self._options,
                commit_properties=CommitProperties(max_commit_retries=0),  # or who comes second makes it once more
            )
        except (DeltaError, OSError) as error:
            if not self.exists(name):  # else somebody else made it at the same time
                raise failure(f"Making the table {name}", error, "there is none") from error

    def append(
        self,
        name: str,
        table: pa.Table | pa.RecordBatchReader,
        *,
        partition_by: Sequence[str] = (),
        app_id: str | None = None,
        txn_version: int | None = None,
        metadata: Mapping[str, object] | None = None,
        retention_days: int = DEFAULT_RETENTION_DAYS,
    ) -> int:
        """One atomic commit; returns the table version that holds it.

        With ``app_id`` and ``txn_version`` the append happens at most once: a repeated or older transaction version
        returns the version that already holds it and writes nothing.

        Raises:
            StorageFailed: the disk is full or the store refused; the table is as before.
        """
        from deltalake import CommitProperties, Transaction, write_deltalake

        said = {"ml_platform": json.dumps(dict(metadata or {}), sort_keys=True)}
        transactions = None
        if app_id is not None and txn_version is not None:
            transactions = [Transaction(app_id, txn_version)]
            said["ml_txn"] = f"{app_id}@{txn_version}"
        properties = CommitProperties(custom_metadata=said, app_transactions=transactions)

        def write(delta: DeltaTable) -> None:
            write_deltalake(delta, table, mode="append", commit_properties=properties)

        def make() -> None:
            self.create(name, table.schema, partition_by=partition_by, retention_days=retention_days)

        attempts = 1 if isinstance(table, pa.RecordBatchReader) else COMMIT_ATTEMPTS  # a reader cannot be read again
        return self.commit(name, write, make=make, app_id=app_id, txn_version=txn_version, attempts=attempts)

    def commit(
        self,
        name: str,
        write: Callable[[DeltaTable], None],
        *,
        make: Callable[[], None],
        app_id: str | None = None,
        txn_version: int | None = None,
        attempts: int = COMMIT_ATTEMPTS,
    ) -> int:
        """Has ``write`` commit to the table as it is now; returns the table version that holds the transaction.

        ``write`` gets the handle; its commit carries the transaction and its ``ml_txn``. ``make`` makes a table that is
        not there. ``attempts`` is how often it is tried while others are faster. Raises as `Commit.run`.
        """
        transaction = None if app_id is None or txn_version is None else (app_id, txn_version)
        return Commit(self, name, write, make, transaction).run(attempts)

    def version(self, name: str) -> int | None:
        """The newest version of a table; None where there is no table."""
        return int(self._newest(name).version()) if self.exists(name) else None

    def txn(self, name: str, app_id: str) -> int | None:
        """The last transaction version that an application id wrote to a table."""
        found = self._newest(name).transaction_version(app_id) if self.exists(name) else None
        return None if found is None else int(found)

    def version_of(self, name: str, app_id: str, txn_version: int) -> int:
        """The table version whose commit carries a transaction; almost always it is one of the newest."""
        for commit in self._commits(name):
            if commit.get("ml_txn") == f"{app_id}@{txn_version}":
                return int(commit["version"])
        raise NotFound(
            f"No commit of {name} carries transaction {txn_version} of its writer.",
            next_step="Run `mlp verify`: a commit was removed.",
        )

    def history(self, name: str, most: int | None = None) -> list[dict[str, Any]]:
        """Commits, newest first (all, or so many), with ``version`` and our metadata under ``ml_platform``."""
        commits = list(islice(self._commits(name), most))
        for commit in commits:
            commit["ml_platform"] = json.loads(commit.get("ml_platform", "{}"))
        return commits

    def _commits(self, name: str) -> Iterator[dict[str, Any]]:
        return commits(self.store, name, int(self._newest(name).version()))

    def dataset(self, name: str, version: int | None = None) -> ds.Dataset:
        """An Arrow dataset with push-down; DuckDB scans it."""
        if version is not None:
            with self._reading(name):
                return self.table(name, version).to_pyarrow_dataset(filesystem=self.filesystem(name))
        table = self._newest(name)
        handle, known, data = self._datasets.get(name, (None, -1, None))
        if data is None or handle is not table or known != table.version():
            with self._reading(name):
                data = table.to_pyarrow_dataset(filesystem=self.filesystem(name))  # as dear as the table has files
            self._datasets[name] = (table, int(table.version()), data)
        return data

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """A store that cannot be read is said; files that are damaged or gone are the caller's to judge."""
        try:
            yield
        except OSError as error:
            if not self.is_remote or isinstance(error, FileNotFoundError) or trouble(error) is None:
                raise
            raise failure(f"Reading the table {name}", error, "nothing was changed") from error

    def filesystem(self, name: str) -> fs.FileSystem | None:
        """Arrow's own file system of a table's files; None where it has none and Delta reads them."""
        from ml_platform.core.arrow_storage import table_filesystem

        return table_filesystem(self.uri(name), self.store.storage)

    def read(
        self,
        name: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
    ) -> pa.Table:
        """Rows of one version (the newest by default). Row order has no meaning."""
        with self._reading(name):
            return self.dataset(name, version).to_table(columns=list(columns) if columns else None, filter=where)
