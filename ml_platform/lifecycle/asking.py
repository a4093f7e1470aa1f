"""Requests of the lake asked online: one request a row, many at once, through the running server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.errors import ContractViolation, PlatformError
from ml_platform.core.rows import micros
from ml_platform.lifecycle.sources import read_source
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.serving.triton.boot import Boot
from ml_platform.serving.triton.client import TritonClient
from ml_platform.serving.triton.pushing import Served
from ml_platform.serving.triton.repository import NULL_SUFFIX, router_model_name

__all__ = ["Asked", "ask_rows", "request_rows", "undecided"]

CONCURRENCY: Final = 16
_US: Final = pa.timestamp("us", "UTC")


@dataclass
class Asked:
    """What came of many requests.

    Attributes:
        answered: requests with an answer.
        refused: refused by the contract, by the server's own words.
        failed: requests without an answer that were no client's fault.
        versions: answers by version.
        decisions: answers by decision.
        seconds: from the first request to the last answer.
    """

    answered: int = 0
    refused: int = 0
    failed: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "refused": self.refused,
            "failed": self.failed,
            "versions": {f"v{version}": count for version, count in sorted(self.versions.items())},
            "decisions": dict(sorted(self.decisions.items())),
            "seconds": round(self.seconds, 3),
        }


def request_rows(platform: Platform, model: Model, start: datetime, end: datetime) -> pa.Table:
    """The requests with T in [start, end) that have arrived by now, in the columns of the request view."""
    request = model.request
    rows = read_source(platform, request.source, known_until_us=micros(platform.clock.now()))
    times = pc.field(request.time)
    rows = rows.filter((times >= pa.scalar(micros(start), _US)) & (times < pa.scalar(micros(end), _US)))
    columns = dict.fromkeys([*model.entity.keys, request.time, *(column.name for column in request.columns)])
    return rows.select(list(columns))


def undecided(platform: Platform, model: Model, rows: pa.Table) -> pa.Table:
    """Of these requests, those without a recorded decision, sealed or not."""
    from ml_platform.core.rows import encode_row, encode_table
    from ml_platform.governance.contracts import KnownContracts
    from ml_platform.serving.decided import row_keys
    from ml_platform.serving.tables import key_column, personal_table
    from ml_platform.serving.unsealed import UnsealedRecords
    from ml_platform.serving.wal import WAL_FOLDER

    names = [*model.entity.keys, model.request.time]
    # The logs first, as `decided_rows` does: what is sealed meanwhile is in the tables before it leaves them.
    done = {
        encode_row([*one.section.keys, ("us", one.section.request_time_us)])
        for one in UnsealedRecords(platform.root / WAL_FOLDER, KnownContracts(platform)).decisions(model.name)
    }
    if platform.lake.exists(personal_table(model.name)):
        columns = ["request_time", *(key_column(name) for name in model.entity.keys)]
        sealed = platform.lake.read(personal_table(model.name), columns=columns)
        done |= set(row_keys(sealed, columns[1:], "request_time"))
    open_rows = [key not in done for key in encode_table(rows, names)]
    return rows.filter(pa.array(open_rows, pa.bool_()))


def ask_rows(platform: Platform, model: Model, rows: pa.Table, *, concurrency: int = CONCURRENCY) -> Asked:
    """Asks the running router about each row, one request a row, at most ``concurrency`` at once.

    Raises:
        ServerUnavailable: no server runs for this root.
    """
    boot = Boot.read(platform.root)
    served = Served.read(platform.root, model.name)
    name = router_model_name(model.name, max(1, len(served.generations)))
    found, started = Asked(), time.monotonic()
    with TritonClient(boot) as client, ThreadPoolExecutor(concurrency) as pool:
        kinds = served.fields(client.inputs(name))

        def ask(tensors: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]] | PlatformError:
            try:
                return client.infer(name, tensors)
            except PlatformError as error:
                return error

        for answer in pool.map(ask, _requests(rows, kinds)):
            _count(found, answer)
    found.seconds = time.monotonic() - started
    return found


def _count(found: Asked, answer: Mapping[str, npt.NDArray[Any]] | PlatformError) -> None:
    if isinstance(answer, ContractViolation):
        found.refused += 1
    elif isinstance(answer, PlatformError):
        found.failed += 1
    else:
        found.answered += 1
        found.versions[int(answer["version"].reshape(-1)[0])] += 1
        found.decisions[str(answer["decision"].reshape(-1)[0])] += 1


def _requests(rows: pa.Table, kinds: Mapping[str, str]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    columns = {name: _values(rows.column(name), kinds[name]) for name in rows.column_names if name in kinds}
    for row in range(rows.num_rows):
        tensors: dict[str, npt.NDArray[Any]] = {}
        for name, values in columns.items():
            value = values[row]
            if value is None:
                tensors[f"{name}{NULL_SUFFIX}"] = np.array([[True]])
            else:
                tensors[name] = np.array([[value]], dtype=_DTYPES[kinds[name]])
        yield tensors


_DTYPES: Final = {"INT64": np.int64, "FP64": np.float64, "FP32": np.float32, "BYTES": object, "BOOL": np.bool_}


def _values(column: pa.ChunkedArray[Any], kind: str) -> Sequence[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(_US).cast(pa.int64())
    elif kind == "BYTES":
        column = column.cast(pa.string())
    return column.to_pylist()
