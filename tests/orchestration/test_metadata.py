from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from ml_platform.orchestration.metadata import MAX_DOCUMENT_BYTES, manifest, metadata_value, versions_digest


@dataclass
class Result:
    rows: int = 3
    rate: float = 0.5
    complete: bool = True
    digest: str = "sha256:0"
    missing: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def test_a_manifest_keeps_numbers_as_numbers_and_leaves_out_what_is_absent() -> None:
    found = manifest(Result(), log_index=7, sources={"a": 1})
    assert {name: type(value) for name, value in found.items()} == {
        "ml/complete": dg.BoolMetadataValue,
        "ml/digest": dg.TextMetadataValue,
        "ml/log_index": dg.IntMetadataValue,
        "ml/rate": dg.FloatMetadataValue,
        "ml/rows": dg.IntMetadataValue,
        "ml/sources": dg.JsonMetadataValue,
    }


def test_a_large_document_is_not_kept_in_dagsters_database() -> None:
    fits = "x" * (MAX_DOCUMENT_BYTES - len('{"a": ""}'))
    assert isinstance(metadata_value({"a": fits}), dg.JsonMetadataValue)
    large = metadata_value({"a": fits + "x"})
    assert isinstance(large, dg.TextMetadataValue)
    assert "16385 bytes" in str(large.value)


def test_the_version_of_a_view_depends_on_definitions_and_tables_only() -> None:
    assert versions_digest({"a": 1, "b": 2}) == versions_digest({"b": 2, "a": 1})
    assert versions_digest({"a": 1}) != versions_digest({"a": 2})
    assert versions_digest({"a": 1}) != versions_digest({"b": 1})
