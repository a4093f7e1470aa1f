"""Periods of stored features that failed a quality check: kept as evidence, apart from what anybody reads."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.parquet as pq

from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import ArtifactCorrupt, DataError
from ml_platform.features import FeatureView
from ml_platform.features.tables import RejectedPart, done_periods
from ml_platform.platform import Platform

__all__ = [
    "REJECTED_FORMAT",
    "Rejected",
    "keep_rejected",
    "read_rejected",
    "rejected_document",
    "rejected_periods",
    "rejection",
]

REJECTED_FORMAT: Final = "ml-platform/rejected/1"


@dataclass(frozen=True)
class Rejected:
    """A period that is not visible: why, in numbers, and where its rows are."""

    view: str
    period: str
    rows: int
    checks: tuple[Mapping[str, Any], ...]
    words: tuple[str, ...]
    evidence: str

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "period": self.period,
            "rows": self.rows,
            "checks": [dict(check) for check in self.checks],
            "evidence": self.evidence,
        }


def rejected_document(view: FeatureView, part: RejectedPart, data: str) -> dict[str, Any]:
    """What is kept of a rejected period; ``data`` is the digest of its rows as a Parquet file."""
    return {
        "format": REJECTED_FORMAT,
        "view": view.reference,
        "period": part.period,
        "rows": part.rows.num_rows,
        "checks": [one.to_json() for one in part.judged],
        "data": data,
    }


def keep_rejected(platform: Platform, view: FeatureView, part: RejectedPart) -> Rejected:
    """Stores rows and numbers of a rejected period; the same rejection again changes nothing.

    Raises:
        StorageFailed: the store refused.
    """
    buffer = io.BytesIO()
    pq.write_table(part.rows, buffer)
    document = rejected_document(view, part, platform.objects.put(buffer.getvalue()))
    raw = canonical_json(document)
    path = f"rejected/{view.table}/{part.period}/{hashlib.sha256(raw).hexdigest()}.json"
    platform.objects.create_same(path, raw)
    words = tuple(one.words() for one in part.failed)
    return Rejected(view.name, part.period, part.rows.num_rows, tuple(document["checks"]), words, path)


def rejected_periods(platform: Platform, view: FeatureView) -> dict[str, list[str]]:
    """Of each period that was rejected and is still missing, the paths of its evidence."""
    found: dict[str, list[str]] = {}
    for path in platform.objects.list(f"rejected/{view.table}"):
        found.setdefault(path.split("/")[-2], []).append(path)
    done = done_periods(view, platform.lake) if found else {}
    return {period: paths for period, paths in sorted(found.items()) if period not in done}


def read_rejected(platform: Platform, path: str) -> dict[str, Any]:
    """The document of a rejection.

    Raises:
        NotFound: there is none at the path.
        ArtifactCorrupt: its bytes are not what its name says.
    """
    raw = platform.objects.read(path)
    if hashlib.sha256(raw).hexdigest() != path.rpartition("/")[2].removesuffix(".json"):
        raise ArtifactCorrupt(
            "The evidence is not what its name says.", field=path, next_step="Restore it from a backup."
        )
    found: dict[str, Any] = parse_canonical(raw)
    return found


def rejection(view: FeatureView, rejected: tuple[Rejected, ...]) -> DataError:
    """The error about a materialisation of which periods were rejected: all others are there."""
    first = rejected[0]
    return DataError(
        f"{len(rejected)} periods failed a check and are not visible; {first.period}: {'; '.join(first.words)}.",
        field=view.name,
        next_step=(
            f"Correct the source and run it again, or `mlp materialize {view.name} --accept REASON`; "
            f"rows and numbers are kept at {first.evidence}."
        ),
    )
