"""A trace (``ml-platform/trace/1``) as a person reads it, section by section; ``--json`` has all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ml_platform.cli.blocks import Block, Fields, Line, Section, Table
from ml_platform.cli.documents import gates_table, metrics_table, run_fields, table_versions
from ml_platform.cli.text import NONE, count, duration, moment, number, short, value, yes

__all__ = ["trace_blocks"]

Document = Mapping[str, Any]
_PROOF_STEPS: Final = ("leaf", "segment", "log", "checkpoint")


def trace_blocks(trace: Document) -> list[Block]:
    """All sections of a trace."""
    return [
        *_decision(trace["prediction"], trace["batch"]),
        *_recording(trace["prediction"], trace["recording"], trace["route"]),
        *_features(trace["features"]),
        *_version(trace["version"]),
        *_training_set(trace["training_set"]),
        Section("Definitions"),
        Fields([_definition(name, found) for name, found in trace["feature_definitions"].items()]),
        Section("Run record"),
        Fields(run_fields(trace)),
        Section("Metrics"),
        metrics_table(trace["metrics"]),
        Section("Gates"),
        gates_table(trace["gates"]),
        *_approvals(trace["approvals"], trace["authorship"]),
        *_later(trace["later"]),
        *_proofs(trace["proofs"]),
    ]


def _decision(prediction: Document, batch: Document | None) -> list[Block]:
    fields = [
        ("prediction", prediction["id"]),
        ("decision", f"{prediction['decision'] or 'none, the model only scores'}{_limit(prediction)}"),
        ("about", value(prediction["entity"])),
        ("requested at", moment(prediction["request_time"])),
        ("decided at", f"{moment(prediction['decided_at'])} ({prediction['served']})"),
        ("recorded at", f"{moment(prediction['recorded_at'])}, time asserted by {prediction['time_asserted_by']}"),
        ("decided by", f"{prediction['model']} version {prediction['version']}"),
        ("mode", f"{prediction['mode']}, {prediction['role']}"),
        ("decision of record", yes(prediction["decision_of_record"])),
        ("flags", value(prediction["flags"])),
    ]
    beside = prediction["pair_of"]
    if beside is not None:
        fields.insert(1, ("beside", f"{beside}, the decision that was made"))
    if batch is not None:
        counts = ", ".join(f"{count(batch[name])} {name}" for name in ("accepted", "declined", "flagged", "refused"))
        fields.append(("partition", f"{batch['partition']}, revision {batch['revision']}: {counts}"))
        if batch["already_decided"]:
            fields.append(("left out there", f"{count(batch['already_decided'])} requests that were decided online"))
        fields += [
            ("scored again", f"revision {one['revision']} by version {one['version']}, {value(one['reason'])}")
            for one in batch["scored_again"]
        ]
    reasons = [Line(f"{place}. {reason}") for place, reason in enumerate(prediction["reasons"], start=1)]
    return [
        Section("Decision"),
        Fields(fields),
        Section("Reason codes"),
        *(reasons or [Line(f"none: {'a shadow declines nobody' if beside else 'only adverse decisions have them'}")]),
    ]


def _recording(prediction: Document, recording: Document, route: Document | None) -> list[Block]:
    """How the record came to be: of an online decision also the route, the router and the time that it took."""
    fields = [("state", recording["says"]), ("sealed at", moment(recording["sealed_at"]))]
    if route is not None:
        signed = "signature checked" if route["signature_checked"] else value(route["document"])
        flip = route["flip"]
        fields += [
            ("route", f"{route['digest']}, epoch {route['epoch']} ({signed})"),
            ("entered in the log", NONE if route["log_index"] is None else f"entry {route['log_index']}"),
            ("arm", route["arm"]),
            ("local rollback", NONE if flip is None else f"{flip['digest']} to version {prediction['version']}"),
            ("answered within", duration(prediction["latency_us"])),
            ("writer", f"{prediction['writer']}, record {prediction['seq']}"),
        ]
    return [Section("Record"), Fields(fields)]


def _limit(prediction: Document) -> str:
    limit = prediction["threshold"]
    said = "" if limit is None else f", declined above {number(limit)}"
    return f" (score {number(prediction['score'], 4)}{said})"


def _features(features: Sequence[Document]) -> list[Block]:
    rows = [
        (
            one["name"],
            _feature_value(one["value"]),
            one["origin"],
            duration(one.get("age_us")) if one["origin"] == "stored" else "",
            ", ".join(one["flags"]),
        )
        for one in features
    ]
    return [Section("Features as used"), Table(("feature", "value", "origin", "age", "flags"), rows)]


def _feature_value(found: object) -> str:
    """The shortest decimal of a float32 stays as it is: rounding it would be another value."""
    if found is None:
        return "missing"
    return str(int(found)) if isinstance(found, float) and found.is_integer() else str(found)


def _version(version: Document) -> list[Block]:
    registered = version["registered"]
    moves = [
        (
            str(one["log_index"]),
            moment(one["effective_at"]),
            f"{one['action']}: {one['from']} → {one['to']}",
            one["actor"],
            "before the decision" if one["at_decision"] else "after it",
            value(one["reason"]),
        )
        for one in version["stage_history"]
    ]
    return [
        Section(f"Version {version['number']} and its stages"),
        Fields(
            [
                ("stage at the decision", version["stage_at_decision"]),
                ("as known now", version["stage_at_decision_as_known_now"]),
                ("stage now", version["stage_now"]),
                ("candidate", version["candidate"]),
                ("registered", f"{moment(registered['at'])} by {registered['by']}, entry {registered['log_index']}"),
                ("compared with", "no version" if version["baseline"] is None else f"version {version['baseline']}"),
                ("artifact", version["artifact"]),
                ("declaration", version["spec"]),
            ]
        ),
        Table(("entry", "effective at", "move", "by", "when", "reason"), moves, empty="no move yet"),
    ]


def _training_set(training_set: Document) -> list[Block]:
    if "rows" not in training_set:
        return [Section("Training set"), Fields([(name, value(found)) for name, found in training_set.items()])]
    left_out = ", ".join(f"{count(rows)} {reason}" for reason, rows in training_set["left_out"]["reasons"].items())
    known_times = training_set["label"]["known_times"]
    parts = f"{count(training_set['train_rows'])} to train on, {count(training_set['test_rows'])} to test on"
    checked = "checked: its leaves give it" if training_set["checked"] else "not checked: its leaves are not stored"
    return [
        Section("Training set"),
        Fields(
            [
                ("digest", f"{training_set['digest']} ({checked})"),
                ("as of", moment(training_set["as_of"])),
                ("rows", f"{count(training_set['rows'])}: {parts}"),
                ("left out as immature", count(training_set["immature_rows"])),
                ("left out, all reasons", left_out or "none"),
                ("label", _label(training_set["label"])),
                *((f"known time of {name}", value(found)) for name, found in known_times.items()),
                ("source tables", table_versions(training_set["sources"])),
                ("stored features", table_versions(training_set["features"])),
                ("stored at", training_set["path"]),
            ]
        ),
    ]


def _label(label: Document) -> str:
    return f"{label['column']}: {label['kind']}, horizon {label['horizon']}, lag {label['lag']}"


def _definition(reference: str, found: Document) -> tuple[str, str]:
    return f"{found['kind'].replace('_', ' ')} {found['name']}", reference.rpartition("@")[2]


def _approvals(approvals: Sequence[Document], authorship: Document) -> list[Block]:
    blocks: list[Block] = [
        Section(f"Approvals: {len(approvals) or 'none'}"),
        Fields([("authors", f"{authorship['says']}: {value(authorship['principals'])}")]),
    ]
    for one in approvals:
        blocks += [Section(f"Approval of {one['from']} → {one['to']} by {one['principal']}"), _approval(one)]
    return blocks


def _approval(one: Document) -> Fields:
    accepted = one["decisions"]
    if not isinstance(accepted, Mapping):
        accepted = "; ".join(f"{item['gate']} ({item['verdict']}): {item['reason']}" for item in accepted)
    return Fields(
        [
            ("entry", f"{one['log_index']}, recorded at {moment(one['recorded_at'])}"),
            ("reason", value(one["reason"])),
            ("accepted gates", value(accepted or None)),
            ("signature", f"{'checked' if one['signature_checked'] else 'not checked'}, key {one['key']}"),
            ("used by entry", value(one["used_by"])),
            *([("withdrawn by entry", value(one["revoked_by"]))] if one["revoked_by"] is not None else []),
        ]
    )


def _later(later: Sequence[Document]) -> list[Block]:
    rows = [
        (
            str(one["log_index"]),
            moment(one["effective_at"]),
            one["event"],
            str(one.get("actor") or one.get("principal") or NONE),
        )
        for one in later
    ]
    return [
        Section("What happened to the version after the decision"),
        Table(("entry", "effective at", "event", "who"), rows, empty="nothing"),
    ]


def _proofs(proofs: Document) -> list[Block]:
    rows = [(step, "checked" if proofs[step]["checked"] else "not yet", proofs[step]["says"]) for step in _PROOF_STEPS]
    leaf = [("leaf", short(str(proofs["leaf"]["hash"]), 64)), ("segment", proofs["segment"]["id"] or NONE)]
    return [Section(f"Proofs: {proofs['status']}"), Fields(leaf), Table(("step", "state", "what was shown"), rows)]
