"""The registry's methods for alerts and requests to train again; parts of `Registry`.

Each may be repeated after a crash and returns the log index of what is there. Arguments are named as the fields of
the entry; a written ``reason`` is kept as evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from ml_platform.core.clock import format_utc
from ml_platform.registry.events import Event
from ml_platform.registry.loop_state import RetrainState
from ml_platform.registry.state import ModelState, State
from ml_platform.registry.writing import Writing

__all__ = ["AlertWrites", "RetrainWrites"]


class _Loop(Writing):
    def _unless(
        self,
        kind: str,
        body: dict[str, Any],
        model: str,
        written: Callable[[ModelState], int | None],
        *,
        publish: bool = False,
    ) -> int:
        """Writes an entry unless ``written`` finds the index of the one that says it already."""
        done = list[int]()

        def decide(state: State, _: str) -> list[Event]:
            found = written(state.model(model))
            if found is not None:
                done[:] = [found]
                return []
            return [Event(kind, body, model, self._effective_now(state))]

        return self._once(decide, done, publish=publish)


class AlertWrites(_Loop):
    """Writes about alerts; see `Registry`."""

    def raise_alert(
        self,
        model: str,
        *,
        alert: str,
        rule: str,
        severity: str,
        version: int | None = None,
        window: str,
        subject: str | None = None,
        evidence: str,
    ) -> int:
        """Raises an alert, or returns the index of the open one of this rule about the same subject and version.

        Args:
            model: model name.
            alert: a new id.
            rule: which rule was broken.
            severity: ``P0`` to ``P3``.
            version: the version that it is about, if any.
            window: the window in which it was measured.
            subject: the feature or slice, if any.
            evidence: digest of what was measured.

        Raises:
            Conflict: the id was used for another alert.
        """
        body = {
            "alert": alert,
            "rule": rule,
            "severity": severity,
            "version": version,
            "window": window,
            "subject": subject,
            "evidence": evidence,
        }

        def written(known: ModelState) -> int | None:
            same = known.alerts.get(alert)
            if same is not None and {name: getattr(same, name) for name in body} == body:
                return same.raised
            open_one = known.open_alerts.get((rule, subject, version))
            return None if open_one is None or same is not None else known.alerts[open_one].raised

        return self._unless("alert_raised", body, model, written)

    def acknowledge_alert(self, model: str, *, alert: str, actor: str, reason: str) -> int:
        """Says that somebody has seen an open alert; the first who says it counts.

        Raises:
            NotFound: no such alert.
            Conflict: it is closed and was never acknowledged.
        """
        body = {"alert": alert, "actor": actor, "reason": self._evidence.put(reason.encode())}

        def written(known: ModelState) -> int | None:
            found = known.alerts.get(alert)
            return found.acknowledged if found is not None else None

        return self._unless("alert_acknowledged", body, model, written)

    def close_alert(self, model: str, *, alert: str, cause: str, actor: str, evidence: str | None = None) -> int:
        """Closes an alert: ``recovered``, ``version_replaced``, ``retrained`` or ``by_hand``; once.

        Raises:
            NotFound: no such alert.
        """
        body = {"alert": alert, "cause": cause, "actor": actor, "evidence": evidence}

        def written(known: ModelState) -> int | None:
            found = known.alerts.get(alert)
            return found.closed if found is not None else None

        return self._unless("alert_closed", body, model, written)


class RetrainWrites(_Loop):
    """Writes about requests to train again; see `Registry`."""

    def request_retrain(
        self,
        model: str,
        *,
        request: str,
        trigger: str,
        alerts: Sequence[str] = (),
        mode: str,
        useful_from: datetime | None = None,
        evidence: str,
        requested_by: str,
    ) -> int:
        """Asks for a training.

        Args:
            model: model name.
            request: a new id.
            trigger: ``drift``, ``performance``, ``freshness`` or ``by_hand``.
            alerts: ids of the alerts behind it.
            mode: ``automatic``, or ``queued`` until a person decides.
            useful_from: when enough mature rows exist, UTC; None: now.
            evidence: digest of what was measured.
            requested_by: principal or service.

        Raises:
            Conflict: another request of the model is under way: merge into it (`merge_retrain`).
        """
        body = {
            "request": request,
            "trigger": trigger,
            "alerts": list(alerts),
            "mode": mode,
            "useful_from": None if useful_from is None else format_utc(useful_from),
            "evidence": evidence,
            "requested_by": requested_by,
        }

        def written(known: ModelState) -> int | None:
            found = known.retrains.get(request)
            return None if found is None or found.signals[0].evidence != evidence else found.requested

        return self._unless("retrain_requested", body, model, written)

    def merge_retrain(
        self, model: str, *, request: str, trigger: str, alerts: Sequence[str] = (), evidence: str
    ) -> int:
        """Adds a reason to the request that is under way; the same evidence is added once.

        Raises:
            NotFound: no such request.
            Conflict: it is closed.
        """
        body = {"request": request, "trigger": trigger, "alerts": list(alerts), "evidence": evidence}

        def written(known: ModelState) -> int | None:
            found = known.retrains.get(request)
            same = [one.index for one in found.signals if one.evidence == evidence] if found else []
            return same[0] if same else None

        return self._unless("retrain_merged", body, model, written)

    def decide_retrain(self, model: str, *, request: str, decision: str, actor: str, reason: str) -> int:
        """A person's ``approved`` or ``rejected``; the same decision again is not repeated.

        Raises:
            NotFound: no such request.
            Conflict: it was decided otherwise, has started, or is closed.
        """
        body = {
            "request": request,
            "decision": decision,
            "actor": actor,
            "reason": self._evidence.put(reason.encode()),
        }

        def written(known: ModelState) -> int | None:
            found = known.retrains.get(request)
            return found.decided if found is not None and found.decision == decision else None

        return self._unless("retrain_decided", body, model, written, publish=True)

    def start_retrain(self, model: str, *, request: str, candidate: str, actor: str) -> int:
        """Says that the training of a candidate, requested before, carries out the request.

        Raises:
            NotFound: no such request or candidate.
            Conflict: it started with another candidate, or is closed.
            DeclarationError: it waits for a decision.
        """
        body = {"request": request, "candidate": candidate, "actor": actor}

        def written(known: ModelState) -> int | None:
            found = known.retrains.get(request)
            return found.started if found is not None and found.candidate == candidate else None

        return self._unless("retrain_started", body, model, written)

    def finish_retrain(
        self, model: str, *, request: str, candidate: str, outcome: str, version: int | None = None
    ) -> int:
        """Says how it ended: ``registered`` as a version, ``refused`` by a gate, or ``failed``.

        Raises:
            NotFound: no such request.
            Conflict: it has not started with this candidate, or ended otherwise.
        """
        body = {"request": request, "candidate": candidate, "outcome": outcome, "version": version}

        def written(known: ModelState) -> int | None:
            found = known.retrains.get(request)
            return found.finished if found is not None and _ended(found, body) else None

        return self._unless("retrain_finished", body, model, written)


def _ended(found: RetrainState, body: dict[str, Any]) -> bool:
    return all(getattr(found, name) == value for name, value in body.items())
