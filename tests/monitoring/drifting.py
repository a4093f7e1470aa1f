"""A small reference, its contract, and windows of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.fields import category, number
from ml_platform.profiles import ReferenceProfile, WindowProfile

FIELDS = [number("dti", nullable=True), category("term"), category("grade", public=True)]
DIGEST = "sha256:" + "00" * 32


def rows(n=2_000, seed=0, *, shift=0.0, spread=1.0, nulls=0.0, terms=("36",), grades=("A", "B", "C")):
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "dti": pa.array(random.normal(10 + shift, 3 * spread, n).astype(np.float32), mask=random.random(n) < nulls),
            "term": pa.array(random.choice(terms, n)),
            "grade": pa.array(random.choice(grades, n)),
        }
    )


def scores(n, seed=0, shift=0.0):
    return np.clip(np.random.default_rng(seed).beta(2, 8, n) + shift, 0, 1).astype(np.float32)


REFERENCE = ReferenceProfile.of(rows(), FIELDS, inputs_digest=DIGEST, scores=scores(2_000))
CONTRACT = Contract(
    entity_keys=(("loan_id", "int64"),),
    time="applied_at",
    fields=(
        ResolvedField("dti", "a@sha256:00:dti", "input", "number", "float64", nullable=True),
        ResolvedField("term", "a@sha256:00:term", "input", "category", "string", categories=("36",)),
        ResolvedField(
            "grade", "a@sha256:00:grade", "input", "category", "string", categories=("A", "B", "C"), public=True
        ),
    ),
)


def window(table, *, score_shift=0.0, decisions=None, seed=7):
    made = scores(table.num_rows, seed, score_shift)
    found = WindowProfile.of(table, REFERENCE, scores=made, decisions=decisions)
    return WindowProfile.from_json(found.stored(REFERENCE).to_json())
