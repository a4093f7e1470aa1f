"""Which watchers run in this deployment."""

from sensors.loop import loop
from sensors.registry import reconcile

sensors = [reconcile, *loop]

__all__ = ["sensors"]
