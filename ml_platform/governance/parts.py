"""What governance needs of a root. A ``Platform`` satisfies it; this package stands above it in the import order."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ml_platform.core.delta import Lake
from ml_platform.core.objects import ObjectStore
from ml_platform.core.subjects import Subjects
from ml_platform.registry import Registry

__all__ = ["Parts"]


class Parts(Protocol):
    """The stores of one root, and its folder: write-ahead logs lie there until they are sealed."""

    @property
    def objects(self) -> ObjectStore: ...

    @property
    def lake(self) -> Lake: ...

    @property
    def subjects(self) -> Subjects: ...

    @property
    def registry(self) -> Registry: ...

    @property
    def root(self) -> Path: ...
