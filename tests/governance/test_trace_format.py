"""The fields of a trace are those of docs/formats.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ml_platform.core.digests import canonical_json
from ml_platform.governance import trace

# Objects whose names are data: packages, features, hyperparameters, metrics.
OPEN = {
    "determinism",
    "feature_definitions",
    "hardware",
    "hyperparameters",
    "image",
    "lock",
    "metrics",
    "packages",
    "runtime",
    "seeds",
    "training_metrics",
}


def fields(name: str, value: Any) -> Any:
    if isinstance(value, Mapping) and name not in OPEN:
        return sorted(value)
    if isinstance(value, list) and value:
        return sorted({field for item in value for field in item})
    return "object" if isinstance(value, Mapping) else "list" if isinstance(value, list) else "text"


def outline(document: Mapping[str, Any]) -> str:
    return canonical_json({name: fields(name, value) for name, value in document.items()}).decode()


def test_a_trace_has_the_documented_fields(shared, declined, repository):
    page = (repository / "docs" / "formats.md").read_text()
    (documented,) = re.findall(r"^```vector trace/1 fields\n([^\n]*)\n```$", page, flags=re.MULTILINE)
    assert outline(trace(shared, declined).to_json()) == documented
