"""The demo's loop: each month is watched, drift asks for a retrain, an officer approves it, labels are waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from ml_platform import lifecycle
from ml_platform.core.errors import NotFound
from ml_platform.lifecycle.watching import alert_document
from ml_platform.model import Model
from ml_platform.orchestration.demo_root import OFFICERS, DemoRoot
from ml_platform.orchestration.keys import WINDOWS_NAME, model_key
from ml_platform.orchestration.loop_jobs import DECIDE_RETRAIN, FINISH_RETRAIN, MONITOR, START_RETRAIN

__all__ = ["Loop"]


@dataclass
class Loop:
    """What the sensors do in a wall root, step by step: a replay is driven by its replay."""

    main: DemoRoot
    model: Model
    months: Sequence[str]

    def watch(self, month: str) -> Iterator[str]:
        """Profiles and judges a month, and has an officer decide about a request; a line for whatever is new."""
        before = self._known().alerts
        asked_before = set(self._known().retrains)
        self.main.instance.add_dynamic_partitions(WINDOWS_NAME, [month])
        keys = [model_key(self.model.name, noun) for noun in ("data_profile", "drift_report")]
        self.main.run(MONITOR, partition_key=month, asset_selection=keys)
        known = self._known()
        for name, alert in sorted(known.alerts.items()):
            if name not in before:
                yield f"  {alert.severity} alert: {alert.rule} of {alert.subject or 'the whole'} in {alert.window}"
        for name, alert in sorted(known.alerts.items()):
            if not alert.open and (name not in before or before[name].open):
                yield f"  closed ({alert.cause}): {alert.rule} of {alert.subject or 'the whole'} in {alert.window}"
        for request in sorted(set(known.retrains) - asked_before):
            yield from self._asked(request)

    def _known(self) -> Any:
        return self.main.platform.registry.state().model(self.model.name)

    def _listed(self, request: str) -> dict[str, Any]:
        listed = lifecycle.list_retrains(self.main.platform, self.model.name, self.model)
        return next(one for one in listed if one["request"] == request)

    def _asked(self, request: str) -> Iterator[str]:
        """A queued request is approved at once here: what it waits for then is labels."""
        if self._listed(request)["status"] == "waiting for approval":
            officer = next(iter(OFFICERS))
            config = {
                "model": self.model.name,
                "request": request,
                "decision": "approve",
                "principal": officer,
                "reason": "The new population is a large part of the applications.",
            }
            self.main.run(DECIDE_RETRAIN, config={f"{DECIDE_RETRAIN}_op": {"config": config}})
        found = self._listed(request)
        useful = (found["useful_from"] or "not known yet")[:7]
        yield f"  retrain {request}: {found['status']}, useful from {useful}; meanwhile: {_words(found['meanwhile'])}"

    def carry_out(self) -> str:
        """Starts the open request, trains its candidate through its assets, and finishes it; the candidate's key.

        Raises:
            NotFound: no request was made, or it is not useful yet.
            GateFailed: the candidate's gates are red.
        """
        done = [one for one in self._known().retrains.values() if one.outcome == "registered"]
        if done:
            return str(done[-1].candidate)
        ready = lifecycle.ready_retrains(self.main.platform, self.model)
        if not ready:
            raise NotFound(
                "No retrain request may be carried out.", field="retrain", next_step="`mlp retrain list` says why."
            )
        (request,) = ready
        config = {"config": {"model": self.model.name, "request": request}}
        self.main.run(START_RETRAIN, config={f"{START_RETRAIN}_op": config})
        key = str(self._known().retrains[request].candidate)
        try:
            self.main.run(f"{self.model.name}_train", partition_key=key)
        except dg.DagsterError:
            lifecycle.register_candidate(self.main.platform, self.model, key, code=self.main.folder)
        self.main.run(FINISH_RETRAIN, config={f"{FINISH_RETRAIN}_op": config})
        return key

    def report(self) -> dict[str, Any]:
        """``drift`` by feature, ``alerts`` and ``retrain``, as the log and the stored reports say."""
        known = self._known()
        requests = sorted(known.retrains.values(), key=lambda one: one.requested)
        return {
            "drift": self._drift(),
            "alerts": [alert_document(self.model.name, one) for _, one in sorted(known.alerts.items())],
            "retrain": None if not requests else self._retrain(requests[0].request),
        }

    def _retrain(self, request: str) -> dict[str, Any]:
        one, found = self._known().retrains[request], self._listed(request)
        return {
            "request": request,
            "requested_by": one.requested_by,
            "requested_at": found["requested_at"],
            "useful_from": found["useful_from"],
            "meanwhile": found["meanwhile"],
            "decided_by": one.decided_by,
            "run": one.candidate,
            "outcome": one.outcome,
            "version": one.version,
        }

    def _drift(self) -> dict[str, Any]:
        """Of each feature the month in which it was furthest from training, and what it raised."""
        raised: dict[str, str] = {}
        for alert in self._known().alerts.values():
            if alert.subject:
                raised[alert.subject] = min(raised.get(alert.subject, "P9"), alert.severity)
        found: dict[str, Any] = {}
        for month in self.months:
            for version in lifecycle.drift_report(self.main.platform, self.model, month).versions:
                for name, psi in version.psi.items():
                    if psi > found.get(name, {"psi": -1.0})["psi"]:
                        severity = raised.get(name)
                        found[name] = {"psi": round(psi, 6), "window": month, "severity": severity}
        return found


def _words(meanwhile: Any) -> str:
    return str(meanwhile["text"] if isinstance(meanwhile, dict) else "nothing to do")
