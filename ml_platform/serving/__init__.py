"""Serving: the prediction record and its leaf, batch scoring, online routers, and finding records again.

Names load on first use: who only declares how a model is served does not wait for the engines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ml_platform.serving.batch import MAX_REFUSED_SHARE, BatchJob, BatchParts, Supersede, score_partition
    from ml_platform.serving.intent import BatchResult, Intent
    from ml_platform.serving.lookup import FoundRecord, RecordReader
    from ml_platform.serving.preparing import FeatureReader
    from ml_platform.serving.record import Header, Section, commitment, entity_index, record_leaf
    from ml_platform.serving.scorer import Scorer
    from ml_platform.serving.segment import LeafTree, Segment, load_segment, load_tiles, prove, store_segment

_HOMES: Final[dict[str, str]] = {
    "BatchJob": "batch",
    "BatchParts": "batch",
    "BatchResult": "intent",
    "FeatureReader": "preparing",
    "FoundRecord": "lookup",
    "Header": "record",
    "Intent": "intent",
    "LeafTree": "segment",
    "MAX_REFUSED_SHARE": "batch",
    "RecordReader": "lookup",
    "Scorer": "scorer",
    "Section": "record",
    "Segment": "segment",
    "Supersede": "batch",
    "commitment": "record",
    "entity_index": "record",
    "load_segment": "segment",
    "load_tiles": "segment",
    "prove": "segment",
    "record_leaf": "record",
    "score_partition": "batch",
    "store_segment": "segment",
}

__all__ = [
    "MAX_REFUSED_SHARE",
    "BatchJob",
    "BatchParts",
    "BatchResult",
    "FeatureReader",
    "FoundRecord",
    "Header",
    "Intent",
    "LeafTree",
    "RecordReader",
    "Scorer",
    "Section",
    "Segment",
    "Supersede",
    "commitment",
    "entity_index",
    "load_segment",
    "load_tiles",
    "prove",
    "record_leaf",
    "score_partition",
    "store_segment",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
