"""Serving: the prediction record and its leaf, batch scoring, and finding records again."""

from ml_platform.serving.batch import MAX_REFUSED_SHARE, BatchJob, BatchParts, Supersede, score_partition
from ml_platform.serving.intent import BatchResult, Intent
from ml_platform.serving.lookup import FoundRecord, RecordReader
from ml_platform.serving.preparing import FeatureReader
from ml_platform.serving.record import Header, Section, commitment, entity_index, record_leaf
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.segment import LeafTree, Segment, load_segment, load_tiles, prove, store_segment

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
