"""Golden vectors of monitoring: profiles of windows, reports, evidence and notices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from ml_platform.core.digests import canonical_json, document_digest
from ml_platform.core.fields import category, number
from ml_platform.lifecycle.monitoring import DriftResult, drift_document
from ml_platform.lifecycle.performance import PerformanceResult, performance_document
from ml_platform.lifecycle.watching import evidence_document
from ml_platform.lifecycle.window_profiles import VersionProfile, WindowProfiles, profile_document
from ml_platform.monitoring.alerts import alert_id
from ml_platform.monitoring.drift import DriftReport, FieldDrift, Limits, NullRate, ScoreDrift, Shift
from ml_platform.monitoring.notices import Notice, payload_of
from ml_platform.monitoring.performance import Comparison, PerformanceReport
from ml_platform.monitoring.severity import Judgement
from ml_platform.profiles import ReferenceProfile, WindowProfile
from ml_platform.stats import Interval

ZERO = "sha256:" + "00" * 32
JUDGED = Judgement("new_category", "term", True, {"categories": 1, "rows": 12, "share": 0.5})
CHANGE = Interval(0.0, -0.25, 0.25, method="newcombe")


def window() -> WindowProfile:
    fields = [number("dti", nullable=True), category("term"), category("grade", public=True)]
    before = pa.table(
        {"dti": pa.array([*map(float, range(20))]), "term": pa.array(["36"] * 20), "grade": pa.array(["A"] * 20)}
    )
    now = pa.table(
        {
            "dti": pa.array([0.5] * 12 + [None, 30.0]),
            "term": pa.array(["36"] * 2 + ["60"] * 12),
            "grade": pa.array(["A"] * 13 + ["Z"]),
        }
    )
    reference = ReferenceProfile.of(before, fields, inputs_digest=ZERO, scores=np.linspace(0, 1, 20))
    made = WindowProfile.of(now, reference, scores=np.full(14, 0.25), decisions={"approved": 14})
    return made.stored(reference)


def about(**more: object) -> dict[str, object]:
    return {"model": "credit_risk", "version": 1, "window": "2010-05", **more}


def drift() -> str:
    shift = Shift(psi=0.5, noise=0.25, js=0.125, kl=0.25, moved=True)
    nulls = NullRate(reference=0.0, window=0.0, change=CHANGE, effect=0.0, spike=False)
    term = FieldDrift("term", "category", True, shift, nulls, new=(("11" * 16, 12),), new_rows=12)
    report = DriftReport(24, (term,), ScoreDrift(None, None, (("approved", 1.0),)), (), {"dti:range": 2})
    return canonical_json(drift_document(about(profile=ZERO, reference=ZERO), Limits(), report, [JUDGED])).decode()


def performance() -> str:
    compared = Comparison(0.75, 0.75, CHANGE, worse=False)
    report = PerformanceReport(0, 24, None, compared, (), {"p50": 900.0}, None)
    named = about(inputs=ZERO, table=None, evaluation=ZERO)
    return canonical_json(performance_document(named, report, [Judgement("accuracy", None, None)])).decode()


def profile() -> str:
    parts = about(
        inputs=ZERO,
        rows=24,
        modes={"batch": 20, "online": 4},
        refused={"dti:range": 2},
        profile=ZERO,
        whylogs={"absent": "Not installed."},
    )
    return canonical_json(profile_document(**parts)).decode()


def notice() -> str:
    told = Notice(
        event="raised", log_index=25, at="2010-06-01T00:00:00.000000Z", root="0123456789abcdef", model="credit_risk",
        alert="al-0f3a5c7e9b120f3a5c7e", rule="new_category", severity="P2", version=1, window="2010-05",
        subject="term", cause=None, evidence=ZERO,
    )  # fmt: skip
    return canonical_json(payload_of("webhook", told)).decode()


def profiles() -> str:
    one = VersionProfile(1, 24, {"batch": 24}, {}, ZERO, ZERO, None, "Not installed.", ZERO)
    return WindowProfiles("credit_risk", "2010-05", (one,)).inputs_digest


COMPUTED: dict[str, Callable[[], str]] = {
    "window-profile/1": lambda: window().to_bytes().decode(),
    "window-profile/1 digest": lambda: window().digest,
    "window-inputs/1": lambda: document_digest(
        "window-inputs",
        {
            "window": ["2010-05-01T00:00:00.000000Z", "2010-06-01T00:00:00.000000Z"],
            "version": 1,
            "artifact": ZERO,
            "contract": ZERO,
            "reference": ZERO,
            "rows": 24,
            "segments": {"s.0": {"root": ZERO, "leaves": "00" * 32}},
            "refused": {"dti:range": 2},
        },
    ),
    "window-inputs/1 of one version": profiles,
    "data-profile/1": profile,
    "drift-report/1": drift,
    "drift-result/1": lambda: DriftResult("credit_risk", "2010-05", ()).digest,
    "performance-report/1": performance,
    "performance-result/1": lambda: PerformanceResult("credit_risk", "2010-05", ()).digest,
    "alert-evidence/1": lambda: canonical_json(evidence_document("credit_risk", 1, "2010-05", JUDGED)).decode(),
    "alert/1 id": lambda: alert_id("credit_risk", 1, "2010-05", "new_category", "term"),
    "notice/1": notice,
}
