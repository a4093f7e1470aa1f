"""Which watchers run in this deployment."""

from sensors.registry import reconcile

sensors = [reconcile]

__all__ = ["sensors"]
