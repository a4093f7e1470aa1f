"""Golden vectors of decisions: records, segments, partitions, the tables that hold them, bundles."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import encode_row
from ml_platform.features import windows
from ml_platform.governance import bundle
from ml_platform.registry import InclusionProof
from ml_platform.registry.sql import METADATA
from ml_platform.serving import tables
from ml_platform.serving.decided import DecidedRows
from ml_platform.serving.intent import BatchResult, Intent
from ml_platform.serving.online_plan import Plan
from ml_platform.serving.segment import LeafTree, Segment
from tests.formats.declared import BORROWER_HISTORY, text
from tests.formats.made import ZERO

TREE, _ = LeafTree.of(np.repeat(np.array([2, 1, 3], np.uint8), 32).reshape(3, 32))
SEGMENT = Segment(
    id="batch-00.0",
    model="credit_risk",
    root=f"sha256:{TREE.root().hex()}",
    size=3,
    first_id="0128f0ce-bc00-8005-a62b-ad18ed738170",
    last_id="0128f0ce-bc00-8ff0-85cc-d51935cf6456",
    writer="batch-00",
    first_seq=0,
    last_seq=2,
    counts={"accepted": 3, "declined": 1, "flagged": 0, "refused": 2},
    min_decided_at="2010-06-01T00:00:00.000000Z",
    max_decided_at="2010-06-01T00:00:00.000000Z",
)
INTENT = Intent(
    root_id="0123456789abcdef",
    model="credit_risk",
    partition="2010-05",
    revision=1,
    version=1,
    artifact_digest=ZERO,
    role="primary",
    clock="replay",
    start="2010-05-01T00:00:00.000000Z",
    end="2010-06-01T00:00:00.000000Z",
    decided_at="2010-06-01T00:00:00.000000Z",
    recorded_at="2026-11-23T09:00:00.123456Z",
    writer="batch-00",
    decision_of_record=False,
    supersedes=0,
    reason="A late delivery.",
)
RESULT = BatchResult(
    model="credit_risk",
    version=1,
    artifact_digest=ZERO,
    partition="2010-05",
    revision=0,
    decided_at="2010-06-01T00:00:00.000000Z",
    decision_of_record=True,
    rows=5,
    accepted=3,
    refused=2,
    flagged=1,
    declined=1,
    segment_id="batch-00.0",
    root=SEGMENT.root,
    tables={"credit_risk/predictions": 1},
    refusals={"dti": {"range": 2}},
    flags={"term": {"unknown:flag": 1}},
    already_decided=4,
)
DECIDED_KEYS = [encode_row([("i64", one), ("us", 1_275_350_400_000_000)]) for one in (42, 43)]
PLAN = Plan(first_frame=4, first_seq=3, files=("00000000000000000004.wal",))
CONTRACT = Contract(
    entity_keys=(("loan_id", "int64"),),
    time="applied_at",
    fields=(
        ResolvedField("dti", f"application@{ZERO}:dti", "input", "number", "float64"),
        ResolvedField("term", f"application@{ZERO}:term", "input", "category", "int64", categories=("36",)),
        ResolvedField("rate", f"history@{ZERO}:rate", "stored", "number", "float64"),
    ),
)


def columns(schema: pa.Schema) -> str:
    return ", ".join(f"{item.name} {item.type}" for item in schema)


def database() -> str:
    return "; ".join(
        f"{table.name}({', '.join(column.name for column in table.columns)})" for table in METADATA.sorted_tables
    )


def decided() -> str:
    """What is pinned for the intent of two rows."""
    with tempfile.TemporaryDirectory() as folder:
        objects = ObjectStore(folder)
        DecidedRows.pinned(objects, INTENT, bytes(range(32)), DECIDED_KEYS)
        return objects.read("batch/credit_risk/2010-05/1/decided.bin").hex()


COMPUTED: dict[str, Callable[[], str]] = {
    "segment root": lambda: SEGMENT.root,
    "segment/1": lambda: SEGMENT.to_bytes().decode(),
    "segment/1 in the log": lambda: text(SEGMENT.sealed_entry()),
    "batch-intent/1": lambda: INTENT.to_bytes().decode(),
    "batch-commit/1": lambda: text(RESULT.to_json()),
    "decided/1": decided,
    "seal-plan/1": lambda: PLAN.to_bytes().decode(),
    "table predictions": lambda: columns(tables.HEADER_SCHEMA),
    "table predictions_personal": lambda: columns(tables.personal_schema(CONTRACT)),
    "table quarantine": lambda: columns(tables.QUARANTINE_SCHEMA),
    "table index/entities": lambda: columns(tables.ENTITY_SCHEMA),
    "table index/segments": lambda: columns(tables.SEGMENT_SCHEMA),
    "table features": lambda: columns(windows.changes_schema(BORROWER_HISTORY)),
    "tables of the registry": database,
    "inclusion proof": lambda: text(InclusionProof(1, b"{}", (bytes(32),), b"note\n").to_json()),
    "rebuild/1": lambda: text(
        {"format": bundle.ORDER_FORMAT, "model": "credit_risk", "version": 1, "declared_in": None}
    ),
}
