"""How stored documents read: stage history, run record, evaluation, gates. Pure views, used by `show` and `trace`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ml_platform.cli.blocks import Block, Fields, Line, Section, Table
from ml_platform.cli.text import NONE, count, estimate, moment, number, value

__all__ = [
    "candidate_blocks",
    "evaluation_blocks",
    "gates_table",
    "history_table",
    "metrics_table",
    "run_fields",
    "run_record_blocks",
    "table_versions",
]

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
_SHOWN_PACKAGES: Final = (
    "dagster-ml-platform",
    "lightgbm",
    "numpy",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "duckdb",
    "deltalake",
)


def history_table(history: Sequence[Mapping[str, Any]]) -> Table:
    """The stages that a version went through."""
    return Table(
        ("entry", "effective at", "move", "by"),
        [
            (str(move["index"]), moment(move["at"]), f"{move['action']}: {move['from']} → {move['to']}", move["actor"])
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
            (one["gate"], one["verdict"], estimate(one["metric"]), number(one["threshold"]), one["reason"])
            for one in verdicts
        ],
        empty="no gates",
    )


def _groups_blocks(groups: Mapping[str, Any]) -> list[Block]:
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
        *_groups_blocks(evaluation.get("groups", {})),
        Section("Gates"),
        gates_table(evaluation["verdicts"]),
    ]


def candidate_blocks(found: Mapping[str, Any]) -> list[Block]:
    """A candidate: its request, its training set, its evaluation, as far as it got."""
    request, rows, evaluation = found["request"], found["training_set"], found["evaluation"]
    blocks: list[Block] = [
        Section(f"{found['model']} candidate {found['candidate']}"),
        Fields(
            [
                ("version", "none" if found["version"] is None else str(found["version"])),
                ("as of", moment(request["as_of"])),
                ("requested by", f"{request['requested_by']}, entry {found['log_index']}"),
                ("declaration", request["spec"]),
                ("source tables", table_versions(request["sources"])),
                ("stored features", table_versions(request["features"])),
                ("commit", value(request["code"].get("commit"))),
                ("code tree", value(request["code"].get("tree"))),
                ("lock file", value(request["lock"])),
            ]
        ),
        Section("Training set"),
        Line("not built yet: the same `mlp train` continues") if rows is None else _rows_fields(rows),
    ]
    if evaluation is None:
        return [*blocks, Section("Evaluation"), Line("not evaluated yet: the same `mlp train` continues")]
    return [*blocks, *evaluation_blocks(evaluation)]


def _rows_fields(rows: Mapping[str, Any]) -> Fields:
    left_out = ", ".join(f"{count(left)} {reason}" for reason, left in rows["left_out"].items())
    parts = f"{count(rows['train_rows'])} to train on, {count(rows['test_rows'])} to test on"
    return Fields(
        [
            ("digest", rows["digest"]),
            ("rows", f"{count(rows['rows'])}: {parts}"),
            ("left out", left_out or "none"),
            ("stored at", rows["path"]),
        ]
    )


def run_record_blocks(record: Mapping[str, Any]) -> list[Block]:
    """A run record: what could make a second run differ; all packages are in ``--json``."""
    return [
        Section("Run record"),
        Fields(
            [
                ("as of", moment(record["as_of"])),
                ("training set", value(record["training_set"])),
                ("source tables", table_versions(record["sources"])),
                ("stored features", table_versions(record["features"])),
                *run_fields({**record, "hyperparameters": record["trainer"]}),
                ("artifact", value(record["artifact"])),
            ]
        ),
    ]


def run_fields(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Code, image, packages, hardware, hyperparameters, as run record and trace both have them."""
    code, packages = run["code"], run["packages"]
    shown = {name: packages[name] for name in _SHOWN_PACKAGES if name in packages}
    return [
        ("commit", value(code.get("commit"))),
        ("branch", value(code.get("branch"))),
        ("uncommitted changes", value(code.get("dirty"))),
        ("code tree", value(code.get("tree"))),
        *([("lock file", value(run["lock"]))] if "lock" in run else []),
        ("image", value(run["image"])),
        ("packages", f"{value(shown)}, and {len(packages) - len(shown)} more"),
        ("runtime", value(run["runtime"])),
        ("hardware", value(run["hardware"])),
        ("hyperparameters", value(run["hyperparameters"])),
        ("seeds", value(run["seeds"])),
        ("determinism", value(run["determinism"])),
        ("log of the run", value(run["logs"])),
    ]


def table_versions(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """``name version n`` for every table that was pinned."""
    pinned = (f"{name.partition('@')[0]} version {value(found.get('table_version'))}" for name, found in tables.items())
    return ", ".join(pinned) or NONE
