"""Golden vectors of the closed loop and of rollouts: what requests and decisions rest on, and how far a shadow is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from ml_platform.core.digests import canonical_json
from ml_platform.lifecycle.retrain_evidence import Assessment, Population, evidence_document
from ml_platform.lifecycle.retrain_runs import start_document
from ml_platform.lifecycle.retraining import request_id
from ml_platform.lifecycle.rollout import rollout_document
from ml_platform.lifecycle.rollout_evidence import Step
from ml_platform.lifecycle.shadow_cursor import ShadowCursor
from ml_platform.monitoring.retrain import Trigger
from ml_platform.monitoring.usefulness import Meanwhile, Usefulness
from ml_platform.registry.loop_state import AlertState
from ml_platform.rollout import ArmEvidence, Evidence, Guardrails, Rollout, StepState, decide

AT = datetime(2011, 8, 1, tzinfo=UTC)
ZERO = "sha256:" + "00" * 32
ALERT = AlertState(
    "new_category-term-2010-06",
    "new_category",
    "P2",
    1,
    "2010-06",
    "term",
    ZERO,
    raised=7,
    raised_at="",
    acknowledged=None,
)
FOUND = Assessment(
    Population("term", ("60",), None),
    Usefulness(648, 0, 549, datetime(2011, 6, 1, tzinfo=UTC), None, 648, 0, None),
    Meanwhile("flag", "Rows with an unknown term are flagged."),
)


def retrain_evidence() -> str:
    wish = Trigger("drift", (ALERT.alert,))
    return evidence_document("credit_risk", wish, [ALERT], FOUND, None).decode()


def arm(version: int, units: int) -> ArmEvidence:
    latency = np.arange(1, units + 1, dtype=np.float64) / 4
    return ArmEvidence(version, units, units, 0, units, units // 4, latency, latency / (units + 1))


def rollout_evidence() -> str:
    plan, state = Rollout(canary=[50], guardrails=Guardrails(min_units=2)), StepState(5000, AT)
    evidence = Evidence(arm(1, 4), arm(2, 4))
    found = decide(plan, state, evidence, AT)
    step = Step("credit_risk", 2, 5000, 1, None, AT)
    return canonical_json(rollout_document(plan, step, state, evidence, found, AT, None)).decode()


def shadow_cursor() -> str:
    cursor = ShadowCursor("credit_risk", 2, AT, AT, {"router-" + "0" * 32: 3}, Counter({"pairs": 2, "refused": 1}))
    return canonical_json(cursor.to_json()).decode()


COMPUTED: dict[str, Callable[[], str]] = {
    "retrain-evidence/1": retrain_evidence,
    "retrain-request/1": lambda: request_id("credit_risk", 0),
    "retrain-start/1": lambda: canonical_json(start_document(AT)).decode(),
    "rollout-evidence/1": rollout_evidence,
    "shadow-cursor/1": shadow_cursor,
}
