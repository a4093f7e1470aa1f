"""From sorted records to tables, tiles and segment: what a partition writes, each thing at most once, in one order.

Personal part, headers, entity index, quarantine, tiles, segment index; the caller's commit marker comes last. A rerun
after a crash writes the same bytes under the same names and skips what is already committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.contract import Contract
from ml_platform.core.delta import Lake
from ml_platform.core.errors import DuplicateKeys
from ml_platform.core.ids import id_text
from ml_platform.core.objects import ObjectStore
from ml_platform.serving import tables
from ml_platform.serving.behind import Behind
from ml_platform.serving.building import ID_BYTES, hex_texts, id_texts, leaf_rows
from ml_platform.serving.delta import PartitionWriter, commit_files
from ml_platform.serving.engine import SortedRows
from ml_platform.serving.intent import Intent, marker_path
from ml_platform.serving.record import SUBJECT_ROLE, Header
from ml_platform.serving.segment import LeafTree, Segment, store_segment, tiles_path
from ml_platform.serving.spool import Spool, binary_matrix

__all__ = ["Sealed", "Sealer"]


@dataclass(frozen=True)
class Sealed:
    """The segment (None for an empty partition) and the table versions that hold its rows."""

    segment: Segment | None
    tables: Mapping[str, int]


@dataclass
class Sealer:
    """Writes one partition.

    Args:
        folder: scratch space.
        limit: rows kept in memory before they are spilled.
    """

    lake: Lake
    objects: ObjectStore
    intent: Intent
    contract: Contract
    folder: Path
    limit: int
    versions: dict[str, int] = field(default_factory=dict)

    def seal(self, records: SortedRows, quarantine: SortedRows, counts: Mapping[str, int]) -> Sealed:
        """Raises ``StorageFailed``, ``DuplicateKeys``; nothing counts before the caller's marker."""
        segment = self._records(records, counts) if records.rows else None
        if quarantine.rows:
            self._quarantine(quarantine)
        return Sealed(segment, dict(self.versions))

    def _records(self, records: SortedRows, counts: Mapping[str, int]) -> Segment:
        entities = Spool(self.folder, "entity_index", at=0, skip=0, limit=self.limit)
        headers = self.folder / "headers.arrow"
        leaves, ends = self._personal(records, entities, headers)
        pa.default_memory_pool().release_unused()  # what the blocks took is not needed beside the tree
        tree, rank = LeafTree.of(leaves)
        del leaves  # the tree holds them in its own order
        with ThreadPoolExecutor(2) as pool:  # while the tree is hashed, two tables are written
            writing = [pool.submit(self._headers, headers, rank), pool.submit(self._entities, entities)]
            segment = self._segment(tree, ends, counts)
            for written in writing:
                written.result()
        store_segment(self.objects, segment, tree)
        self._index(segment)
        return segment

    @contextmanager
    def _writer(self, name: str, schema: pa.Schema, partition: Mapping[str, str]) -> Iterator[PartitionWriter]:
        writer = PartitionWriter(
            self.lake,
            name,
            schema,
            partition,
            self.intent.writer,
            tables.repeating_columns(schema),
            self.intent.app_id,
            self.intent.revision + 1,
            tables.dense_columns(schema),
        )
        with writer:
            yield writer
        about = {
            "kind": "batch",
            "partition": self.intent.partition,
            "revision": self.intent.revision,
            "segment": self.intent.segment_id,
            "model_version": self.intent.version,
        }
        self.versions[name] = commit_files(writer, at_us=self.intent.recorded_at_us, metadata=about)

    def _by_date(self) -> dict[str, str]:
        return {"decided_date": self.intent.decided_date}

    def _personal(
        self, records: SortedRows, entities: Spool, headers: Path
    ) -> tuple[npt.NDArray[np.uint8], tuple[bytes, bytes]]:
        """Leaves in the order of ids, first and last id; writes the personal table on a second thread."""
        leaves = np.empty((records.rows, 32), np.uint8)
        constant, seq = self._header(), 0
        first = last = b""
        narrow = pa.schema(
            [(name, pa.binary(ID_BYTES)) for name in ("id", "supersedes")] + [("commitment", pa.binary(32))]
        )
        name, schema = tables.personal_table(self.intent.model), tables.personal_schema(self.contract)
        with (
            pa.ipc.new_stream(str(headers), narrow) as stream,
            self._writer(name, schema, self._by_date()) as writer,
            Behind() as behind,
        ):
            for block in records.blocks():
                matrix = binary_matrix(block.column("id"), ID_BYTES)
                _check_unique(matrix)
                first, last = first or matrix[0].tobytes(), matrix[-1].tobytes()
                behind.run(_write_personal, writer, block, matrix)
                leaves[seq : seq + block.num_rows] = leaf_rows(constant, block, seq)
                stream.write_table(block.select(narrow.names))
                entities.append(block.select(["entity_index", "id"]))
                seq += block.num_rows
        return leaves, (first, last)

    def _header(self) -> Header:
        intent = self.intent
        return Header(
            root_id=intent.root_id,
            model=intent.model,
            version=intent.version,
            mode="batch",
            role=intent.role,
            decision_of_record=intent.decision_of_record,
            contract_digest=self.contract.digest,
            artifact_digest=intent.artifact_digest,
            route_digest=None,
            epoch=None,
            flip_digest=None,
            clock=intent.clock,
            decided_at_us=intent.decided_at_us,
            recorded_at_us=intent.recorded_at_us,
            latency_us=None,
            supersedes=None,
            pair_of=None,
            writer=intent.writer,
            prediction_id=b"",
            seq=0,
        )

    def _headers(self, path: Path, rank: npt.NDArray[np.int64]) -> None:
        name = tables.predictions_table(self.intent.model)
        start = 0
        with (
            self._writer(name, tables.HEADER_SCHEMA, self._by_date()) as writer,
            pa.OSFile(str(path), "rb") as source,
            pa.ipc.open_stream(source) as stream,
        ):
            for batch in stream:
                writer.write(self._header_rows(batch, start, rank[start : start + batch.num_rows]))
                start += batch.num_rows
        path.unlink()

    def _header_rows(self, batch: pa.RecordBatch, start: int, index: npt.NDArray[np.int64]) -> pa.Table:
        header = self._header()
        constant: dict[str, object] = {
            name: getattr(header, name)
            for name in tables.HEADER_SCHEMA.names
            if name in Header.__dataclass_fields__ and name not in {"prediction_id", "seq"}
        }
        constant |= {"decided_at": header.decided_at_us, "recorded_at": header.recorded_at_us}
        constant |= {"section_role": SUBJECT_ROLE, "segment_id": self.intent.segment_id}
        columns: dict[str, Any] = {
            "prediction_id": id_texts(binary_matrix(batch.column("id"), ID_BYTES)),
            "seq": pa.array(np.arange(start, start + batch.num_rows, dtype=np.int64)),
            "commitment": batch.column("commitment").cast(pa.binary()),
            "leaf_index": pa.array(index),
        }
        if batch.column("supersedes").null_count < batch.num_rows:
            texts = [None if raw is None else id_text(raw) for raw in batch.column("supersedes").to_pylist()]
            columns["supersedes"] = pa.array(texts, pa.string())
        arrays = [
            columns[item.name] if item.name in columns else _repeated(constant[item.name], item.type, batch.num_rows)
            for item in tables.HEADER_SCHEMA
        ]
        return pa.Table.from_arrays(arrays, names=tables.HEADER_SCHEMA.names)

    def _entities(self, entities: Spool) -> None:
        partition = {"month": self.intent.month, "model": self.intent.model}
        with self._writer(tables.ENTITIES, tables.ENTITY_SCHEMA, partition) as writer:
            for block in entities.blocks():
                index = binary_matrix(block.column("entity_index"), 32)
                arrays = [
                    hex_texts(index),
                    pa.array(index[:, 0].astype(np.int64)),
                    id_texts(binary_matrix(block.column("id"), ID_BYTES)),
                ]
                writer.write(pa.Table.from_arrays(arrays, schema=tables.ENTITY_SCHEMA))

    def _quarantine(self, quarantine: SortedRows) -> None:
        intent, schema = self.intent, tables.QUARANTINE_SCHEMA
        constant: dict[str, object] = {
            "partition": intent.partition,
            "revision": intent.revision,
            "version": intent.version,
            "decided_at": intent.decided_at_us,
            "writer": intent.writer,
        }
        name = tables.quarantine_table(intent.model)
        with self._writer(name, schema, self._by_date()) as writer:
            for block in quarantine.blocks():
                columns: dict[str, Any] = {name: block.column(name) for name in ("field", "rule", "kind")}
                columns["row_index"] = hex_texts(binary_matrix(block.column("row_index"), 32))
                arrays = [
                    columns[item.name]
                    if item.name in columns
                    else _repeated(constant[item.name], item.type, len(block))
                    for item in schema
                ]
                writer.write(pa.Table.from_arrays(arrays, names=schema.names))

    def _segment(self, tree: LeafTree, ends: tuple[bytes, bytes], counts: Mapping[str, int]) -> Segment:
        intent = self.intent
        return Segment(
            id=intent.segment_id,
            model=intent.model,
            root=f"sha256:{tree.root().hex()}",
            size=tree.size,
            first_id=id_text(ends[0]),
            last_id=id_text(ends[1]),
            writer=intent.writer,
            first_seq=0,
            last_seq=tree.size - 1,
            counts=dict(counts),
            min_decided_at=intent.decided_at,
            max_decided_at=intent.decided_at,
        )

    def _index(self, segment: Segment) -> None:
        intent, model = self.intent, self.intent.model
        row = {
            "segment_id": segment.id,
            "model": model,
            "min_id": segment.first_id,
            "max_id": segment.last_id,
            "size": segment.size,
            "root": segment.root,
            "decided_date": intent.decided_date,
            "predictions_version": self.versions[tables.predictions_table(model)],
            "personal_version": self.versions[tables.personal_table(model)],
            "tiles": tiles_path(segment.id),
            "marker": marker_path(model, intent.partition, intent.revision),
        }
        self.versions[tables.SEGMENTS] = self.lake.append(
            tables.SEGMENTS,
            pa.Table.from_pylist([row], schema=tables.SEGMENT_SCHEMA),
            app_id=intent.app_id,
            txn_version=intent.revision + 1,
            metadata={"segment": segment.id},
        )


def _repeated(value: object, kind: pa.DataType, rows: int) -> Any:
    """One value in every row; texts as a dictionary of one, which Parquet takes over as it is."""
    anything: Any = pa  # the stubs know only literal types of Arrow
    if value is None:
        return anything.nulls(rows, kind)
    if pa.types.is_string(kind):
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), anything.array([value], kind))
    return anything.repeat(anything.scalar(value, kind), rows)


def _check_unique(ids: npt.NDArray[np.uint8]) -> None:
    if (ids[1:] == ids[:-1]).all(axis=1).any():
        raise DuplicateKeys("Two rows have the same id.", next_step="Deliver each row once.")


def _write_personal(writer: PartitionWriter, block: pa.Table, ids: npt.NDArray[np.uint8]) -> None:
    texts: dict[str, Any] = {"prediction_id": id_texts(ids), "salt": block.column("salt").cast(pa.binary())}
    arrays = [texts[item.name] if item.name in texts else block.column(item.name) for item in writer.schema]
    writer.write(pa.Table.from_arrays(arrays, schema=writer.schema))
