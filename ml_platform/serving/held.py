"""What look-ups keep of the index tables between questions, so that a warm one reads only the files that it needs.

The tables stay the truth: what is kept belongs to a file of the newest version, and a file that is not there any more
is forgotten. Files are never rewritten in place; an index that grew costs the reading of its new files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from ml_platform.core.delta import Lake
from ml_platform.core.objects import ObjectStore
from ml_platform.serving.tables import ENTITIES, SEGMENTS

__all__ = ["HeldIndex", "held_index", "read_files"]

_PREFIX: Final = 16  # hex characters of an entity index that are kept of each record
_WHOLE_ROWS: Final = 65_536  # larger files are sorted into row groups, whose statistics do the same
_MOST_BYTES: Final = 128 * 2**20

Row = dict[str, Any]
_known: WeakKeyDictionary[Lake, HeldIndex] = WeakKeyDictionary()
_guard: Final = Lock()


def held_index(lake: Lake) -> HeldIndex:
    """What is kept of a lake's indexes; one for all readers of a process."""
    with _guard:
        return _known.setdefault(lake, HeldIndex())


def read_files(data: Any, fragments: Sequence[Any], columns: Sequence[str] | None, where: ds.Expression) -> list[Row]:
    """Rows of some files of a dataset."""
    if not fragments:
        return []
    some = ds.FileSystemDataset(list(fragments), data.schema, data.format, data.filesystem)
    rows: list[Row] = some.to_table(columns=None if columns is None else list(columns), filter=where).to_pylist()
    return rows


class HeldIndex:
    """Rows of ``index/segments`` by date, and of each small file of ``index/entities`` which records it names."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._data: Any = None
        self._files: dict[str, list[Row]] = {}
        self._by_date: dict[str, list[Row]] = {}
        self._markers: set[str] = set()
        self._prefixes: OrderedDict[str, npt.NDArray[np.bytes_]] = OrderedDict()

    def segments(self, lake: Lake) -> Mapping[str, Sequence[Row]]:
        """All segments by decided date, complete or not; as of now."""
        if not lake.exists(SEGMENTS):
            return {}
        data: Any = lake.dataset(SEGMENTS)
        with self._lock:
            if data is not self._data:
                self._refresh(data)
            return self._by_date

    def _refresh(self, data: Any) -> None:
        fragments = {str(one.path): one for one in data.get_fragments()}
        new = [path for path in fragments if path not in self._files]
        read = {path: read_files(data, [fragments[path]], None, ds.scalar(True)) for path in new}  # noqa: FBT003
        self._files = {path: self._files[path] if path in self._files else read[path] for path in fragments}
        by_date: dict[str, list[Row]] = {}
        for rows in self._files.values():
            for row in rows:
                by_date.setdefault(str(row["decided_date"]), []).append(row)
        self._data, self._by_date = data, by_date

    def complete(self, objects: ObjectStore, marker: str) -> bool:
        """Whether a segment's marker is there; one that was seen once is not asked for again."""
        if marker not in self._markers:
            if not objects.exists(marker):
                return False
            self._markers.add(marker)
        return True

    def entity(self, lake: Lake, *, model: str, month: str, index: str) -> list[str]:
        """Ids of the records under an entity's index of a month."""
        data: Any = lake.dataset(ENTITIES)
        where = (ds.field("month") == month) & (ds.field("model") == model)
        candidates = [one for one in data.get_fragments(filter=where) if self._may_name(data, one, index)]
        found = read_files(data, candidates, ["prediction_id"], where & (ds.field("entity_index") == index))
        return [str(row["prediction_id"]) for row in found]

    def _may_name(self, data: Any, fragment: Any, index: str) -> bool:
        with self._lock:
            held = self._prefixes.get(fragment.path)
            if held is not None:
                self._prefixes.move_to_end(fragment.path)
        if held is None:
            if fragment.metadata.num_rows > _WHOLE_ROWS:
                return True
            held = _prefixes(data, fragment)
            with self._lock:
                self._prefixes[fragment.path] = held
                while sum(one.nbytes for one in self._prefixes.values()) > _MOST_BYTES:
                    self._prefixes.popitem(last=False)
        wanted = np.array(index[:_PREFIX].encode(), f"S{_PREFIX}")
        place = int(np.searchsorted(held, wanted))
        return place < len(held) and held[place] == wanted


def _prefixes(data: Any, fragment: Any) -> npt.NDArray[np.bytes_]:
    some = ds.FileSystemDataset([fragment], data.schema, data.format, data.filesystem)
    texts: Any = some.to_table(columns=["entity_index"]).column(0).combine_chunks().cast(pa.string())
    if len(texts) == 0:
        return np.empty(0, f"S{_PREFIX}")
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts)]
    raw = np.frombuffer(texts.buffers()[2], np.uint8)
    prefixes = np.ascontiguousarray(raw[offsets[:, None] + np.arange(_PREFIX)])  # all are 64 hex characters
    return np.sort(prefixes.view(f"S{_PREFIX}").ravel())
