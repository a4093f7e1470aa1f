"""What `mlp demo` found, as a person reads it; ``--json`` has all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ml_platform.cli.blocks import Block, Fields, Line, Section, Table
from ml_platform.cli.text import NONE, count, estimate, moment, number, short, value
from ml_platform.cli.trace_view import trace_blocks

__all__ = ["demo_blocks"]


def demo_blocks(found: Mapping[str, Any]) -> list[Block]:
    """Versions, refused candidates, decisions by month, the loop, the trace of a declined loan, the audit log."""
    predictions, audit = found["predictions"], found["audit"]
    total = ", ".join(f"{count(predictions[name])} {name}" for name in ("online", "batch", "flagged", "refused"))
    return [
        Section(f"{found['model']}: versions"),
        Table(
            ("version", "as of", "rows", "left out as immature", "AUC", "AUC, next half-year", "training set"),
            [_version(one) for one in found["versions"]],
        ),
        Section("Candidates that were refused"),
        Table(("candidate", "refused", "why"), [_refused(one) for one in found["refused_candidates"]]),
        Section(f"Decisions: {total}"),
        *_months(predictions.get("months", ())),
        *_loop(found),
        *trace_blocks(found["trace"]),
        Section("A loan that was declined online"),
        Line(f"`mlp trace {found['trace_online']['prediction']['id']} --root {found['root']}` shows it the same way."),
        Section("Audit log"),
        Fields([(name, value(shown)) for name, shown in audit.items() if shown != []]),
        Line(f"Done in {number(float(found['seconds']), 1)} s. `mlp dev --root {found['root']}` shows it in Dagster."),
    ]


def _loop(found: Mapping[str, Any]) -> list[Block]:
    """Drift, alerts, the retrain, and what the second version went through."""
    moved = sorted(found["drift"].items(), key=lambda item: -float(item[1]["psi"]))[:5]
    retrain, shadow = found["retrain"] or {}, found["shadow"]
    facts = [
        ("retrain", f"{retrain.get('request', NONE)}, useful from {str(retrain.get('useful_from'))[:10]}"),
        ("asked and decided by", f"{retrain.get('requested_by', NONE)}, {retrain.get('decided_by', NONE)}"),
        ("became", f"version {retrain.get('version', NONE)}, candidate {retrain.get('run', NONE)}"),
        (
            "shadow",
            f"{count(shadow['pairs'])} pairs, {estimate(shadow['disagreement'])} of them decided otherwise",
        ),
        ("rollback under load", f"{number(float(found['rollback_ms']), 1)} ms from the flip to the last answer"),
        ("requests that failed", count(found["failed_requests"])),
    ]
    return [
        Section("Drift, the five features furthest from training"),
        Table(
            ("feature", "PSI", "month", "alert"),
            [(name, number(one["psi"]), str(one["window"]), one["severity"] or NONE) for name, one in moved],
        ),
        Section("The loop"),
        Fields(facts),
    ]


def _version(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"v{one['version']}",
        moment(one["as_of"]),
        count(one["training_rows"]),
        count(one["immature_rows"]),
        estimate(one["auc"]),
        estimate(one["auc_next_half_year"]),
        short(one["training_set_digest"]),
    )


def _refused(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(one["name"]), str(one["refused"]), str(one["reason"])


def _months(months: Sequence[Mapping[str, Any]]) -> list[Block]:
    rows = [
        (
            str(one["month"]),
            f"v{one['version']}",
            *(count(one[name]) for name in ("accepted", "declined", "flagged", "refused")),
            number(one["psi_term"]),
        )
        for one in months
    ]
    headers = ("month", "by", "accepted", "declined", "flagged", "refused", "PSI of term")
    return [Table(headers, rows)] if rows else []
