"""A simulated lending market with known truth: published columns, late labels, a protected attribute, faults."""

from __future__ import annotations

from ml_platform.simulation.market import PROXY_STATES, Drift, LendingMarket, MarketTables

__all__ = ["PROXY_STATES", "Drift", "LendingMarket", "MarketTables"]
