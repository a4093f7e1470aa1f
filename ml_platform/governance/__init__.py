"""Governance: trace a decision, verify a root, reproduce a version."""

from __future__ import annotations

from ml_platform.governance.entities import find_decisions, find_refusals
from ml_platform.governance.findings import Finding, Report
from ml_platform.governance.parts import Parts
from ml_platform.governance.reproduce import Difference, Reproduction, reproduce
from ml_platform.governance.trace import Trace, trace, trace_entity
from ml_platform.governance.verify import verify

__all__ = [
    "Difference",
    "Finding",
    "Parts",
    "Report",
    "Reproduction",
    "Trace",
    "find_decisions",
    "find_refusals",
    "reproduce",
    "trace",
    "trace_entity",
    "verify",
]
