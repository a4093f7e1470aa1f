"""One small model on a loan-like table, and everything that a batch of it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.delta import Lake
from ml_platform.core.objects import ObjectStore
from ml_platform.core.storage import StorageSettings
from ml_platform.core.subjects import Subjects
from ml_platform.features.expressions import parse
from ml_platform.serving import BatchJob, BatchParts, Scorer
from ml_platform.serving.lookup import RecordReader
from ml_platform.training.artifact import CONTRACT_PART, DECISION_PART, ONNX_PART, Artifact, store_artifact
from ml_platform.training.decision import Decline
from ml_platform.training.golden import GOLDEN_PART, make_golden
from ml_platform.training.lightgbm import NATIVE_PART, LightGBM
from ml_platform.training.trainer import RunContext, TrainingData

ROOT_ID = "0123456789abcdef0123456789abcdef"
START, END = datetime(2010, 5, 1, tzinfo=UTC), datetime(2010, 6, 1, tzinfo=UTC)
RECORDED = datetime(2026, 11, 23, 9, 0, 0, 123456, tzinfo=UTC)
KINDS = {"amount": "number", "income": "number", "term": "category", "grade": "category"}
NAMES = ("amount", "income", "term", "grade", "burden", "rate", "region")

CONTRACT = Contract(
    entity_keys=(("loan_id", "int64"),),
    time="applied_at",
    fields=(
        ResolvedField("amount", "application@sha256:00:amount", "input", "number", "float64", range=(0.0, None)),
        ResolvedField("income", "application@sha256:00:income", "input", "number", "float64", nullable=True),
        ResolvedField(
            "term", "application@sha256:00:term", "input", "category", "int64", categories=("36",), on_unknown="flag"
        ),
        ResolvedField(
            "grade", "application@sha256:00:grade", "input", "category", "string", categories=("A", "B", "C"),
            on_null="default", on_unknown="reject", default="B",
        ),
        ResolvedField(
            "burden", "application@sha256:00:burden", "derived", "number", "float64", nullable=True,
            expression=parse("amount * 12 / income", KINDS).spec(),
        ),
        ResolvedField(
            "rate", "history@sha256:11:rate", "stored", "number", "float64", range=(0.0, 1.0), on_range="flag",
            on_null="default", default=0.5,
        ),
        ResolvedField("region", "history@sha256:11:region", "stored", "category", "string", nullable=True,
                      categories=("north", "south"), on_unknown="flag"),
    ),
)  # fmt: skip


def train(contract: Contract = CONTRACT, *, rounds: int = 12, seed: int = 7, leaves: int = 7) -> dict[str, bytes]:
    """The parts of an artifact."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(600, len(contract.fields))).astype(np.float32)
    for place, item in enumerate(contract.fields):
        if item.kind == "category":
            matrix[:, place] = rng.integers(0, len(item.categories or ("x",)), 600)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    labels = (np.nan_to_num(matrix[:, 0]) + rng.normal(size=600) > 0.3).astype(np.float64)
    trainer = LightGBM(rounds=rounds, num_leaves=leaves, min_data_in_leaf=5, learning_rate=0.2)
    native = trainer.fit(TrainingData(matrix, labels, contract), RunContext(seed=1))
    onnx = trainer.to_onnx(native, contract)
    return {
        NATIVE_PART: native,
        ONNX_PART: onnx,
        GOLDEN_PART: make_golden(contract, onnx).to_bytes(),
        CONTRACT_PART: contract.to_bytes(),
        DECISION_PART: Decline(0.5, {name: f"reason {name[0]}" for name in contract.names}).to_bytes(),
    }


def loans(rows: int, *, seed: int = 3, start: int = 0) -> pa.Table:
    """Clean loans of May 2010."""
    rng = np.random.default_rng(seed)
    ids = np.arange(start, start + rows)
    income = rng.uniform(10.0, 90.0, rows)
    first = int(START.timestamp()) * 1_000_000
    return pa.table(
        {
            "loan_id": pa.array(ids, pa.int64()),
            "applied_at": pa.array(first + rng.integers(0, 30 * 86_400_000_000, rows), pa.timestamp("us", "UTC")),
            "amount": pa.array(rng.normal(size=rows) ** 2),
            "income": pa.array(income, mask=rng.random(rows) < 0.1),
            "term": pa.array(np.where(rng.random(rows) < 0.2, 60, 36), pa.int64()),
            "grade": pa.array(rng.choice(["A", "B", "C", None], rows).tolist(), pa.string()),
        }
    )


def history(contract: Contract, rows: pa.Table) -> pa.Table:
    """Stored features that depend on the loan alone."""
    ids = rows.column("loan_id").to_numpy()
    absent = ids % 7 == 0
    age = pa.array(ids % 1000 * 1_000_000, pa.int64(), mask=absent)
    return pa.table(
        {
            "rate": pa.array(ids % 13 / 10.0, pa.float64(), mask=absent),
            "age_rate": age,
            "region": pa.array([["north", "south", None, "west"][i % 4] for i in ids.tolist()], pa.string()),
            "age_region": age,
        }
    )


@dataclass(frozen=True)
class World:
    """A root with one version."""

    root: Path
    objects: ObjectStore
    lake: Lake
    subjects: Subjects
    artifact: Artifact

    @property
    def reader(self) -> RecordReader:
        return RecordReader(self.lake, self.objects)

    def job(self, **changes: Any) -> BatchJob:
        base = BatchJob(
            root_id=ROOT_ID,
            model="credit_risk",
            partition="2010-05",
            start=START,
            end=END,
            version=1,
            artifact_digest=self.artifact.digest,
            decided_at=END,
            recorded_at=RECORDED,
            clock="replay",
            entity="loan",
            personal=True,
        )
        return replace(base, **changes)

    def parts(self, table: pa.Table, **changes: Any) -> BatchParts:
        base = BatchParts(
            objects=self.objects,
            lake=self.lake,
            subjects=self.subjects,
            load=lambda digest: Scorer.load(self.objects, digest),
            rows=lambda contract: table.to_batches(),
            features=history,
            scratch=self.root / "scratch",
        )
        return replace(base, **changes)

    def leaves(self, model: str = "credit_risk", contract: Contract = CONTRACT) -> Iterator[tuple[bytes, int]]:
        """Every leaf, from the two tables alone, and its index in the segment."""
        from ml_platform.serving.tables import leaf_from_rows

        headers = self.lake.read(f"{model}/predictions").to_pylist()
        personal = {row["prediction_id"]: row for row in self.lake.read(f"{model}/predictions_personal").to_pylist()}
        for header in headers:
            yield leaf_from_rows(header, personal[header["prediction_id"]], contract), header["leaf_index"]


def make_world(
    root: Path,
    parts: dict[str, bytes],
    *,
    root_seed: bytes | None = bytes(range(32)),
    store: str | Path | None = None,
    storage: StorageSettings | None = None,
) -> World:
    where = root if store is None else store
    objects = ObjectStore(f"{where}/objects", storage)
    return World(
        root=root,
        objects=objects,
        lake=Lake(f"{where}/lake", storage, scratch=root / "scratch"),
        subjects=Subjects(root / "subjects" / "subjects.db", root_seed=root_seed),
        artifact=store_artifact(objects, parts),
    )
