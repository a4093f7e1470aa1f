"""Reading tables of which somebody may have changed the files: what can still be read is read, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ml_platform.core.delta import Lake
from ml_platform.core.errors import NotFound
from ml_platform.governance.findings import Finding

__all__ = ["StoredTables"]


@dataclass
class StoredTables:
    """The tables of a lake.

    A table whose files are not those of its commits (Delta notes their sizes) is read file by file instead, so that
    the rows in question can be named; each such table is a finding.
    """

    lake: Lake
    findings: list[Finding] = field(default_factory=list)
    _salvaged: dict[str, pa.Table] = field(default_factory=dict)

    def read(self, name: str, *, where: ds.Expression | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of the newest version.

        Raises:
            pyarrow.ArrowException: the columns are not there.
            NotFound: there is no such table.
        """
        if name not in self._salvaged:
            try:
                return self.lake.read(name, where=where, columns=columns)
            except (pa.ArrowException, OSError) as error:
                self._salvaged[name] = self._file_by_file(name, type(error).__name__)
        table = self._salvaged[name]
        if where is not None:
            table = table.filter(where)
        return table if columns is None else table.select(list(columns))

    def _file_by_file(self, name: str, why: str) -> pa.Table:
        self.findings.append(
            Finding("tampered", name, "the files that its commits name", f"They were replaced or damaged ({why}).")
        )
        data = self.lake.dataset(name)
        files: list[str] = getattr(data, "files", [])
        parts = [part for path in files if (part := self._file(name, path)) is not None]
        if not parts:
            return data.schema.empty_table()
        return pa.concat_tables(parts, promote_options="permissive")

    def _file(self, name: str, path: str) -> pa.Table | None:
        path = unquote(path)
        try:
            table = pq.read_table(pa.BufferReader(self.lake.store.read(f"{name}/{path}")))
        except (pa.ArrowException, OSError, NotFound) as error:
            self.findings.append(Finding("tampered", f"{name}/{path}", "a file of the table", type(error).__name__))
            return None
        for part in path.split("/")[:-1]:
            column, _, value = part.partition("=")
            values: pa.Array[Any] = pa.array([value] * table.num_rows, pa.string())
            table = table.append_column(column, values)
        return table
