"""``trace``: one decision, from the applicant's answer back to everything that led to it, each proof checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import pyarrow.compute as pc

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import ApprovalInvalid, ArtifactCorrupt, NotFound, Tampered
from ml_platform.core.ids import id_bytes, id_time
from ml_platform.governance.contracts import KnownContracts
from ml_platform.governance.deciding import (
    Recorded,
    batch_section,
    features_section,
    prediction_section,
    recording_section,
)
from ml_platform.governance.entities import decided_until, find_decisions, find_refusals
from ml_platform.governance.lineage import VersionEvidence
from ml_platform.governance.parts import Parts
from ml_platform.governance.people import (
    Instant,
    approvals_of,
    authorship_of,
    later_events,
    stage_at,
    stage_history,
)
from ml_platform.governance.proving import RecordProof, UnsealedProof, prove_record, prove_unsealed
from ml_platform.governance.reading import optional_text, readable
from ml_platform.governance.routing import route_section
from ml_platform.registry import State, VersionState
from ml_platform.registry.candidates import EVALUATION_NAMESPACE
from ml_platform.registry.sshsig import verify
from ml_platform.serving import FoundRecord, RecordReader
from ml_platform.serving.online_tables import ONLINE_PARTITION
from ml_platform.serving.tables import SEGMENTS
from ml_platform.serving.unsealed import UnsealedRecord, UnsealedRecords
from ml_platform.serving.wal import WAL_FOLDER
from ml_platform.training import Artifact, load_artifact

__all__ = ["TRACE_FORMAT", "Trace", "trace", "trace_entity"]

TRACE_FORMAT: Final = "ml-platform/trace/1"
_AT_REQUEST_TIME: Final = "Give --at with the request's time to see whether its row was refused."
_OTHER_TIME: Final = "No row of it with that very request time was refused either."


@dataclass(frozen=True)
class Trace:
    """The answer about one decision (``ml-platform/trace/1``).

    Every digest, path and signature in it was verified when it was made: a trace that does not hold is not returned.
    """

    document: Mapping[str, Any] = field(hash=False)

    @property
    def prediction_id(self) -> str:
        return str(self.document["prediction"]["id"])

    @property
    def proven(self) -> bool:
        """Whether the record is under a signed checkpoint; False: recorded, not yet proven."""
        return bool(self.document["proofs"]["checked"])

    def to_json(self) -> dict[str, Any]:
        return dict(self.document)


def trace(parts: Parts, prediction_id: str) -> Trace:
    """The trace of a decision.

    Args:
        parts: the root.
        prediction_id: the 36 characters of its id.

    Raises:
        NotFound: no such decision (the message says what is kept), or a document that it names is gone.
        Tampered: names what is not what was recorded, sealed or signed.
    """
    return _trace(parts, _find(parts, prediction_id))


def _trace(parts: Parts, found: FoundRecord | UnsealedRecord) -> Trace:
    artifact, state = _artifact(parts, found), parts.registry.state()
    proof = _proof(parts, found, artifact)
    version = _deciding_version(state, found, artifact)
    contract, lineage = artifact.contract, VersionEvidence.load(parts, version)
    when, model = Instant.of(found.header), state.model(version.model)
    return Trace(
        {
            "format": TRACE_FORMAT,
            "prediction": readable("the record", lambda: prediction_section(found, contract, artifact.decision)),
            "features": readable("the record", lambda: features_section(found, contract)),
            "recording": recording_section(parts, found, None if proof.sealing is None else proof.sealing.index),
            "route": route_section(parts, state, found.header),
            "batch": batch_section(parts, found),
            "version": _version(parts, version, found),
            "training_set": lineage.training_set(parts.objects),
            "feature_definitions": dict(lineage.definitions),
            **_run(lineage),
            "metrics": lineage.evaluation["metrics"],
            "gates": _gates(parts, state, version, lineage),
            "approvals": approvals_of(parts, model, version),
            "authorship": authorship_of(state, version),
            "proofs": proof.to_json(),
            "later": later_events(parts, state, model, version, when),
        }
    )


def trace_entity(parts: Parts, model: str, keys: Mapping[str, object], at: datetime | None = None) -> Trace:
    """The trace of the decision of record about an entity that was in force at a time (the last one, without a time).

    What a shadow would have decided is no decision: it is traced by its id.

    Args:
        parts: the root.
        model: whose decision.
        keys: the entity's keys by name; values may be texts.
        at: aware; decisions up to this instant. Where there is none, a row with this request time that was refused
            is named with field and rule.

    Raises:
        NotFound: there is no such decision; says how many there are at other times, or why the row was refused.
        Tampered: as ``trace``.
    """
    known = find_decisions(parts, model, keys)
    newest_first = decided_until(known, at)
    if newest_first:
        return _trace(parts, _in_force(parts, newest_first))
    if known:
        raise NotFound(
            f"There was no decision yet; {len(known)} were made later.",
            field="at",
            next_step=f"The first was decided at {format_utc(id_time(id_bytes(known[0])))}.",
        )
    refused = find_refusals(parts, model, keys, at) if at is not None else []
    if refused:
        said = ", ".join(f"{one['field']} {one['rule']} ({one['kind']})" for one in refused)
        raise NotFound(
            f"The row was refused by {_refused_by(refused[0])}: {said}.",
            field=refused[0]["field"],
            next_step="Mend the delivery; a refused row gets no decision, and its values are not kept.",
        )
    raise NotFound(
        "No decision about this entity is kept here.",
        field="entity",
        next_step=f"Check the keys. {_kept(parts)} {_AT_REQUEST_TIME if at is None else _OTHER_TIME}",
    )


def _in_force(parts: Parts, newest_first: Sequence[str]) -> FoundRecord | UnsealedRecord:
    """The newest decision of record; where none is of record, the newest record."""
    found = (_find(parts, one) for one in newest_first)
    of_record = (one for one in found if one.header["decision_of_record"])
    return next(of_record, None) or _find(parts, newest_first[0])


def _find(parts: Parts, prediction_id: str) -> FoundRecord | UnsealedRecord:
    """In the tables; else in the write-ahead logs; else in the tables again: it may have been sealed meanwhile."""
    reader = RecordReader(parts.lake, parts.objects)

    def sealed() -> FoundRecord:
        return readable("the tables of predictions", lambda: reader.find(prediction_id))

    try:
        return sealed()
    except NotFound as error:
        unsealed = UnsealedRecords(parts.root / WAL_FOLDER, KnownContracts(parts)).find(id_bytes(prediction_id))
        if unsealed is not None:
            return unsealed
        try:
            return sealed()
        except NotFound:
            raise NotFound(error.what, field=error.field, next_step=f"{error.next_step} {_kept(parts)}") from error


def _proof(parts: Parts, found: FoundRecord | UnsealedRecord, artifact: Artifact) -> RecordProof | UnsealedProof:
    if isinstance(found, UnsealedRecord):
        return prove_unsealed(found)
    return prove_record(parts, found, artifact.contract)


def _refused_by(refusal: Mapping[str, Any]) -> str:
    version = "the router" if refusal["version"] is None else f"version {refusal['version']}"
    return f"{version} online" if refusal["partition"] == ONLINE_PARTITION else f"{version} in {refusal['partition']}"


def _kept(parts: Parts) -> str:
    """What is kept, in a sentence: how many decisions, from when to when."""
    if not parts.lake.exists(SEGMENTS):
        return "No decisions are kept here."
    kept = parts.lake.read(SEGMENTS, columns=["min_id", "max_id", "size"])
    first, last, size = (
        pc.min(kept.column("min_id")).as_py(),
        pc.max(kept.column("max_id")).as_py(),
        pc.sum(kept.column("size")).as_py(),
    )
    if first is None:
        return "No decisions are kept here."
    start, end = (format_utc(id_time(id_bytes(one)))[:19] + "Z" for one in (first, last))
    return f"Kept are {size} decisions, decided from {start} to {end}."


def _artifact(parts: Parts, found: Recorded) -> Artifact:
    try:
        return load_artifact(parts.objects, found.header["artifact_digest"])
    except ArtifactCorrupt as error:
        raise Tampered(error.what, field="artifact", next_step=error.next_step) from error


def _deciding_version(state: State, found: Recorded, artifact: Artifact) -> VersionState:
    """The version that the record names, if record, artifact and log agree about it."""
    header = found.header
    version = state.version(header["model"], header["version"])
    named = {
        "artifact_digest": (header["artifact_digest"], version.digests.artifact),
        "contract_digest": (header["contract_digest"], artifact.contract.digest),
        "contract": (artifact.contract.digest, version.digests.contract),
    }
    for name, (one, other) in named.items():
        if one != other:
            raise Tampered(
                f"Record, artifact and log do not name the same {name} of version {version.number}.",
                field=name,
                next_step="Restore the table of predictions, the artifact or the registry from a backup.",
            )
    return version


def _version(parts: Parts, version: VersionState, found: Recorded) -> dict[str, Any]:
    entry = parts.registry.entry(version.registered)
    when = Instant.of(found.header)
    return {
        "number": version.number,
        "candidate": version.candidate,
        "risk_class": version.risk_class,
        "registered": {"log_index": entry.index, "at": entry.recorded_at, "by": entry.body["registered_by"]},
        "baseline": version.baseline,
        "stage_at_decision": stage_at(version, when.decided_at, when.recorded_at),
        "stage_at_decision_as_known_now": stage_at(version, when.decided_at),
        "stage_now": version.stage,
        "stage_history": stage_history(parts, version, when),
        "spec": version.digests.spec,
        "artifact": version.digests.artifact,
        "contract": version.digests.contract,
        "run_record": version.digests.run_record,
        "evaluation": version.digests.evaluation,
    }


def _run(lineage: VersionEvidence) -> dict[str, Any]:
    record = lineage.record
    return {
        "code": record["code"],
        "lock": {"absent": "The request is not stored any more."}
        if lineage.request is None
        else lineage.request["lock"],
        "image": record["image"],
        "packages": record["packages"],
        "runtime": record["runtime"],
        "hardware": record["hardware"],
        "hyperparameters": record["trainer"],
        "seeds": record["seeds"],
        "determinism": record["determinism"],
        "training_metrics": record["metrics"],
        "logs": record["logs"],
    }


def _gates(parts: Parts, state: State, version: VersionState, lineage: VersionEvidence) -> list[dict[str, Any]]:
    """The verdicts, which the registry recomputed from the evaluation table when it wrote them."""
    candidate = state.model(version.model).candidates[version.candidate]
    verdicts = [dict(one) for one in lineage.evaluation["verdicts"]]
    if [(one["gate"], one["verdict"]) for one in verdicts] != list(candidate.verdicts):
        raise Tampered(
            "The evaluation names other verdicts than the log.",
            field="verdicts",
            next_step="Restore the evaluation from a backup.",
        )
    signed = optional_text(parts.objects, version.digests.evaluation_signature)
    key = state.genesis.evaluator_key if state.genesis else ""
    try:
        verify(version.digests.evaluation.encode(), str(signed), EVALUATION_NAMESPACE, key)
    except ApprovalInvalid as error:
        raise Tampered(
            "The evaluation is not signed by the evaluator.", field="evaluation", next_step=error.next_step
        ) from error
    return verdicts
