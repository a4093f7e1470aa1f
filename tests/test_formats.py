"""Every stored format has golden vectors in docs/formats.md; the code must give exactly those bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.digests import canonical_json, document_digest, keyed, sha256_hex, tagged_hash
from ml_platform.core.ids import batch_id_tail, id_text, uuid_v7, uuid_v8
from ml_platform.core.rows import encode_row
from ml_platform.core.subjects import salt

SEED = bytes(range(32))
AT = datetime(2010, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)


def row_vector() -> str:
    return encode_row(
        [
            ("bool", True),
            ("i64", -2),
            ("f32", 0.5),
            ("f64", -0.0),
            ("us", AT),
            ("date", date(2010, 1, 31)),
            ("text", "é"),
            ("bytes", b"\x00\x01"),
            ("texts", ["a", None]),
            ("f32s", [1.0]),
            ("tensor", np.array([[1.0, 2.0]], np.float32)),
            ("text", None),
        ]
    ).hex()


CONTRACT = Contract(
    entity_keys=(("loan_id", "int64"),),
    time="applied_at",
    fields=(
        ResolvedField("dti", "application@sha256:00:dti", "input", "number", "float64", range=(0.0, None)),
        ResolvedField(
            "term", "application@sha256:00:term", "input", "category", "int64", categories=("36",), on_unknown="flag"
        ),
    ),
)

COMPUTED: dict[str, Callable[[], str]] = {
    "row/1": row_vector,
    "canonical-json": lambda: canonical_json({"b": 1.0, "a": ["é", None, True]}).decode(),
    "document-digest": lambda: document_digest("definition", {"a": 1}),
    "tagged-hash": lambda: tagged_hash("ml-platform/example/1", ("text", "x"), ("i64", 7)).hex(),
    "keyed": lambda: keyed(SEED, "ml-platform/example/1", ("text", "x")).hex(),
    "file-digest": lambda: sha256_hex(b"abc"),
    "salt/1": lambda: salt(SEED, "training_row", encode_row([("i64", 42)])).hex(),
    "id/1 batch": lambda: id_text(
        uuid_v8(
            AT,
            batch_id_tail(
                SEED,
                root_id="0123456789abcdef",
                model="credit_risk",
                version=1,
                mode="batch",
                role="primary",
                partition="2010-01",
                row_key=encode_row([("i64", 42)]),
                revision=0,
            ),
        )
    ),
    "id/1 online": lambda: id_text(uuid_v7(AT, bytes(range(10)))),
    "contract/1": lambda: CONTRACT.digest,
}


def vectors(page: Path) -> dict[str, str]:
    return dict(re.findall(r"^```vector ([^\n]+)\n([^\n]*)\n```$", page.read_text(), flags=re.MULTILINE))


def test_every_golden_vector_of_the_page_is_computed_and_every_computed_one_is_on_the_page(repository: Path) -> None:
    assert set(vectors(repository / "docs" / "formats.md")) >= set(COMPUTED)


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_the_code_gives_the_golden_bytes(name: str, repository: Path) -> None:
    assert COMPUTED[name]() == vectors(repository / "docs" / "formats.md")[name]
