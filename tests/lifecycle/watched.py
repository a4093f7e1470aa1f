"""A root with months of decisions by a real version, of which the later ones have a purpose that it never saw."""

from __future__ import annotations

from dataclasses import replace

from ml_platform import Monitor, Platform, lifecycle
from tests.governance.root import at, model

MONITOR = Monitor(critical=["purpose"])


def watched():
    """The model of the root, with a critical feature."""
    return replace(model(), monitor=MONITOR)


def alerts_of(platform: Platform, **how):
    return [(one["rule"], one["subject"], one["open"]) for one in lifecycle.list_alerts(platform, **how)["alerts"]]


__all__ = ["alerts_of", "at", "watched"]
