"""Telling people about alerts: a log line, or an HTTP POST to a webhook, Slack or PagerDuty.

The audit log is the outbox. A route remembers the index of the last event that it delivered, written after the
receiver's 2xx: a crash in between sends that event again under the same ``Idempotency-Key``, and loses none. A notice
says which rule, which feature, which version and which window; never a row's value.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib import error, request

from ml_platform.core.errors import Conflict, SettingsError, StorageFailed
from ml_platform.core.files import write_atomically

__all__ = ["AlertRoute", "Delivered", "Notice", "Target", "deliver", "payload_of"]

Event = Literal["raised", "acknowledged", "closed"]
RouteKind = Literal["log", "webhook", "slack", "pagerduty"]
PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"
ATTEMPTS: Final = 4
FIRST_PAUSE_SECONDS: Final = 0.5
TIMEOUT_SECONDS: Final = 10.0
_PAGERDUTY: Final[Mapping[str, str]] = {"P0": "critical", "P1": "error", "P2": "warning", "P3": "info"}
_ACTIONS: Final[Mapping[str, str]] = {"raised": "trigger", "acknowledged": "acknowledge", "closed": "resolve"}
_AGAIN: Final = frozenset({408, 425, 429})
_LOG: Final = logging.getLogger("ml_platform.alerts")


@dataclass(frozen=True)
class Notice:
    """One event of an alert, as it is told."""

    event: Event
    log_index: int
    at: str
    root: str
    model: str
    alert: str
    rule: str
    severity: str
    version: int | None
    window: str
    subject: str | None
    cause: str | None
    evidence: str

    @property
    def sentence(self) -> str:
        """For people."""
        about = self.model if self.version is None else f"{self.model} version {self.version}"
        subject = "" if self.subject is None else f" of {self.subject}"
        ended = "" if self.cause is None else f" ({self.cause.replace('_', ' ')})"
        rule = self.rule.replace("_", " ")
        return f"{self.severity} {self.event}{ended}: {rule}{subject}, {about}, window {self.window}, {self.alert}"


@dataclass(frozen=True)
class AlertRoute:
    """Where notices go.

    Args:
        name: of the route; its cursor has it.
        kind: ``log``, ``webhook``, ``slack`` or ``pagerduty``.
        least: the mildest severity that it wants: ``P1`` takes P0 and P1.
    """

    name: str
    kind: RouteKind
    least: str = "P3"

    def wants(self, notice: Notice) -> bool:
        return notice.severity <= self.least


@dataclass(frozen=True)
class Target:
    """Where a route posts to; a secret of the root, never shown.

    Args:
        url: absolute, ``http`` or ``https``.
        key: PagerDuty's routing key.
    """

    url: str
    key: str | None = None

    def __repr__(self) -> str:
        return "Target(…)"

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise SettingsError(
                "The address of an alert route is no http address.",
                field="alerts",
                next_step="Write the whole address, beginning with https://.",
            )


@dataclass(frozen=True)
class Delivered:
    """What a route delivered now, and where it stands. ``failed`` says why it stopped; None when it is up to date."""

    route: str
    sent: int
    cursor: int
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def payload_of(kind: RouteKind, notice: Notice, key: str | None = None) -> dict[str, Any]:
    """The JSON body in the receiver's own shape.

    Sources: PagerDuty Events API v2; Slack incoming webhooks.
    """
    if kind == "slack":
        return {"text": notice.sentence}
    if kind == "pagerduty":
        return {
            "routing_key": key,
            "event_action": _ACTIONS[notice.event],
            "dedup_key": notice.alert,
            "payload": {
                "summary": notice.sentence,
                "source": notice.model,
                "severity": _PAGERDUTY[notice.severity],
                "timestamp": notice.at,
                "component": notice.subject or notice.rule,
                "custom_details": asdict(notice),
            },
        }
    return {"format": "ml-platform/notice/1", **asdict(notice), "text": notice.sentence}


def deliver(
    route: AlertRoute,
    notices: Callable[[int], Iterable[Notice]],
    *,
    folder: Path,
    sleep: Callable[[float], None],
    target: Target | None = None,
    until: int,
) -> Delivered:
    """Sends what the route has not sent yet, in the order of the log; stops at the first that cannot be sent.

    Args:
        route: where to.
        notices: those from a log index on, in order.
        folder: where cursors lie.
        sleep: waits so many seconds between two attempts.
        target: of every route but ``log``.
        until: entries that the log holds now.

    Raises:
        Conflict: another process is delivering on this route.
        StorageFailed: the cursor cannot be written.
    """
    with _locked(folder / f"{route.name}.lock"):
        path = folder / f"{route.name}.json"
        cursor, sent = _read_cursor(path), 0
        for notice in notices(cursor):
            if route.wants(notice):
                failed = _send(route, notice, target, sleep)
                if failed is not None:
                    return Delivered(route.name, sent, cursor, failed)
                sent += 1
            cursor = notice.log_index + 1
            _write_cursor(path, cursor)
        if cursor < until:
            _write_cursor(path, until)
        return Delivered(route.name, sent, max(cursor, until))


def _send(route: AlertRoute, notice: Notice, target: Target | None, sleep: Callable[[float], None]) -> str | None:
    if route.kind == "log" or target is None:
        _LOG.warning("%s", json.dumps(payload_of("log", notice), sort_keys=True))
        return None
    raw = json.dumps(payload_of(route.kind, notice, target.key)).encode()
    said: str | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(FIRST_PAUSE_SECONDS * 4 ** (attempt - 1))
        said, again = _post(target.url, raw, f"{notice.alert}-{notice.log_index}")
        if not again:
            break
    return said


class _NoRedirect(request.HTTPRedirectHandler):
    """A POST that is redirected would be sent on as a GET without its body."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, raw: bytes, key: str) -> tuple[str | None, bool]:
    """(what went wrong or None, whether trying again may help)."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "ml-platform"}
    wanted = request.Request(url, raw, headers, method="POST")  # noqa: S310 - Target allows http and https only
    try:
        with request.build_opener(_NoRedirect).open(wanted, timeout=TIMEOUT_SECONDS):
            return None, False
    except error.HTTPError as refused:
        refused.close()
        return f"the receiver answered {refused.code}", refused.code >= 500 or refused.code in _AGAIN
    except (OSError, ValueError) as failed:  # refused, timed out, cut off; ValueError: an answer that is no HTTP
        return f"the receiver cannot be reached ({type(failed).__name__})", True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "Another process is delivering on this route.", field="alerts", next_step="Let it finish."
            ) from None
        yield


def _read_cursor(path: Path) -> int:
    try:
        return int(json.loads(path.read_bytes())["next"])
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as failed:
        raise StorageFailed(
            "The cursor of an alert route cannot be read.",
            field=path.name,
            next_step="Remove it to send everything again: receivers know events by their key.",
        ) from failed


def _write_cursor(path: Path, cursor: int) -> None:
    write_atomically(path, json.dumps({"next": cursor}).encode(), mode=0o600)
