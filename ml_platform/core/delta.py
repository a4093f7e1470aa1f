"""The lake: Delta tables with log clean-up off, retention in days, and transaction versions that are enforced.

Delta records an application's transaction version but does not enforce it, and forgets old versions after 30 days at
log clean-up; both are mended here, and only here is a table created.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ml_platform.core.errors import NotFound, StorageFailed

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from deltalake import DeltaTable
    from pyarrow import fs

__all__ = ["Lake"]

DEFAULT_RETENTION_DAYS: Final = 3_653  # ten years (EU AI Act Art. 18); shorter classes say so when the table is made


class Lake:
    """Delta tables below one root folder or URL; names are paths such as ``credit_risk/predictions``."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/")
        self._read_handles: dict[str, DeltaTable] = {}
        self._datasets: dict[str, tuple[DeltaTable, int, ds.Dataset]] = {}

    def __repr__(self) -> str:
        return f"Lake({self.root!r})"

    def uri(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        from deltalake import DeltaTable

        return bool(DeltaTable.is_deltatable(self.uri(name)))

    def _open(self, name: str, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            return DeltaTable(self.uri(name), version=version)
        except (TableNotFoundError, DeltaError) as error:
            raise NotFound(
                f"There is no table {name}" + (f" at version {version}." if version is not None else "."),
                next_step="Check the root; `mlp models` lists what it holds.",
            ) from error

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
            held = self._open(name)
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
        from deltalake import DeltaTable

        if self.exists(name):
            return
        interval = f"interval {retention_days} days"  # in days: years and months silently become 30 days
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
        )

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
        from deltalake.exceptions import DeltaError

        self.create(name, table.schema, partition_by=partition_by, retention_days=retention_days)
        transactions = None
        if app_id is not None and txn_version is not None:
            done = self.txn(name, app_id)
            if done is not None and done >= txn_version:
                return self.version_of(name, app_id, txn_version)
            transactions = [Transaction(app_id, txn_version)]
        said = {"ml_platform": json.dumps(dict(metadata or {}), sort_keys=True)}
        if app_id is not None:
            said["ml_txn"] = f"{app_id}@{txn_version}"
        properties = CommitProperties(custom_metadata=said, app_transactions=transactions)
        delta = self._open(name)
        try:
            write_deltalake(delta, table, mode="append", commit_properties=properties)
        except (DeltaError, OSError) as error:
            raise StorageFailed(
                f"Writing the table {name} failed ({type(error).__name__}); it is as before.",
                next_step="Free space or mend the store, then run it again.",
            ) from error
        return int(delta.version())

    def version(self, name: str) -> int | None:
        """The newest version of a table; None where there is no table."""
        return int(self._newest(name).version()) if self.exists(name) else None

    def txn(self, name: str, app_id: str) -> int | None:
        """The last transaction version that an application id wrote to a table."""
        found = self._newest(name).transaction_version(app_id) if self.exists(name) else None
        return None if found is None else int(found)

    def version_of(self, name: str, app_id: str, txn_version: int) -> int:
        """The table version whose commit carries a transaction."""
        for most in (8, None):  # almost always it is one of the newest; the whole history grows with the table
            for commit in self.history(name, most):
                if commit.get("ml_txn") == f"{app_id}@{txn_version}":
                    return int(commit["version"])
        raise NotFound(
            f"No commit of {name} carries transaction {txn_version} of its writer.",
            next_step="Run `mlp verify`: a commit was removed.",
        )

    def history(self, name: str, most: int | None = None) -> list[dict[str, Any]]:
        """Commits, newest first (all, or so many), with ``version`` and our metadata under ``ml_platform``."""
        commits = self._newest(name).history(most)
        for commit in commits:
            commit["ml_platform"] = json.loads(commit.get("ml_platform", "{}"))
        return commits

    def dataset(self, name: str, version: int | None = None) -> ds.Dataset:
        """An Arrow dataset with push-down; DuckDB scans it."""
        if version is not None:
            return self._open(name, version).to_pyarrow_dataset(filesystem=self._filesystem(name))
        table = self._newest(name)
        handle, known, data = self._datasets.get(name, (None, -1, None))
        if data is None or handle is not table or known != table.version():
            data = table.to_pyarrow_dataset(filesystem=self._filesystem(name))  # as dear as the table has files
            self._datasets[name] = (table, int(table.version()), data)
        return data

    def _filesystem(self, name: str) -> fs.FileSystem | None:
        """Arrow's own file system where the lake is a local folder; None leaves it to Delta.

        Delta's is written in Python: a read that Arrow still had under way when the process ended needed the
        interpreter that was gone, and the process aborted after its work was done (tried: 47 of 60 on a busy machine).
        """
        from pyarrow import fs

        if "://" in self.root:
            return None
        return fs.SubTreeFileSystem(self.uri(name), fs.LocalFileSystem())

    def read(
        self,
        name: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
    ) -> pa.Table:
        """Rows of one version (the newest by default). Row order has no meaning."""
        return self.dataset(name, version).to_table(columns=list(columns) if columns else None, filter=where)
