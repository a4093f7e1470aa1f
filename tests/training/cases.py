"""Small data with everything that is hard about it: missing values, categories, unknown ones, zeros, thresholds."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pyarrow as pa

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.fields import category, number
from ml_platform.training.contract import ResolvedInput, build
from ml_platform.training.evaluation_table import EvaluationTable
from ml_platform.training.lightgbm_text import TextModel
from ml_platform.training.trainer import TrainingData, training_data
from ml_platform.training.verdict import GateContext

KEYS = [("loan_id", "int64")]


def table(rows: int = 2_000, seed: int = 0) -> pa.Table:
    """Income and debt decide, purpose too; debt is often missing, ``late`` is mostly zero."""
    random = np.random.default_rng(seed)
    income = (random.normal(size=rows) * 1_000).astype(np.float32)
    debt = random.exponential(size=rows).astype(np.float32)
    purpose = random.integers(0, 40, rows)
    late = np.where(random.random(rows) < 0.6, 0, random.integers(1, 5, rows)).astype(np.float32)
    logit = income / 1_000 + np.isin(purpose, [1, 3, 7, 33]) * 1.5 + 0.3 * late - debt
    label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return pa.table(
        {
            "income": income,
            "debt": pa.array(debt, mask=random.random(rows) < 0.2),
            "purpose": [f"p{code:02d}" for code in purpose],
            "late": late,
            "defaulted": label,
        }
    )


def inputs() -> list[ResolvedInput]:
    return [
        ResolvedInput(number("income"), "application@sha256:00:income", "input", "float64"),
        ResolvedInput(number("debt", nullable=True), "application@sha256:00:debt", "input", "float64"),
        ResolvedInput(category("purpose", on_unknown="flag"), "application@sha256:00:purpose", "input", "string"),
        ResolvedInput(number("late"), "history@sha256:00:late", "stored", "float64"),
    ]


def contract(rows: pa.Table | None = None) -> Contract:
    return build(inputs(), table() if rows is None else rows, entity_keys=KEYS, time="applied_at")


def data(rows: int = 2_000, seed: int = 0) -> TrainingData:
    made = table(rows, seed)
    return training_data(contract(made), made, "defaulted")


def one_number() -> Contract:
    return Contract((), "at", (ResolvedField("x", "v@sha256:00:x", "input", "number", "float64"),))


def adversarial(model: TextModel, matrix: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Rows at thresholds and one float32 beside them, at zero and its neighbours, missing, and unknown categories."""
    random = np.random.default_rng(seed)
    found = matrix[random.integers(0, len(matrix), rows)].copy()
    thresholds: dict[int, list[float]] = {}
    categorical: set[int] = set()
    for tree in model.trees:
        for node, feature in enumerate(tree.features):
            if tree.is_categorical(node):
                categorical.add(feature)
            else:
                thresholds.setdefault(feature, []).append(tree.thresholds[node])
    near_zero = np.array([0.0, -0.0, 1e-35, -1e-35, 1.1e-35, -1.1e-35, 9e-36, -9e-36, 1e-40, -1e-45], np.float32)
    for feature, values in thresholds.items():
        with np.errstate(over="ignore"):
            exact = np.clip(random.choice(values, rows), -3e38, 3e38).astype(np.float32)
        side = random.integers(-1, 2, rows).astype(np.float32)
        beside = np.where(side == 0, exact, np.nextafter(exact, np.where(side < 0, -np.inf, np.inf).astype(np.float32)))
        beside = np.where(random.random(rows) < 0.1, random.choice(near_zero, rows), beside)
        chosen = random.random(rows) < 0.7
        found[chosen, feature] = beside[chosen]
    for feature in categorical:
        codes = random.integers(0, 80, rows)  # beyond what was trained: unknown to every split
        chosen = random.random(rows) < 0.5
        found[chosen, feature] = codes[chosen]
    found[random.random(found.shape) < 0.1] = np.nan
    return found


def leaf(number: int) -> bytes:
    return sha256(str(number).encode()).digest()


def evaluation_table(scores, labels, *, native=None, groups=None, baseline=None) -> EvaluationTable:
    scores = np.asarray(scores, np.float32)
    return EvaluationTable.build(
        [leaf(row) for row in range(len(scores))],
        score=scores,
        native_score=scores.astype(np.float64) if native is None else np.asarray(native, np.float64),
        label=np.asarray(labels),
        groups=groups,
        baseline_score=None if baseline is None else np.asarray(baseline, np.float32),
    )


def calibrated_scores(rows: int, seed: int, rate: float = -2.0, spread: float = 1.0):
    """Scores that are the truth, and labels drawn from them."""
    random = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-(rate + spread * random.normal(size=rows))))
    return scores, (random.random(rows) < scores).astype(int)


def context(**changes) -> GateContext:
    values = {"training_base_rate": 0.15, "seed": 7, "decision_above": 0.5}
    return GateContext(**{**values, **changes})
