"""Published definitions for other code locations: a lock file that holds them whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ml_platform.core.errors import NotFound
from ml_platform.features import FeatureView
from ml_platform.features.published import feature_view, locked_references, write_lock
from ml_platform.lifecycle.feature_catalogue import find_definition
from ml_platform.platform import Platform

__all__ = ["lock_definitions"]


def lock_definitions(platform: Platform, references: Sequence[str], file: Path) -> list[str]:
    """Adds published views to a lock file, beside what it holds; returns everything that it holds now.

    Args:
        platform: the root in which they were published.
        references: ``name@sha256:…``; eight digits are enough.
        file: replaced whole, or left as it was.

    Raises:
        NotFound: one is not published here, or is no stored view.
        ArtifactCorrupt: the file holds a definition that is not what its reference says.
        StorageFailed: it cannot be written.
    """
    held = {one: feature_view(one, lock=file) for one in locked_references(file)}
    for reference in references:
        found = find_definition(platform, (), reference)
        if not isinstance(found, FeatureView):
            raise NotFound("This is no stored feature view.", field=reference, next_step="Lock a FeatureView.")
        held[found.reference] = found
    write_lock(file, held.values())
    return sorted(held)
