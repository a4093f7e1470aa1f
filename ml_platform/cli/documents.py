"""How stored documents read: stage history, run record, evaluation, gates. Pure views, used by `show` and `trace`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ml_platform.cli.blocks import Block, Fields, Section, Table
from ml_platform.cli.text import NONE, count, estimate, moment, number, printable, short, value

__all__ = ["evaluation_blocks", "gates_table", "groups_blocks", "history_table", "metrics_table", "run_record_blocks"]

_METRICS: Final = {
    "auc": "AUC",
    "brier_skill": "Brier skill over the training base rate",
    "ece": "calibration error, equal-mass bins",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "positive_rate": "positive rate",
    "approval_rate": "approval rate",
    "largest_onnx_difference": "largest difference ONNX – native",
}
_SHOWN_PACKAGES: Final = ("dagster-ml-platform", "lightgbm", "numpy", "onnx", "onnxruntime", "pyarrow", "duckdb", "deltalake")


def history_table(history: Sequence[Mapping[str, Any]]) -> Table:
    """The stages that a version went through."""
    return Table(
        ("entry", "effective at", "move", "by"),
        [
            (
                str(move.get("index", NONE)),
                moment(move.get("at") or move.get("effective_at")),
                f"{move.get('action', '')}: {move.get('from', NONE)} → {move.get('to', NONE)}",
                str(move.get("actor", NONE)),
            )
            for move in history
        ],
        empty="no move yet",
    )


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Every metric with its 95 % interval."""
    return Table(
        ("metric", "value [95 % interval]"),
        [(_METRICS.get(name, name), estimate(found)) for name, found in metrics.items()],
        empty="no metrics",
    )


def gates_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Every gate with its verdict and the number that it was held against."""
    return Table(
        ("gate", "verdict", "measured", "threshold", "why"),
        [
            (
                str(one.get("gate")),
                str(one.get("verdict")),
                estimate(one.get("metric")),
                number(one.get("threshold")),
                printable(one.get("reason", NONE)),
            )
            for one in verdicts
        ],
        empty="no gates",
    )


def groups_blocks(groups: Mapping[str, Any]) -> list[Block]:
    """Approval rates by protected attribute, with the ratio to the best-off group."""
    blocks: list[Block] = []
    for attribute, found in groups.items():
        rows = [
            (
                str(one["group"]),
                count(one["rows"]),
                estimate(one["approval_rate"]),
                estimate(one.get("approval_ratio")),
                "" if one["gated"] else "reported, not gated: under 100 rows",
            )
            for one in found.get("groups", [])
        ]
        headers = (attribute, "rows", "approval rate", "ratio to the best-off", "remark")
        blocks.append(Table(headers, rows, empty=f"{attribute}: {value(found)}"))
    return blocks


def evaluation_blocks(evaluation: Mapping[str, Any]) -> list[Block]:
    """An evaluation: rows, metrics, groups, comparison with production, gates."""
    baseline = evaluation.get("baseline")
    compared = "no version was in production"
    if baseline is not None:
        compared = (
            f"version {baseline['version']}, AUC difference {estimate(baseline['auc_difference'])} "
            f"on {count(baseline['rows'])} common rows (coverage {number(baseline['coverage'], 2)})"
        )
    return [
        Section("Evaluation"),
        Fields(
            [
                ("test rows", f"{count(evaluation['rows'])}, {count(evaluation['positives'])} positive"),
                ("refused by the contract", value(evaluation.get("refused") or None)),
                ("compared with", compared),
            ]
        ),
        metrics_table(evaluation["metrics"]),
        *groups_blocks(evaluation.get("groups", {})),
        Section("Gates"),
        gates_table(evaluation["verdicts"]),
    ]


def run_record_blocks(record: Mapping[str, Any]) -> list[Block]:
    """A run record: what could make a second run differ; all packages are in ``--json``."""
    code, training_set = record.get("code", {}), record.get("training_set", {})
    packages = record.get("packages", {})
    shown = {name: packages[name] for name in _SHOWN_PACKAGES if name in packages}
    more = len(packages) - len(shown)
    return [
        Section("Run record"),
        Fields(
            [
                ("as of", moment(record.get("as_of"))),
                ("commit", value(code.get("commit"))),
                ("branch", value(code.get("branch"))),
                ("uncommitted changes", value(code.get("dirty"))),
                ("code tree", value(code.get("tree"))),
                ("image", value(record.get("image"))),
                ("training set", value(training_set)),
                ("sources", _versions(record.get("sources", {}))),
                ("stored features", _versions(record.get("features", {}))),
                ("trainer", value(record.get("trainer"))),
                ("seeds", value(record.get("seeds"))),
                ("determinism", value(record.get("determinism"))),
                ("hardware", value(record.get("hardware"))),
                ("runtime", value(record.get("runtime"))),
                ("packages", f"{value(shown)}{f', and {more} more' if more > 0 else ''}"),
                ("artifact", value(record.get("artifact"))),
                ("logs", value(record.get("logs"))),
            ]
        ),
    ]


def _versions(tables: Mapping[str, Any]) -> str:
    return (
        ", ".join(
            f"{name.partition('@')[0]} version {found['table_version']}"
            if isinstance(found, Mapping) and "table_version" in found
            else f"{short(name)}={value(found)}"
            for name, found in tables.items()
        )
        or NONE
    )
