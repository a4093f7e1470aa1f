"""What the demo says at its end: versions with what the truth later showed, months, one trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.clock import format_utc
from ml_platform.core.contract import Contract
from ml_platform.core.digests import parse_canonical
from ml_platform.core.durations import Duration
from ml_platform.core.errors import NotFound
from ml_platform.core.rows import encode_table, micros
from ml_platform.datasets import label_rows, read_snapshot, snapshot_path
from ml_platform.features import FeatureView
from ml_platform.features.duckdb import point_in_time
from ml_platform.features.tables import LakeSources, history_of, join_of, read_rows
from ml_platform.features.windows import aggregate_changes
from ml_platform.governance import trace
from ml_platform.lifecycle.features import contract_views, stored_columns
from ml_platform.lifecycle.scoring import month_window
from ml_platform.lifecycle.sources import source_table
from ml_platform.lifecycle.training import read_trained
from ml_platform.model import Model, plain_sources
from ml_platform.orchestration.demo_root import DemoRoot
from ml_platform.platform import Platform
from ml_platform.profiles import ReferenceProfile, psi
from ml_platform.serving import BatchResult, FeatureReader, Scorer
from ml_platform.serving.intent import newest_revision, read_result
from ml_platform.serving.preparing import Preparer
from ml_platform.serving.tables import personal_table, predictions_table
from ml_platform.stats import auc_interval
from ml_platform.training import DECLINED

__all__ = ["batch_results", "declined_trace", "months_table", "prediction_counts", "version_report"]

_END_OF_RECORDS: Final = datetime(2100, 1, 1, tzinfo=UTC)


def batch_results(platform: Platform, model: str, months: Iterable[str]) -> list[BatchResult]:
    """The complete partitions, in order."""
    found = []
    for month in months:
        revision = newest_revision(platform.objects, model, month)
        result = None if revision is None else read_result(platform.objects, model, month, revision)
        if result is None:
            raise NotFound("The month was not decided.", field=month, next_step="Run the demo again: it goes on.")
        found.append(result)
    return found


def prediction_counts(results: Sequence[BatchResult]) -> dict[str, int]:
    """Decisions, flagged and refused rows of all months."""
    return {
        "batch": sum(result.accepted for result in results),
        "flagged": sum(result.flagged for result in results),
        "refused": sum(result.refused for result in results),
        "declined": sum(result.declined for result in results),
    }


def months_table(platform: Platform, model: Model, results: Sequence[BatchResult]) -> list[dict[str, Any]]:
    """Each month: who decided what, the terms that were never seen, and the PSI of ``term`` against training."""
    return [
        {
            "month": result.partition,
            "version": result.version,
            "decided_at": result.decided_at,
            "accepted": result.accepted,
            "declined": result.declined,
            "refused": result.refused,
            "flagged": result.flagged,
            "flags": {name: dict(rules) for name, rules in result.flags.items()},
            "refusals": {name: dict(rules) for name, rules in result.refusals.items()},
            "psi_term": _psi(platform, model, result, "term"),
        }
        for result in results
    ]


def _psi(platform: Platform, model: Model, result: BatchResult, field: str) -> float | None:
    known = platform.registry.state().version(model.name, result.version)
    trained = read_trained(platform, model.name, known.candidate)
    profile = ReferenceProfile.from_json(parse_canonical(platform.objects.get(trained.profile_digest)))
    one = replace(profile, fields={field: profile.fields[field]})
    start, end = _window(result)
    time = model.request.time
    rows = platform.lake.read(
        source_table(model.request.source),
        columns=[field],
        where=(pc.field(time) >= start) & (pc.field(time) < end),
    )
    return None if not rows.num_rows else round(psi(one, rows)[field], 6)


def _window(result: BatchResult) -> tuple[Any, Any]:
    window = month_window(result.partition)
    kind = pa.timestamp("us", "UTC")
    return pa.scalar(micros(window.start), kind), pa.scalar(micros(window.end), kind)


def version_report(main: DemoRoot, model: Model, number: int, as_of: datetime) -> dict[str, Any]:
    """A version as the demo shows it. ``training_rows`` are all mature rows of the snapshot, both its parts."""
    platform = main.platform
    known = main.version(model, number)
    snapshot = read_snapshot(platform.objects, snapshot_path(model.name, known.candidate))
    manifest = snapshot.manifest
    evaluation = _evaluation(main, known.digests.evaluation)
    return {
        "version": number,
        "stage": known.stage,
        "as_of": format_utc(as_of),
        "candidate": known.candidate,
        "training_rows": snapshot.rows,
        "train_rows": manifest["split"]["train_rows"],
        "test_rows": manifest["split"]["test_rows"],
        "immature_rows": manifest["left_out"]["reasons"].get("immature", 0),
        "left_out": dict(manifest["left_out"]["reasons"]),
        "training_set_digest": snapshot.digest,
        "training_set_path": str(main.path / "store" / snapshot.data_path),
        "artifact_digest": known.digests.artifact,
        "auc": evaluation["metrics"]["auc"],
        "auc_next_half_year": _next_half_year(main, model, known.digests.artifact, as_of),
        "baseline": evaluation["baseline"],
        "gates": evaluation["verdicts"],
    }


def _evaluation(main: DemoRoot, digest: str) -> dict[str, Any]:
    document: dict[str, Any] = parse_canonical(main.platform.objects.get(digest))
    return document


def _next_half_year(main: DemoRoot, model: Model, artifact: str, as_of: datetime) -> dict[str, Any]:
    """AUC on the applications of the six months after the as-of time, by the labels that matured later.

    Reads past the replay's clock on purpose: this is the truth that the model could not know. Nothing is recorded.
    """
    platform = main.platform
    end = Duration.parse("6mo").after(as_of)
    matured = label_rows(
        model.label,
        platform.lake.read(source_table(model.request.source)),
        platform.lake.read(source_table(model.label.outcome)),
        Duration.parse("24mo").after(end),
    ).mature
    times = pc.field(model.request.time)
    kind = pa.timestamp("us", "UTC")
    rows = matured.filter((times >= pa.scalar(micros(as_of), kind)) & (times < pa.scalar(micros(end), kind)))
    scores, labels = _scored(main, model, artifact, rows)
    return {**auc_interval(scores, labels).to_json(), "rows": len(labels), "positives": int(labels.sum())}


def _scored(
    main: DemoRoot, model: Model, artifact: str, rows: pa.Table
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    scorer = Scorer.load(main.platform.objects, artifact, reasons=False)
    contract = scorer.contract
    names = [*(name for name, _ in contract.entity_keys), contract.time, *(item.name for item in contract.inputs)]
    prepared = Preparer(contract, (-(2**62), 2**62), _reader(main.platform)).prepare(rows.select(names))
    keys = encode_table(rows, [*model.entity.keys, contract.time])
    labels = dict(zip(keys, rows.column(model.label.column).to_numpy().astype(np.float64), strict=True))
    return scorer.model.scores(prepared.matrix), np.array([labels[key] for key in prepared.row_keys])


def _reader(platform: Platform) -> FeatureReader:
    """Stored features for requests after the replay's clock: computed as they would be, stored nowhere."""

    def read(contract: Contract, rows: pa.Table) -> pa.Table:
        views = contract_views(platform, contract)
        joins = [join_of(view, history_of(view, _changes(platform, view))) for view in views]
        return stored_columns(contract, point_in_time(rows, time=contract.time, joins=joins))

    return read


def _changes(platform: Platform, view: FeatureView) -> pa.Table:
    tables = {source.name: source_table(source) for source in plain_sources(view.history)}
    rows, _ = read_rows(view.history, LakeSources(platform.lake, tables), until=_END_OF_RECORDS)
    return aggregate_changes(view, rows, None, _END_OF_RECORDS) if view.aggregations else rows


def declined_trace(main: DemoRoot, model: Model, month: str, mode: str) -> dict[str, Any]:
    """The whole answer about one declined application of a month, decided in a mode: the first by id.

    Raises:
        NotFound: nothing was declined in that month.
    """
    platform, window = main.platform, month_window(month)
    kind = pa.timestamp("us", "UTC")
    start, end = (pa.scalar(micros(at), kind) for at in (window.start, window.end))
    time = pc.field("request_time")
    declined = platform.lake.read(
        personal_table(model.name),
        columns=["prediction_id"],
        where=(pc.field("decision") == DECLINED) & (time >= start) & (time < end),
    ).column(0)
    of_record = (pc.field("mode") == mode) & pc.field("decision_of_record")
    ids = platform.lake.read(predictions_table(model.name), columns=["prediction_id"], where=of_record).column(0)
    found = declined.filter(pc.is_in(declined, value_set=ids.combine_chunks()))
    if not len(found):
        raise NotFound("Nothing was declined in that month.", field=month, next_step="Trace another month.")
    first: Any = pc.min(found).as_py()
    return trace(platform, str(first)).to_json()
