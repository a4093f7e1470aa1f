"""What a trainer is: parameters, rows to a model's bytes, bytes to scores, bytes to ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.core.contract import Contract
from ml_platform.core.errors import ContractViolation, DeclarationError, LabelError, NotEnoughData
from ml_platform.training.contract import prepare

__all__ = ["Explains", "Matrix", "RunContext", "Scores", "Trainer", "TrainingData", "training_data"]

Matrix = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
_LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class RunContext:
    """What a run pins so that it can be repeated: the seed (0 … 2^31 − 1) and the number of threads."""

    seed: int
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise DeclarationError("The seed is out of range.", field="seed", next_step="Use 0 to 2^31 − 1.")
        if self.threads < 1:
            raise DeclarationError("A run needs a thread.", field="threads", next_step="Use 1 or more.")


@dataclass(frozen=True)
class TrainingData:
    """The training part as the model sees it.

    Attributes:
        matrix: float32 [n, f], contract order, missing is NaN.
        labels: float64 [n], 0 or 1.
        contract: names, kinds and categories of the columns.
    """

    matrix: Matrix
    labels: Scores
    contract: Contract

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self.contract.names

    @property
    def category_indices(self) -> tuple[int, ...]:
        """Columns that hold category codes."""
        return tuple(place for place, item in enumerate(self.contract.fields) if item.kind == "category")

    @property
    def base_rate(self) -> float:
        """The share of positives."""
        return float(np.count_nonzero(self.labels)) / self.labels.size


def training_data(contract: Contract, training_part: pa.Table, label: str) -> TrainingData:
    """The training part, checked by the same contract that will check requests.

    Raises:
        ContractViolation: a row breaks the contract; names fields, rules and counts.
        NotEnoughData: no rows, or one class only; names rows and positives.
        LabelError: labels that are missing or not binary.
    """
    prepared = prepare(contract, training_part)
    refused = prepared.refused_by_rule()
    if refused:
        raise ContractViolation(
            f"Training rows break the contract: {', '.join(f'{rule} {count}' for rule, count in refused.items())}.",
            field=next(iter(refused)).split(":")[0],
            next_step="Declare the field as it is (nullable, range, categories, policy), or mend the source.",
        )
    return TrainingData(prepared.matrix, _labels(training_part.column(label), label), contract)


def _labels(column: pa.ChunkedArray[Any], label: str) -> Scores:
    if column.null_count:
        raise LabelError("A label is missing.", field=label, next_step="Train on mature rows only.")
    labels = np.asarray(column.to_numpy(), np.float64)
    if not np.isin(labels, (0.0, 1.0)).all():
        raise LabelError("A label is neither 0 nor 1.", field=label, next_step="Use a binary label.")
    positives = int(np.count_nonzero(labels))
    if positives in {0, labels.size}:
        raise NotEnoughData(
            f"The training part has one class only: {labels.size} rows, {positives} positives.",
            field=label,
            next_step="Wait until more labels are mature, or choose a later as-of time.",
        )
    return labels


class Trainer(Protocol):
    """How a kind of model is made. Frozen, validated when built; three methods that matter.

    ``native`` is the model's bytes in its own format: they are stored as they are, so they must not depend on paths,
    times or, on one machine, on the number of threads.
    """

    @property
    def native_part(self) -> str:
        """The name of the native bytes within the artifact."""
        ...

    def spec(self) -> dict[str, object]:
        """The canonical form: everything that changes the model, nothing else."""
        ...

    def determinism(self) -> dict[str, object]:
        """What the run record says about repeatability; ``guarantee`` is ``bit_identical`` or ``none``."""
        ...

    def fit(self, data: TrainingData, run: RunContext) -> bytes:
        """Trains; returns the native model."""
        ...

    def predict(self, native: bytes, matrix: Matrix) -> Scores:
        """Scores float64 [n] by the native model: probabilities of the label being 1."""
        ...

    def to_onnx(self, native: bytes, contract: Contract) -> bytes:
        """ONNX with input ``features`` float32 [n, f] and output ``score`` float32 [n, 1]."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A trainer whose models say what each feature contributed to a score."""

    def contributions(self, native: bytes, matrix: Matrix) -> Scores:
        """float64 [n, f + 1]: one column a feature, the last the baseline; a row sums to its raw score."""
        ...
