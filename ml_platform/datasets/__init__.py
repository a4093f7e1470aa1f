"""Labels that mature, splits by time, and training sets as immutable snapshots."""

from __future__ import annotations

from ml_platform.datasets.labels import MATURED_AT, SPLIT, Label
from ml_platform.datasets.leaves import MembershipProof, verify_membership
from ml_platform.datasets.manifest import Inputs, SourceInput
from ml_platform.datasets.maturity import LabelledRows, label_rows
from ml_platform.datasets.proofs import Opened, prove_membership, verify_snapshot
from ml_platform.datasets.snapshot import Snapshot, read_snapshot, snapshot_path, write_snapshot
from ml_platform.datasets.split import Split, TimeSplit
from ml_platform.datasets.training_set import TrainingSet, build_training_set
from ml_platform.datasets.training_spec import TEST, TRAIN, TrainingSetSpec

__all__ = [
    "MATURED_AT",
    "SPLIT",
    "TEST",
    "TRAIN",
    "Inputs",
    "Label",
    "LabelledRows",
    "MembershipProof",
    "Opened",
    "Snapshot",
    "SourceInput",
    "Split",
    "TimeSplit",
    "TrainingSet",
    "TrainingSetSpec",
    "build_training_set",
    "label_rows",
    "prove_membership",
    "read_snapshot",
    "snapshot_path",
    "verify_membership",
    "verify_snapshot",
    "write_snapshot",
]
