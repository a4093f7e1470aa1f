"""SHA-256 of whole columns by DataFusion, the query engine that ``deltalake`` carries.

A fifth of what ``hashlib`` costs a row when messages are short, and without the interpreter lock. The messages pass
through anonymous memory, never through a file that has a name: keys may be among them.
"""

from __future__ import annotations

import os
from functools import cache
from hashlib import sha256
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["available", "column", "hashed"]

DIGEST_BYTES: Final = 32
_BATCH_ROWS: Final = 4_096  # the intermediate texts of a batch stay in the processor's cache
_MOST_BYTES: Final = 2**31 - 1  # offsets of 32 bits
_SETTINGS: Final = {"datafusion.execution.target_partitions": "1", "datafusion.execution.batch_size": str(_BATCH_ROWS)}


def column(raw: bytes, offsets: npt.NDArray[np.int64]) -> pa.Array[Any] | None:
    """Messages that lie end to end, as a column; None where they are too long for one."""
    if offsets[-1] > _MOST_BYTES:
        return None
    edges = pa.py_buffer(offsets.astype(np.int32).tobytes())
    return pa.BinaryArray.from_buffers(pa.binary(), len(offsets) - 1, [None, edges, pa.py_buffer(raw)])


def hashed(expression: str, columns: dict[str, pa.Array[Any]]) -> npt.NDArray[np.uint8] | None:
    """[n, 32], from a DataFusion expression over the columns that gives 32 bytes a row, in the order of the rows.

    None where the engine cannot: the caller hashes by itself. What the engine says is kept from logs, since it quotes
    the expression, and an expression holds keys.
    """
    if not available():
        return None
    return _evaluated(expression, columns)


@cache
def available() -> bool:
    """Whether this machine has anonymous memory files, and the engine gives the bits of ``hashlib`` for a trial."""
    if not hasattr(os, "memfd_create"):
        return False
    messages = [b"", b"ml", bytes(range(200))]
    found = _evaluated("sha256(X'00ff' || x)", {"x": pa.array(messages, pa.binary())})
    return found is not None and found.tobytes() == b"".join(sha256(b"\x00\xff" + one).digest() for one in messages)


def _evaluated(expression: str, columns: dict[str, pa.Array[Any]]) -> npt.NDArray[np.uint8] | None:
    from deltalake import QueryBuilder
    from deltalake.exceptions import DeltaError

    first = next(iter(columns.values()))
    numbered = pa.table({**columns, "row": pa.array(np.arange(len(first), dtype=np.int32))})
    try:
        memory = os.memfd_create("messages")
        try:
            path = f"/proc/self/fd/{memory}"
            with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, numbered.schema) as writer:
                writer.write_table(numbered, max_chunksize=_BATCH_ROWS)
            engine = QueryBuilder(_SETTINGS)
            engine.execute(f"create external table messages stored as arrow location '{path}'")
            answer: Any = engine.execute(f"select row, {expression} as hash from messages")  # noqa: S608 - ours
            table = pa.table(answer.read_all())
        finally:
            os.close(memory)
    except (DeltaError, OSError, pa.ArrowException):
        return None
    return _in_order(table, len(first))


def _in_order(table: pa.Table, rows: int) -> npt.NDArray[np.uint8] | None:
    """SQL promises no order: each hash goes where its row's number says."""
    found = np.empty((rows, DIGEST_BYTES), np.uint8)
    seen = 0
    for batch in table.to_batches():
        hashes: Any = batch.column("hash").cast(pa.binary())
        offsets = np.frombuffer(hashes.buffers()[1], np.int32)[hashes.offset : hashes.offset + len(hashes) + 1]
        raw = np.frombuffer(hashes.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
        if len(raw) != len(hashes) * DIGEST_BYTES:
            return None
        found[batch.column("row").to_numpy()] = raw.reshape(-1, DIGEST_BYTES)
        seen += len(hashes)
    return found if seen == rows else None
