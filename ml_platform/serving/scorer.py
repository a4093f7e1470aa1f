"""A version ready to score: contract, ONNX, decision and reasons, each from stored bytes checked by digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ml_platform.core.contract import Contract
from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.core.objects import ObjectStore
from ml_platform.serving.building import Decided
from ml_platform.serving.preparing import TextLists
from ml_platform.training.artifact import ONNX_PART, Artifact, load_artifact
from ml_platform.training.decision import APPROVED, DECLINED, Decline
from ml_platform.training.lightgbm import NATIVE_PART, contributions
from ml_platform.training.onnxruntime import OnnxModel
from ml_platform.training.reasons import reason_codes

__all__ = ["Scorer"]


@dataclass(frozen=True)
class Scorer:
    """Scores by ONNX in every mode; reasons by the native model, for declined rows only (DECISIONS 31).

    Args:
        native: the native model's bytes; None where reasons are switched off.
    """

    artifact_digest: str
    contract: Contract
    model: OnnxModel
    decision: Decline | None
    native: bytes | None

    @classmethod
    def load(cls, objects: ObjectStore, artifact_digest: str, *, threads: int = 1, reasons: bool = True) -> Self:
        """The scorer of a stored artifact.

        Raises:
            NotFound: there is no such artifact.
            ArtifactCorrupt: a byte is not what the digest says; nothing is loaded.
            DeclarationError: the version declines people and cannot say why.
        """
        return cls.of(load_artifact(objects, artifact_digest), threads=threads, reasons=reasons)

    @classmethod
    def of(cls, artifact: Artifact, *, threads: int = 1, reasons: bool = True) -> Self:
        """The scorer of a loaded artifact; see ``load``."""
        decision, contract = artifact.decision, artifact.contract
        wanted = decision is not None and reasons
        native = artifact.parts.get(NATIVE_PART) if wanted else None
        if wanted and native is None:
            raise DeclarationError(
                "The version declines, and its kind of model cannot give reasons.",
                field="trainer",
                next_step="Use a trainer that explains its scores, such as LightGBM.",
            )
        if [output.shape for output in contract.outputs] != [()]:
            raise DeclarationError(
                "The version has other outputs than one score.",
                field="outputs",
                next_step="Batch scoring knows one float32 score a row.",
            )
        return cls(artifact.digest, contract, OnnxModel(artifact.part(ONNX_PART), threads), decision, native)

    def warm(self) -> None:
        """Scores and explains a row of nothing, so that the first request does not pay for loading libraries."""
        nothing = np.full((1, len(self.contract.fields)), np.nan, np.float32)
        self.model.scores(nothing)
        if self.native is not None and self.decision is not None:
            self._reasons(nothing, np.zeros(1, np.int64), self.decision)

    def decide(self, matrix: npt.NDArray[np.float32]) -> Decided:
        """Score, decision and reasons of each row of an encoded matrix [n, f]; the same for a row in any company.

        Raises:
            DataError: a score is not a finite number.
        """
        return self.judge(matrix, self.model.scores(matrix))

    def judge(self, matrix: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> Decided:
        """Decision and reasons of rows whose scores are known.

        Raises:
            DataError: a score is not a finite number.
        """
        if not np.isfinite(scores).all():
            raise DataError(
                "A score is not a finite number.", field="score", next_step="Take the version out of service."
            )
        outputs = {self.contract.outputs[0].name: scores}
        if self.decision is None:
            return Decided(outputs, np.zeros(len(scores), np.int64), (None,), TextLists.of(len(scores), {}))
        declined = self.decision.declined(scores)
        reasons = self._reasons(matrix, np.flatnonzero(declined), self.decision)
        return Decided(outputs, declined.astype(np.int64), (APPROVED, DECLINED), reasons)

    def _reasons(
        self, matrix: npt.NDArray[np.float32], declined: npt.NDArray[np.int64], decision: Decline
    ) -> TextLists:
        if self.native is None or not len(declined):
            return TextLists.of(len(matrix), {})
        given = contributions(self.native, matrix[declined])
        codes = reason_codes(given, self.contract.names, decision.reasons)
        return TextLists.of(len(matrix), dict(zip(declined.tolist(), codes, strict=True)))
