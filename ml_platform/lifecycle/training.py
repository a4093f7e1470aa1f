"""From a requested candidate to a snapshot and a trained model with its run record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.clock import format_utc
from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import Conflict, NotFound
from ml_platform.core.rows import micros
from ml_platform.datasets import (
    Inputs,
    Snapshot,
    SourceInput,
    TrainingSetSpec,
    read_snapshot,
    snapshot_path,
    write_snapshot,
)
from ml_platform.datasets import build_training_set as assemble
from ml_platform.datasets.labels import SPLIT
from ml_platform.datasets.training_spec import TRAIN
from ml_platform.lifecycle.features import training_join
from ml_platform.lifecycle.requesting import Candidate, candidate_path, read_candidate
from ml_platform.lifecycle.sources import read_source
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.profiles import ReferenceProfile
from ml_platform.training import (
    ONNX_PART,
    OnnxModel,
    RunContext,
    RunRecord,
    build,
    capture,
    fit,
    resolve,
    store_artifact,
    training_data,
)

__all__ = [
    "TrainedModel",
    "TrainingSetResult",
    "build_training_set",
    "read_trained",
    "train_candidate",
    "training_spec",
]

TRAINED_FORMAT: Final = "ml-platform/trained/1"
THREADS: Final = 1  # pinned: equal bytes on every machine, whatever its number of cores


@dataclass(frozen=True)
class TrainingSetResult:
    """A stored training set. ``rows`` are all mature rows in it, ``train_rows`` and ``test_rows`` its two parts."""

    model: str
    candidate: str
    digest: str
    path: str
    rows: int
    train_rows: int
    test_rows: int
    positives: int
    left_out: Mapping[str, int] = field(hash=False)
    manifest: Mapping[str, Any] = field(hash=False, repr=False)

    @property
    def immature_rows(self) -> int:
        return int(self.left_out.get("immature", 0))

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "candidate": self.candidate,
            "digest": self.digest,
            "path": self.path,
            "rows": self.rows,
            "train_rows": self.train_rows,
            "test_rows": self.test_rows,
            "positives": self.positives,
            "left_out": dict(self.left_out),
        }


@dataclass(frozen=True)
class TrainedModel:
    """Digests of what a training made; stored as ``trained.json`` of the candidate."""

    model: str
    candidate: str
    artifact_digest: str
    run_record_digest: str
    contract_digest: str
    profile_digest: str
    training_set_digest: str

    format: str = TRAINED_FORMAT

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def training_spec(model: Model) -> TrainingSetSpec:
    """The model's training set as declared."""
    return TrainingSetSpec(label=model.label, features=(model.request, *model.stored_views), split=model.split)


def build_training_set(platform: Platform, model: Model, key: str) -> TrainingSetResult:
    """Assembles and stores the candidate's training set; a rerun gives the same or refuses, changing nothing.

    Raises:
        Conflict: the candidate holds another training set, or was requested for another declaration.
        DataError: see ``datasets.build_training_set``.
    """
    candidate = read_candidate(platform, model.name, key)
    _same_declaration(model, candidate)
    until = micros(candidate.as_of)
    request, outcome = model.request.source, model.label.outcome
    made = assemble(
        training_spec(model),
        rows=read_source(platform, request, known_until_us=until, version=candidate.source_version(request.name)),
        outcomes=read_source(platform, outcome, known_until_us=until, version=candidate.source_version(outcome.name)),
        as_of=candidate.as_of,
        join=training_join(platform, model.request.time, candidate.features),
    )
    snapshot = write_snapshot(
        platform.objects,
        made,
        path=snapshot_path(model.name, key),
        inputs=_inputs(model, candidate),
        seeds=platform.subjects.seeds,
    )
    return _result(platform, model, key, snapshot)


def _same_declaration(model: Model, candidate: Candidate) -> None:
    if model.digest != candidate.spec:
        raise Conflict(
            "The candidate was requested for another declaration of the model.",
            field="spec",
            next_step="Request a new candidate for the declaration as it is now.",
        )


def _inputs(model: Model, candidate: Candidate) -> Inputs:
    # The binding by name, not by path: equal inputs give an equal manifest wherever the root lies.
    sources = {
        name: SourceInput(source["definition"], int(source["table_version"]), f"lake:{source['table']}")
        for name, source in candidate.sources.items()
        if name in {model.request.source.name, model.label.outcome.name}
    }
    return Inputs(sources, {view.reference: candidate.feature_version(view.reference) for view in model.stored_views})


def _result(platform: Platform, model: Model, key: str, snapshot: Snapshot) -> TrainingSetResult:
    table = snapshot.read(platform.objects)
    train = table.filter(pc.equal(table.column(SPLIT), pa.scalar(TRAIN))).num_rows
    manifest = snapshot.manifest
    return TrainingSetResult(
        model=model.name,
        candidate=key,
        digest=snapshot.digest,
        path=snapshot.data_path,
        rows=table.num_rows,
        train_rows=train,
        test_rows=table.num_rows - train,
        positives=int(pc.sum(table.column(model.label.column)).as_py() or 0),
        left_out=manifest["left_out"]["reasons"],
        manifest=manifest,
    )


def train_candidate(platform: Platform, model: Model, key: str) -> TrainedModel:
    """Trains, exports, stores the artifact, the reference profile and the closed run record.

    Raises:
        Conflict: the candidate was trained before and now gives another artifact.
        NotFound: its training set was not built.
    """
    candidate = read_candidate(platform, model.name, key)
    _same_declaration(model, candidate)
    snapshot = read_snapshot(platform.objects, snapshot_path(model.name, key))
    rows = snapshot.read(platform.objects)
    part = rows.filter(pc.equal(rows.column(SPLIT), pa.scalar(TRAIN)))
    contract = build(
        resolve((model.request, *model.stored_views)),
        part,
        entity_keys=[(name, model.request.source.columns[name]) for name in model.entity.keys],
        time=model.request.time,
    )
    run = RunContext(seed=int(snapshot.digest[7:15], 16) >> 1, threads=THREADS)
    data = training_data(contract, part, model.label.column)
    fitted = fit(model.trainer, data, model.decision, run)
    artifact = store_artifact(platform.objects, fitted.artifact.parts)
    scores = OnnxModel(artifact.part(ONNX_PART), THREADS).scores(data.matrix)
    profile = ReferenceProfile.of(part, contract.fields, inputs_digest=snapshot.digest, scores=scores)
    facts = {
        "training_set": _snapshot_facts(snapshot, part.num_rows),
        "contract": contract.digest,
        "seeds": {"trainer": run.seed},
        "metrics": fitted.metrics,
        "artifact": artifact.digest,
        "logs": platform.objects.put(_log(model, snapshot, part, fitted.metrics)),
    }
    return _keep_first(
        platform,
        TrainedModel(
            model=model.name,
            candidate=key,
            artifact_digest=artifact.digest,
            run_record_digest=platform.objects.put(_run_record(platform, model, candidate, facts).to_bytes()),
            contract_digest=contract.digest,
            profile_digest=platform.objects.put(profile.to_bytes()),
            training_set_digest=snapshot.digest,
        ),
    )


def _snapshot_facts(snapshot: Snapshot, train_rows: int) -> dict[str, Any]:
    return {
        "digest": snapshot.digest,
        "manifest": snapshot.manifest_digest,
        "path": snapshot.path,
        "rows": snapshot.rows,
        "train_rows": train_rows,
    }


def _run_record(platform: Platform, model: Model, candidate: Candidate, facts: Mapping[str, Any]) -> RunRecord:
    """The closed record: what was pinned, what the process ran in, and what the run found."""
    environment = capture(threads=THREADS, image_digest=platform.settings.image_digest)
    return RunRecord.of(
        {
            "model": model.name,
            "candidate": candidate.key,
            "as_of": format_utc(candidate.as_of),
            "spec": model.digest,
            "code": dict(candidate.code),
            "sources": {name: dict(source) for name, source in candidate.sources.items()},
            "features": {name: dict(view) for name, view in candidate.features.items()},
            "trainer": model.trainer.spec(),
            "determinism": model.trainer.determinism(),
            **environment.items(),
            **facts,
        }
    )


def _keep_first(platform: Platform, trained: TrainedModel) -> TrainedModel:
    """The first record stands: a rerun in another environment must give the same artifact, and changes nothing."""
    path = candidate_path(trained.model, trained.candidate, "trained")
    if platform.objects.create(path, canonical_json(trained.to_json())):
        return trained
    first = read_trained(platform, trained.model, trained.candidate)
    if first.artifact_digest != trained.artifact_digest:
        raise Conflict(
            "The candidate was trained before and now gives another artifact; nothing was changed.",
            field="artifact",
            next_step="Find what differs with `mlp reproduce`, or request a new candidate.",
        )
    return first


def read_trained(platform: Platform, model: str, key: str) -> TrainedModel:
    """What the training of a candidate made.

    Raises:
        NotFound: it was not trained.
    """
    try:
        document = parse_canonical(platform.objects.read(candidate_path(model, key, "trained")))
    except NotFound as error:
        raise NotFound(
            "The candidate was not trained.", field="candidate", next_step="Train it before it is evaluated."
        ) from error
    return TrainedModel(**document)


def _log(model: Model, snapshot: Snapshot, part: pa.Table, metrics: Mapping[str, Any]) -> bytes:
    """The training's log: counts and metrics, no row values; equal inputs give equal bytes."""
    lines = [
        f"model {model.name}",
        f"training set {snapshot.digest}",
        f"training part {part.num_rows} rows, {metrics['positives']} positive",
        f"trainer {canonical_json(model.trainer.spec()).decode()}",
        f"metrics {canonical_json(dict(metrics)).decode()}",
    ]
    return ("\n".join(lines) + "\n").encode()
