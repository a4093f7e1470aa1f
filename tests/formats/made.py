"""Golden vectors of what a run makes: seeds, training sets, profiles, artifacts, run records, evaluations, candidates."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ml_platform.core.digests import document_digest, keyed
from ml_platform.core.fields import category, number
from ml_platform.core.merkle import Frontier, leaf_hash, root
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import encode_row
from ml_platform.core.subjects import Subjects, salt
from ml_platform.datasets.leaves import (
    LEFT_OUT_NOUN,
    LEFT_OUT_TAG,
    ROW_NOUN,
    ROW_TAG,
    Leaves,
    MembershipProof,
    row_leaf,
)
from ml_platform.lifecycle.requesting import Candidate, _key
from ml_platform.lifecycle.training import TrainedModel
from ml_platform.profiles import ReferenceProfile
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton import Served
from ml_platform.serving.triton.repository import Tensor
from ml_platform.training import Absent, CodeState, Decline
from ml_platform.training.artifact import artifact_digest, store_artifact
from ml_platform.training.evaluation import EvaluationSubject, evaluate
from ml_platform.training.evaluation_table import EvaluationTable
from ml_platform.training.gates import at_least
from ml_platform.training.golden import Golden
from ml_platform.training.run_record import RUN_RECORD_ITEMS, RunRecord
from ml_platform.training.verdict import BaselineRef, GateContext
from tests.formats.declared import MODEL, text

SEED = bytes(range(32))
ZERO = "sha256:" + "00" * 32
CANDIDATE = "20100101T000000Z_0123456789ab"
ROW_KEY = encode_row([("i64", 42), ("us", 1_264_939_200_123_456)])
ROW = encode_row(
    [
        ("i64", 42),
        ("us", 1_264_939_200_123_456),
        ("f32", 0.5),
        ("f32", None),
        ("text", "36"),
        ("i64", 1),
        ("us", 1_296_475_200_123_456),
        ("text", "train"),
    ]
)
LEFT_OUT_ROW = encode_row([("i64", 42), ("us", 1_264_939_200_123_456), ("text", "immature")])
LEAVES = Leaves.of([bytes([2]) * 32, bytes([1]) * 32, bytes([3]) * 32])
PARTS = {"contract.json": b"{}", "model.onnx": b"onnx"}


def replay_seed() -> str:
    with tempfile.TemporaryDirectory() as folder:
        subjects = Subjects(Path(folder) / "subjects.sqlite", root_seed=SEED)
        return subjects.seeds("loan", [encode_row([("i64", 42)])])[0].hex()


def training_leaf() -> str:
    return row_leaf(ROW_TAG, salt(SEED, ROW_NOUN, ROW_KEY), ROW).hex()


def left_out_leaf() -> str:
    return row_leaf(LEFT_OUT_TAG, salt(SEED, LEFT_OUT_NOUN, ROW_KEY), LEFT_OUT_ROW).hex()


def membership() -> str:
    proof = MembershipProof(ROW_TAG, salt(SEED, ROW_NOUN, ROW_KEY), ROW, 0, 2, (bytes([1]) * 32,))
    return text(proof.to_json())


def profile() -> ReferenceProfile:
    rows = pa.table(
        {
            "dti": pa.array([*map(float, range(20)), None], pa.float64()),
            "term": pa.array(["36"] * 11 + ["60"] * 10),
            "grade": pa.array(["A"] * 12 + ["B"] * 9),
        }
    )
    fields = [number("dti"), category("term"), category("grade", public=True)]
    return ReferenceProfile.of(rows, fields, inputs_digest=ZERO)


def listing() -> str:
    with tempfile.TemporaryDirectory() as folder:
        objects = ObjectStore(folder)
        digest = store_artifact(objects, PARTS).digest
        return objects.read(f"artifacts/{digest.removeprefix('sha256:')}.json").decode()


def run_record() -> str:
    values: dict[str, object] = {name: {"value": 1} for name in RUN_RECORD_ITEMS}
    values |= {"model": "credit_risk", "features": {}, "image": Absent("No image.")}
    return RunRecord.of(values).to_bytes().decode()


def table() -> EvaluationTable:
    return EvaluationTable.build(
        [bytes([1]) * 32, bytes(32)],
        score=np.array([0.5, 0.25], np.float32),
        native_score=np.array([0.5, 0.25]),
        label=np.array([1, 0]),
        groups={"g": ["a", None]},
        baseline_score=np.array([np.nan, 0.5], np.float32),
    )


def kinds(value: Any) -> Any:
    """A document with the kind of each value in its place; of a list the first item stands for all."""
    if isinstance(value, Mapping):
        return {name: kinds(item) for name, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value[:1]]
    names = {bool: "boolean", int: "number", float: "number", str: "text", type(None): "null"}
    return names[type(value)]


def evaluation() -> str:
    rows = 40
    labels = np.arange(rows) % 2
    scores = (np.arange(rows) % 7 / 10 + labels / 5 + 0.05).astype(np.float32)
    leaves = [bytes([row]) * 32 for row in range(rows)]
    made = evaluate(
        EvaluationSubject("credit_risk", CANDIDATE, "2010-01-01T00:00:00.000000Z", ZERO, ZERO, ZERO),
        EvaluationTable.build(
            leaves,
            score=scores,
            native_score=scores.astype(np.float64),
            label=labels,
            groups={"g": ["a"] * rows},
            baseline_score=scores,
        ),
        [at_least("auc", 0.55)],
        GateContext(0.5, 7, 0.4, BaselineRef(3, ZERO), {"age": "Not collected."}),
        slices=pa.table({"row_leaf": pa.array(leaves, pa.binary(32)), "purpose": ["car"] * rows}),
        refused={"dti:range": 1},
    )
    return text(kinds(made.document))


CODE = CodeState("ab" * 20, "main", False, ZERO, ("ann@example.org",))
REQUEST = Candidate(
    model="credit_risk",
    key=CANDIDATE,
    as_of=datetime(2010, 1, 1, tzinfo=UTC),
    spec=ZERO,
    sources={"applications": {"table": "sources/applications", "table_version": 3, "definition": ZERO}},
    features={f"history@{ZERO}": {"table": "features/history/000000000000", "table_version": 1}},
    code=CODE.to_json(),
    lock={"absent": "The code location has no lock file."},
)


def served() -> str:
    with tempfile.TemporaryDirectory() as folder:
        inputs = (Tensor("loan_id", "INT64", optional=True), Tensor("dti", "FP64", optional=True))
        Served(Serving(), (inputs,)).write(Path(folder), "credit_risk")
        return Served.path(Path(folder), "credit_risk").read_text()


def golden() -> str:
    matrix = np.array([[0.5, 2.0], [np.nan, 0.0]], np.float32)
    return Golden(ZERO, matrix, np.array([0.25, 0.1], np.float32)).to_bytes().decode()


def candidate_key() -> str:
    return _key(MODEL, datetime(2010, 1, 1, tzinfo=UTC), {"outcomes": 4, "applications": 3}, CODE, ZERO)


COMPUTED: dict[str, Callable[[], str]] = {
    "seed/1 replay": replay_seed,
    "merkle root": lambda: root([leaf_hash(raw) for raw in (b"a", b"b", b"c")]).hex(),
    "merkle frontier": lambda: Frontier().extend(map(leaf_hash, (b"a", b"b", b"c"))).to_bytes().hex(),
    "training-leaf/1": training_leaf,
    "left-out-leaf/1": left_out_leaf,
    "snapshot digest": lambda: LEAVES.digest,
    "training-set/1 digest": lambda: document_digest(
        "training-set", {"format": "ml-platform/training-set/1", "rows": 0}
    ),
    "membership/1": membership,
    "profile/1": lambda: profile().to_bytes().decode(),
    "profile/1 digest": lambda: profile().digest,
    "category/1": lambda: keyed(ZERO.encode(), "ml-platform/category/1", ("text", "term"), ("text", "36")).hex()[:32],
    "artifact/1": listing,
    "artifact/1 digest": lambda: artifact_digest(PARTS),
    "golden/1": golden,
    "served/1": served,
    "decision/1": lambda: Decline(above=0.06, reasons={"dti": "Debt too high"}).to_bytes().decode(),
    "run-record/1": run_record,
    "evaluation-table/1 digest": lambda: table().digest,
    "evaluation/1 kinds of values": evaluation,
    "candidate/1": lambda: text(REQUEST.to_json()),
    "candidate/1 digest": lambda: REQUEST.inputs_digest,
    "candidate-key/1": candidate_key,
    "trained/1": lambda: text(TrainedModel("credit_risk", CANDIDATE, *[ZERO] * 5).to_json()),
    "code/1 tree": lambda: document_digest("code", {"model.py": ZERO}),
    "materialization/1": lambda: document_digest("materialization", {"definition": ZERO, "version": 1}),
}
