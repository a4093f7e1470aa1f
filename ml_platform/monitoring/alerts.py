"""What is raised and what closes: pure, from judgements of a window and the alerts that are open.

An alert is about a rule, a subject and a version; one open alert of these is enough. It is closed when a window that
is no older than its own says that the condition is gone, or when another version is in production.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ml_platform.core.digests import document_digest, short
from ml_platform.monitoring.severity import Judgement

__all__ = ["Close", "OpenAlert", "Raise", "alert_id", "closes", "raises"]

Cause = Literal["recovered", "version_replaced", "retrained"]
_ID_HEX: Final = 20


@dataclass(frozen=True)
class OpenAlert:
    """An alert that is open: which, about what, since which window (its start, ISO)."""

    alert: str
    rule: str
    subject: str | None
    version: int | None
    window: str


@dataclass(frozen=True)
class Raise:
    """An alert to raise."""

    alert: str
    version: int
    judgement: Judgement


@dataclass(frozen=True)
class Close:
    """An alert to close, and why."""

    alert: str
    cause: Cause
    judgement: Judgement | None = None


def alert_id(model: str, version: int, window: str, rule: str, subject: str | None) -> str:
    """The same finding has the same id, so that a rerun raises nothing twice."""
    document = {"model": model, "version": version, "window": window, "rule": rule, "subject": subject}
    return f"al-{short(document_digest('alert', document), _ID_HEX)}"


def raises(
    model: str,
    version: int,
    window: str,
    judgements: Iterable[Judgement],
    *,
    open_alerts: Sequence[OpenAlert],
    known: Collection[str],
) -> tuple[Raise, ...]:
    """What a window of a version raises: what holds, is not open already, and was not raised for this window before.

    Args:
        model: its name.
        version: that decided.
        window: name of the window.
        judgements: of it.
        open_alerts: of the model.
        known: ids of all alerts that were ever raised.
    """
    about = {(one.rule, one.subject, one.version) for one in open_alerts}
    found = []
    for one in judgements:
        made = alert_id(model, version, window, one.rule, one.subject)
        if one.holds and (one.rule, one.subject, version) not in about and made not in known:
            found.append(Raise(made, version, one))
    return tuple(sorted(found, key=lambda one: (one.judgement.severity, one.alert)))


def closes(
    open_alerts: Iterable[OpenAlert],
    judgements: Mapping[int, Sequence[Judgement]],
    window: str,
    *,
    serving: Collection[int],
    retrained: Collection[str] = (),
) -> tuple[Close, ...]:
    """What is over.

    Args:
        open_alerts: of the model.
        judgements: of the window, by version.
        window: its name; names of one granularity sort by time.
        serving: versions that decide now.
        retrained: alerts whose retrain made a version that serves.
    """
    found = []
    for alert in open_alerts:
        if alert.version is not None and alert.version not in serving:
            cause: Cause = "retrained" if alert.alert in retrained else "version_replaced"
            found.append(Close(alert.alert, cause))
        elif alert.version is not None and _not_older(window, alert.window):
            gone = _gone(alert, judgements.get(alert.version, ()))
            found += [Close(alert.alert, "recovered", gone)] if gone is not None else []
    return tuple(found)


def _not_older(window: str, than: str) -> bool:
    # A quiet day says nothing about a month.
    return len(window) == len(than) and window >= than


def _gone(alert: OpenAlert, judgements: Iterable[Judgement]) -> Judgement | None:
    """The judgement that says so; None where the window says nothing, or that it still holds."""
    for one in judgements:
        if (one.rule, one.subject) == (alert.rule, alert.subject) and one.holds is False:
            return one
    return None
