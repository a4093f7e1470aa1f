"""The evaluation of a trained candidate, paired with production, signed, and entered in the log, passed or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.clock import format_utc
from ml_platform.core.digests import parse_canonical
from ml_platform.core.errors import NotEnoughData, NotFound, SettingsError
from ml_platform.core.rows import encode_table, micros
from ml_platform.datasets import Snapshot, label_rows, read_snapshot, snapshot_path
from ml_platform.datasets.labels import SPLIT
from ml_platform.datasets.snapshot import seeds_of
from ml_platform.datasets.training_spec import TEST
from ml_platform.lifecycle.features import contract_views, feature_reader, materialize_model_views
from ml_platform.lifecycle.requesting import Candidate, read_candidate
from ml_platform.lifecycle.sources import read_source, source_table
from ml_platform.lifecycle.training import TrainedModel, read_trained
from ml_platform.model import Attribute, Model
from ml_platform.platform import Platform
from ml_platform.registry import sshsig
from ml_platform.registry.state import CandidateState
from ml_platform.serving import Scorer
from ml_platform.serving.preparing import Preparer
from ml_platform.training import (
    BaselineRef,
    Evaluation,
    EvaluationSubject,
    EvaluationTable,
    GateContext,
    OnnxModel,
    Verdict,
    evaluate,
    load_artifact,
    prepare,
    recompute_verdicts,
    seed_of,
)
from ml_platform.training.artifact import ONNX_PART

__all__ = ["EvaluationResult", "attribute_groups", "evaluate_candidate", "read_evaluated"]

NAMESPACE = "evaluation@ml-platform"


@dataclass(frozen=True)
class EvaluationResult:
    """A stored and logged evaluation."""

    model: str
    candidate: str
    digest: str
    log_index: int
    document: Mapping[str, Any] = field(hash=False, repr=False)
    table: EvaluationTable = field(hash=False, repr=False)
    verdicts: tuple[Verdict, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "candidate": self.candidate,
            "digest": self.digest,
            "log_index": self.log_index,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "metrics": dict(self.document["metrics"]),
            "baseline": self.document["baseline"],
        }


def evaluate_candidate(platform: Platform, model: Model, key: str) -> EvaluationResult:
    """Measures the candidate on its test rows, beside production's version on the same rows, and judges its gates.

    The baseline is the version in production when this runs. A candidate that became a version keeps the evaluation
    with which it did: asking again returns that one, with its verdicts recomputed from the stored table.

    Raises:
        NotFound: the candidate was not trained.
        NotEnoughData: its contract refuses every test row.
        SettingsError: a protected attribute has neither data nor a written reason why not.
    """
    candidate, trained = read_candidate(platform, model.name, key), read_trained(platform, model.name, key)
    known = platform.registry.state().model(model.name).candidates.get(key)
    if known is not None and known.version is not None:
        return _logged(platform, model, known)
    snapshot = read_snapshot(platform.objects, snapshot_path(model.name, key))
    test = _TestPart.of(platform, model, snapshot)
    artifact = load_artifact(platform.objects, trained.artifact_digest)
    prepared = prepare(artifact.contract, test.rows)
    kept = np.flatnonzero(prepared.accepted)
    if not len(kept):
        raise NotEnoughData(
            "The candidate's own contract refuses every test row.",
            field="contract",
            next_step="Look at the refusals by field; declare a policy or mend the source.",
        )
    matrix = np.ascontiguousarray(prepared.matrix[kept])
    baseline = _Baseline.find(platform, model)
    table = EvaluationTable.build(
        [test.leaves[row] for row in kept],
        score=OnnxModel(artifact.part(ONNX_PART)).scores(matrix),
        native_score=model.trainer.predict(artifact.part(model.trainer.native_part), matrix),
        label=test.rows.column(model.label.column).to_numpy()[kept],
        groups=attribute_groups(platform, model, candidate.as_of, test.rows.take(pa.array(kept, pa.int64()))),
        baseline_score=None if baseline is None else baseline.scores(platform, model, candidate, test)[kept],
    )
    document = evaluate(
        _subject(model, candidate, trained),
        table,
        model.gates,
        _context(platform, model, trained, None if baseline is None else baseline.reference),
        slices=_slices(model, test, kept),
        refused=prepared.refused_by_rule(),
    )
    return _store(platform, candidate, trained, document)


@dataclass(frozen=True)
class _TestPart:
    rows: pa.Table
    leaves: Sequence[bytes]
    keys: Sequence[bytes]

    @classmethod
    def of(cls, platform: Platform, model: Model, snapshot: Snapshot) -> _TestPart:
        table = snapshot.read(platform.objects)
        rule = snapshot.rule()
        leaves = rule.leaves(table, seeds_of(table, rule, snapshot.manifest["entity"], platform.subjects.seeds))
        keys = encode_table(table, [*model.entity.keys, model.request.time])
        places = np.flatnonzero(pc.equal(table.column(SPLIT), pa.scalar(TEST)).to_numpy())
        return cls(
            table.take(pa.array(places, pa.int64())),
            [leaf for place in places if (leaf := leaves[place]) is not None],
            [keys[place] for place in places],
        )


@dataclass(frozen=True)
class _Baseline:
    """Production's version, scored with its own definitions on the candidate's test rows."""

    reference: BaselineRef

    @classmethod
    def find(cls, platform: Platform, model: Model) -> _Baseline | None:
        known = platform.registry.state().models.get(model.name)
        if known is None or known.production is None:
            return None
        return cls(BaselineRef(known.production, known.version(known.production).digests.artifact))

    def scores(
        self, platform: Platform, model: Model, candidate: Candidate, test: _TestPart
    ) -> npt.NDArray[np.float32]:
        """float32 [n test rows]; NaN where production's contract refuses the row."""
        scorer = Scorer.load(platform.objects, self.reference.artifact, reasons=False)
        contract, until = scorer.contract, micros(candidate.as_of)
        request, outcome = model.request.source, model.label.outcome
        requests = label_rows(
            model.label,
            read_source(platform, request, known_until_us=until, version=candidate.source_version(request.name)),
            read_source(platform, outcome, known_until_us=until, version=candidate.source_version(outcome.name)),
            candidate.as_of,
        ).mature
        columns = [*(name for name, _ in contract.entity_keys), contract.time, *(item.name for item in contract.inputs)]
        wanted = set(test.keys)
        rows = requests.select(columns)
        inside = [key in wanted for key in encode_table(rows, [*model.entity.keys, model.request.time])]
        rows = rows.filter(pa.array(inside, pa.bool_()))
        materialize_model_views(platform, model, end=candidate.as_of, views=contract_views(platform, contract))
        prepared = Preparer(contract, (-(2**62), 2**62), feature_reader(platform)).prepare(rows)
        scored = dict(zip(prepared.row_keys, scorer.model.scores(prepared.matrix), strict=True))
        return np.array([scored.get(key, np.nan) for key in test.keys], np.float32)


def _subject(model: Model, candidate: Candidate, trained: TrainedModel) -> EvaluationSubject:
    return EvaluationSubject(
        model=model.name,
        candidate=candidate.key,
        as_of=format_utc(candidate.as_of),
        training_set=trained.training_set_digest,
        run_record=trained.run_record_digest,
        artifact=trained.artifact_digest,
    )


def _context(platform: Platform, model: Model, trained: TrainedModel, baseline: BaselineRef | None) -> GateContext:
    record = parse_canonical(platform.objects.get(trained.run_record_digest))
    return GateContext(
        training_base_rate=record["metrics"]["base_rate"],
        seed=seed_of(trained.training_set_digest),
        decision_above=None if model.decision is None else model.decision.above,
        baseline=baseline,
        unavailable={
            attribute.name: platform.settings.unavailable[attribute.name]
            for attribute in model.protected
            if not _available(platform, attribute)
        },
    )


def _available(platform: Platform, attribute: Attribute) -> bool:
    if platform.lake.exists(source_table(attribute.source)):
        return True
    if attribute.name in platform.settings.unavailable:
        return False
    raise SettingsError(
        "A protected attribute has no data here and no reason is written down.",
        field=attribute.name,
        next_step=f'Land {attribute.source.name}, or write [unavailable] {attribute.name} = "why" in settings.toml.',
    )


def attribute_groups(
    platform: Platform, model: Model, as_of: datetime, rows: pa.Table
) -> dict[str, Sequence[str | None]]:
    """Each row's group by protected attribute, as known at a time; joined here and nowhere else."""
    groups: dict[str, Sequence[str | None]] = {}
    until = micros(as_of)
    for attribute in model.protected:
        if not _available(platform, attribute):
            continue
        known = read_source(platform, attribute.source, known_until_us=until)
        known = known.sort_by([(attribute.source.known_column, "ascending")])
        values = known.column(attribute.value_column).cast(pa.string()).to_pylist()
        by_key = dict(zip(encode_table(known, list(model.entity.keys)), values, strict=True))
        groups[attribute.name] = [by_key.get(key) for key in encode_table(rows, list(model.entity.keys))]
    return groups


def _slices(model: Model, test: _TestPart, kept: npt.NDArray[np.int64]) -> pa.Table:
    """The categories of each row, for reports by slice."""
    names = [item.name for item in model.request.columns if item.kind == "category"]
    rows = test.rows.select(names).take(pa.array(kept, pa.int64()))
    leaves = pa.array([test.leaves[row] for row in kept], pa.binary(32))
    return pa.table({"row_leaf": leaves, **{name: rows.column(name) for name in names}})  # names may be none


def _store(platform: Platform, candidate: Candidate, trained: TrainedModel, evaluation: Evaluation) -> EvaluationResult:
    objects = platform.objects
    objects.put(evaluation.table_bytes)
    digest = objects.put(evaluation.to_bytes())
    signature = sshsig.sign(platform.secrets.evaluator(), digest.encode(), NAMESPACE)
    index = platform.registry.candidate_evaluated(
        candidate.model, candidate.key, run_record=trained.run_record_digest, evaluation=digest, signature=signature
    )
    return EvaluationResult(
        candidate.model, candidate.key, digest, index, evaluation.document, evaluation.table, evaluation.verdicts
    )


def _logged(platform: Platform, model: Model, known: CandidateState) -> EvaluationResult:
    document = read_evaluated(platform, model.name, known.key)
    raw = platform.objects.get(document["table"])
    return EvaluationResult(
        model=model.name,
        candidate=known.key,
        digest=str(known.evaluation),
        log_index=int(known.evaluated or 0),
        document=document,
        table=EvaluationTable.from_parquet(raw),
        verdicts=recompute_verdicts(model.spec(), document, raw),
    )


def read_evaluated(platform: Platform, model: str, key: str) -> Mapping[str, Any]:
    """The newest logged evaluation of a candidate: its document.

    Raises:
        NotFound: it was not evaluated.
    """
    known = platform.registry.state().model(model).candidates.get(key)
    if known is None or known.evaluation is None:
        raise NotFound("The candidate was not evaluated.", field="candidate", next_step="Evaluate it first.")
    document: Mapping[str, Any] = parse_canonical(platform.objects.get(known.evaluation))
    return document
