"""What a version decided in a window: its records of decision, read from the sealed tables."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ml_platform.core.clock import format_utc, parse_utc
from ml_platform.core.contract import Contract
from ml_platform.core.digests import document_digest, parse_canonical
from ml_platform.core.errors import DataError
from ml_platform.core.rows import micros
from ml_platform.lifecycle.decisions import complete_segments
from ml_platform.lifecycle.scoring import Window, month_window
from ml_platform.lifecycle.training import read_trained
from ml_platform.platform import Platform
from ml_platform.profiles import ReferenceProfile
from ml_platform.registry.state import VersionState
from ml_platform.serving.tables import (
    SEGMENTS,
    feature_column,
    key_column,
    output_column,
    personal_table,
    predictions_table,
    quarantine_table,
)
from ml_platform.training import load_artifact

__all__ = [
    "WindowRecords",
    "monitored_window",
    "read_latency_us",
    "read_refusals",
    "read_window",
    "versions_of_record",
    "window_before",
]

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONTH: Final = re.compile(r"\d{4}-\d{2}")
_HEADER: Final = ("prediction_id", "segment_id", "leaf_index", "mode", "latency_us", "supersedes")
_UTC: Final = pa.timestamp("us", "UTC")


def monitored_window(name: str) -> Window:
    """The window of a month ``YYYY-MM`` or of a day ``YYYY-MM-DD``, UTC.

    Raises:
        DataError: the text is neither.
    """
    if not _DAY.fullmatch(name):
        return month_window(name)
    try:
        start = parse_utc(name)
    except ValueError as error:
        raise DataError(
            "This is no day.", field="window", next_step='Write it as "2010-05-01", a month as "2010-05".'
        ) from error
    return Window(name, start, start + timedelta(days=1))


def window_before(window: Window) -> Window:
    """The window of the same granularity that ends where this one starts."""
    last = window.start - timedelta(days=1)
    return monitored_window(last.strftime("%Y-%m-%d" if _DAY.fullmatch(window.partition) else "%Y-%m"))


@dataclass(frozen=True)
class WindowRecords:
    """The decisions of record of one version about requests of one window, corrections in place of what they correct.

    Attributes:
        version: the version that decided.
        contract: of the version.
        reference: what it was trained on.
        table: ``prediction_id``, ``segment_id``, ``leaf_index``, ``mode``, ``latency_us``, ``request_time``, the entity
            keys by their names, features by their names, ``decision``, and ``score``, the first output.
        refused: requests that its contract refused, by ``field:rule``.
        roots: of the segments that hold the records.
    """

    window: Window
    version: VersionState
    contract: Contract
    reference: ReferenceProfile
    table: pa.Table
    refused: Mapping[str, int] = field(hash=False)
    roots: Mapping[str, str] = field(hash=False)

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = self.table.column("score").to_numpy()
        return scores

    @property
    def decisions(self) -> dict[str, int]:
        return self._counted("decision")

    @property
    def modes(self) -> dict[str, int]:
        return self._counted("mode")

    def _counted(self, name: str) -> dict[str, int]:
        counted: Any = self.table.column(name).value_counts()
        found = {item["values"]: item["counts"] for item in counted.to_pylist() if item["values"] is not None}
        return dict(sorted(found.items()))

    @property
    def latency_us(self) -> npt.NDArray[np.int64]:
        """Of what was answered online."""
        latency: npt.NDArray[np.int64] = self.table.column("latency_us").drop_null().to_numpy()
        return latency

    @cached_property
    def inputs_digest(self) -> str:
        """Of everything that a profile of it depends on: the leaves, the reference, the contract, what was refused."""
        rows = self.table.select(["segment_id", "leaf_index"]).sort_by(
            [("segment_id", "ascending"), ("leaf_index", "ascending")]
        )
        segments, indexes = np.array(rows.column(0).to_pylist(), object), rows.column(1).to_numpy()
        held = {
            str(name): {
                "root": self.roots[name],
                "leaves": hashlib.sha256(indexes[segments == name].astype("<i8").tobytes()).hexdigest(),
            }
            for name in sorted(set(segments.tolist()))
        }
        return document_digest(
            "window-inputs",
            {
                "window": [format_utc(self.window.start), format_utc(self.window.end)],
                "version": self.version.number,
                "artifact": self.version.digests.artifact,
                "contract": self.contract.digest,
                "reference": self.reference.digest,
                "rows": self.table.num_rows,
                "segments": held,
                "refused": dict(sorted(self.refused.items())),
            },
        )


def versions_of_record(platform: Platform, model: str, window: Window) -> list[int]:
    """The versions that have decisions of record about requests of the window, or that refused some of them."""
    if not platform.lake.exists(predictions_table(model)):
        return []
    ids = _personal(platform, model, window, ["prediction_id"]).column(0).combine_chunks()
    headers = platform.lake.read(
        predictions_table(model), columns=["prediction_id", "version"], where=_of_record(platform, model, window)
    )
    here = headers.filter(pc.is_in(headers.column("prediction_id"), value_set=ids))
    return sorted({int(str(one)) for one in here.column("version").to_pylist()})


def read_window(platform: Platform, model: str, window: Window, version: int) -> WindowRecords:
    """The records of one version in one window; none is an answer, not an error.

    Raises:
        NotFound: no such model or version, or the version has no reference profile.
    """
    known = platform.registry.state().version(model, version)
    trained = read_trained(platform, model, known.candidate)
    contract = load_artifact(platform.objects, known.digests.artifact).contract
    table, roots = _records(platform, model, window, version, contract)
    return WindowRecords(
        window=window,
        version=known,
        contract=contract,
        reference=ReferenceProfile.from_json(parse_canonical(platform.objects.get(trained.profile_digest))),
        table=table,
        refused=read_refusals(platform, model, window, version),
        roots=roots,
    )


def read_latency_us(platform: Platform, model: str, window: Window) -> npt.NDArray[np.int64]:
    """Of everything that was answered online about requests of a window, by any version."""
    if not platform.lake.exists(predictions_table(model)):
        return np.empty(0, np.int64)
    ids = _personal(platform, model, window, ["prediction_id"]).column(0).combine_chunks()
    where = _of_record(platform, model, window) & ds.field("latency_us").is_valid()
    headers = platform.lake.read(predictions_table(model), columns=["prediction_id", "latency_us"], where=where)
    here = headers.filter(pc.is_in(headers.column("prediction_id"), value_set=ids))
    latency: npt.NDArray[np.int64] = here.column("latency_us").to_numpy()
    return latency


def read_refusals(platform: Platform, model: str, window: Window, version: int) -> dict[str, int]:
    """Requests that a version's contract refused, by ``field:rule``.

    A refusal has no request time. A batch partition's belong to its month (and to no day), others to their decision.
    """
    name = quarantine_table(model)
    if not platform.lake.exists(name):
        return {}
    start, end = (pa.scalar(micros(at), _UTC) for at in (window.start, window.end))
    decided = (ds.field("decided_at") >= start) & (ds.field("decided_at") < end)
    where = (ds.field("version") == version) & (decided | (ds.field("partition") == window.partition))
    rows = platform.lake.read(name, columns=["partition", "field", "rule"], where=where)
    counted = Counter(
        f"{row['field']}:{row['rule']}"
        for row in rows.to_pylist()
        if row["partition"] == window.partition or not _MONTH.fullmatch(str(row["partition"]))
    )
    return dict(sorted(counted.items()))


def _of_record(platform: Platform, model: str, window: Window) -> ds.Expression:
    sealed = ds.field("segment_id").isin(complete_segments(platform, model))
    return sealed & ds.field("decision_of_record") & (ds.field("decided_date") >= window.start.date().isoformat())


def _personal(platform: Platform, model: str, window: Window, columns: list[str]) -> pa.Table:
    start, end = (pa.scalar(micros(at), _UTC) for at in (window.start, window.end))
    where = (ds.field("request_time") >= start) & (ds.field("request_time") < end)
    where &= ds.field("decided_date") >= window.start.date().isoformat()  # nobody decides before the request
    return platform.lake.read(personal_table(model), columns=columns, where=where)


def _records(
    platform: Platform, model: str, window: Window, version: int, contract: Contract
) -> tuple[pa.Table, dict[str, str]]:
    names = {"prediction_id": "prediction_id", "request_time": "request_time", "decision": "decision"}
    names |= {key_column(name): name for name, _ in contract.entity_keys}
    names |= {feature_column(item): item.name for item in contract.fields}
    names |= {output_column(contract.outputs[0].name): "score"}
    if not platform.lake.exists(predictions_table(model)):
        empty: dict[str, Any] = {name: pa.array([], pa.string()) for name in (*_HEADER, *names.values())}
        empty |= {"score": pa.array([], pa.float32()), "leaf_index": pa.array([], pa.int64())}
        return pa.table(empty | {"latency_us": pa.array([], pa.int64())}), {}
    where = _of_record(platform, model, window) & (ds.field("version") == version)
    headers = platform.lake.read(predictions_table(model), columns=list(_HEADER), where=where)
    present = set(platform.lake.dataset(personal_table(model)).schema.names)
    personal = _personal(platform, model, window, [name for name in names if name in present])
    personal = personal.rename_columns([names[name] for name in personal.column_names])
    headers = _without_corrected(headers)
    at: Any = pc.index_in(personal.column("prediction_id"), value_set=headers.column("prediction_id").combine_chunks())
    found = pc.is_valid(at)
    personal, headers = personal.filter(found), headers.take(at.filter(found))
    for name in _HEADER[1:]:
        personal = personal.append_column(name, headers.column(name))
    rows = platform.lake.read(SEGMENTS, columns=["segment_id", "root"], where=ds.field("model") == model).to_pylist()
    return personal, {row["segment_id"]: row["root"] for row in rows}


def _without_corrected(headers: pa.Table) -> pa.Table:
    """Without decisions that a later decision of record corrects."""
    corrected = headers.column("supersedes").drop_null().combine_chunks()
    return headers.filter(pc.invert(pc.is_in(headers.column("prediction_id"), value_set=corrected)))
