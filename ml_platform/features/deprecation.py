"""When a deprecated view is warned about, and when a model may not use it. Pure but for the warning itself."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable

from ml_platform.core.errors import Refused
from ml_platform.features.views import FeatureView

__all__ = ["refuse_deprecated", "warn_deprecated"]


def warn_deprecated(model: str, views: Iterable[FeatureView]) -> None:
    """A ``FutureWarning``, which Python shows by default, for each deprecated view that a model uses."""
    for view in views:
        if view.about.deprecated is not None:
            warnings.warn(f"{model} uses {view.name}. {view.about.deprecated.words()}", FutureWarning, stacklevel=5)


def refuse_deprecated(model: str, views: Iterable[FeatureView], *, used_before: Collection[str]) -> None:
    """Refuses a new use of a view whose deprecation says ``refuse``.

    Args:
        model: who asks.
        views: what it declares.
        used_before: names of the views that a registered version of the model reads: those may go on.

    Raises:
        Refused: names the view, why it is deprecated and what to use.
    """
    for view in views:
        deprecated = view.about.deprecated
        if deprecated is not None and deprecated.refuse and view.name not in used_before:
            raise Refused(
                f"{model} may not begin to use {view.name}. {deprecated.words()}",
                field=view.name,
                next_step=f"Use {deprecated.instead}." if deprecated.instead else "Take the view out of its features.",
            )
