"""Where a table's Parquet file is while it is written: it has its name only when it is whole.

In a folder it is written under another name and renamed. For an object store it is built in a file without a name on
the local disk and uploaded: a stream that is closed half-way would have put half a file under the name, perhaps over
the whole one of a run that was faster.
"""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Protocol

from pyarrow import fs

from ml_platform.core.delta import Lake

__all__ = ["FileTarget", "file_target"]

_OPEN_FILE: Final = "no file is open"


class FileTarget(Protocol):
    """One file after the other; raises ``OSError`` where the disk is full, ``StorageFailed`` where a store refuses."""

    def begin(self, path: str) -> Any:
        """Where the bytes of a file go: what Arrow's writers take."""

    def finish(self, path: str) -> int:
        """Gives the written file its name; returns its bytes."""

    def drop(self) -> None:
        """Forgets a file that will not be whole."""


def file_target(lake: Lake, name: str) -> FileTarget:
    """Where the files of a table are written."""
    files = None if lake.is_remote else lake.filesystem(name)
    return _Uploaded(lake, name) if files is None else _Renamed(files)


class _Renamed:
    """Files in a folder; what a killed run left is written over by the next."""

    def __init__(self, files: fs.FileSystem) -> None:
        self._files = files

    def begin(self, path: str) -> Any:
        self._files.create_dir(str(PurePosixPath(path).parent), recursive=True)
        return self._files.open_output_stream(_unfinished(path))

    def finish(self, path: str) -> int:
        self._files.move(_unfinished(path), path)
        return int(self._files.get_file_info(path).size)

    def drop(self) -> None:
        """It stays under its other name, for the next run to write over."""


def _unfinished(path: str) -> str:
    whole = PurePosixPath(path)
    return str(whole.with_name(f"_{whole.stem}.unfinished"))


class _Uploaded:
    """Files of an object store."""

    def __init__(self, lake: Lake, name: str) -> None:
        self._lake = lake
        self._name = name
        self._file: IO[bytes] | None = None

    def begin(self, path: str) -> Any:
        del path
        folder: Path | None = self._lake.scratch
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - without a name: it ends with the process
        return self._file

    def finish(self, path: str) -> int:
        if self._file is None:
            raise ValueError(_OPEN_FILE)
        size = self._file.seek(0, 2)
        self._file.seek(0)
        self._lake.store.upload(f"{self._name}/{path}", self._file)
        self.drop()
        return size

    def drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
