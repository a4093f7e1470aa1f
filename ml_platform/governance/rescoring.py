"""The deep check of records: the version's own model, given the recorded features, gives the recorded answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from ml_platform.core.contract import Contract
from ml_platform.governance.findings import Finding
from ml_platform.serving import Scorer
from ml_platform.serving.tables import feature_column, output_column
from ml_platform.training import Artifact

__all__ = ["rescore"]


def rescore(headers: pa.Table, personal: pa.Table, artifact: Artifact) -> Iterator[Finding]:
    """Findings where score or decision is not what the artifact says of the recorded features.

    Row i of ``personal`` belongs to row i of ``headers``. Scores are compared bit for bit: one thread, one row or
    many give the same.
    """
    if not headers.num_rows:
        return
    scorer = Scorer.of(artifact, reasons=False)
    decided = scorer.decide(_matrix(personal, artifact.contract))
    name = artifact.contract.outputs[0].name
    recorded = personal.column(output_column(name)).to_numpy()
    texts = [decided.decision_texts[code] for code in decided.decisions.tolist()]
    same = (recorded == decided.outputs[name]) & np.array(
        [one == other for one, other in zip(personal.column("decision").to_pylist(), texts, strict=True)], np.bool_
    )
    for row in np.flatnonzero(~same).tolist():
        where = f"prediction {headers.column('prediction_id')[row].as_py()}"
        yield Finding("tampered", where, "the score and decision of its version", "The model gives another answer.")


def _matrix(personal: pa.Table, contract: Contract) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    columns = {item.name: personal.column(feature_column(item)) for item in contract.fields}
    admitted = contract.admit(pa.table(columns), origins=("input", "derived", "stored"))
    return contract.encode(admitted.columns)
