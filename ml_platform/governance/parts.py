"""What governance needs of a root. A ``Platform`` satisfies it; this package stands above it in the import order."""

from __future__ import annotations

from typing import Protocol

from ml_platform.core.delta import Lake
from ml_platform.core.objects import ObjectStore
from ml_platform.core.subjects import Subjects
from ml_platform.registry import Registry

__all__ = ["Parts"]


class Parts(Protocol):
    """The stores of one root."""

    @property
    def objects(self) -> ObjectStore: ...

    @property
    def lake(self) -> Lake: ...

    @property
    def subjects(self) -> Subjects: ...

    @property
    def registry(self) -> Registry: ...
