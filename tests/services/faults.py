"""A small real HTTP proxy that goes wrong on order: throttling, time-outs, lost answers, uploads cut in the middle.

It stands between a client and a real server on loopback, keeps every header as it is (requests are signed), and says
afterwards what passed.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

__all__ = ["Action", "FaultProxy", "Seen"]

Action = Literal["pass", "slow_down", "applied_then_503", "lost_answer", "cut_request", "hang", "half_answer"]
"""``slow_down``: 503, the server never sees it. ``applied_then_503``: the server did it, the client is told 503.
``lost_answer``: the server did it, the connection breaks. ``cut_request``: half of the body arrives, then both
connections break. ``hang``: no answer until the client gives up. ``half_answer``: the answer breaks off."""

_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Seen:
    """One request that came by, and what was done with it."""

    method: str
    path: str
    action: Action


@dataclass
class FaultProxy:
    """``rule(method, path)`` says what happens to a request; ``seen`` is what happened."""

    upstream: int
    rule: Callable[[str, str], Action] = lambda _method, _path: "pass"
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, *actions: Action) -> int:
        """How many requests met one of these fates."""
        return sum(one.action in actions for one in self.seen)

    def first(self, times: int, action: Action, *, method: str = "PUT", path: str = "") -> None:
        """The next so many requests of a method whose path holds a text meet a fate; the others pass."""
        left = [times]

        def rule(asked: str, where: str) -> Action:
            if asked == method and path in where and left[0] > 0:
                left[0] -= 1
                return action
            return "pass"

        self.rule = rule
        self.seen.clear()

    def decide(self, method: str, path: str) -> Action:
        with self._lock:
            action = self.rule(method, path)
            self.seen.append(Seen(method, path, action))
        return action

    def wait_until_over(self) -> None:
        self._over.wait(30)

    @classmethod
    @contextmanager
    def before(cls, upstream: int) -> Iterator[FaultProxy]:
        """A proxy before a port of loopback, on a free port."""
        proxy = cls(upstream)
        server = _Server(("127.0.0.1", 0), _handler(proxy))
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy._over.set()
            server.shutdown()
            server.server_close()
            thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what we are here for."""


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            action = proxy.decide(self.command, self.path)
            self.close_connection = action != "pass"
            if action == "slow_down":
                self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
            elif action == "cut_request":
                self._cut(body)
            elif action == "hang":
                proxy.wait_until_over()
            else:
                self._forward(action, body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815

        def _open(self, length: int) -> http.client.HTTPConnection:
            upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=30)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(length))
            return upstream

        def _forward(self, action: Action, body: bytes) -> None:
            try:
                upstream = self._open(len(body))
                upstream.endheaders(body)
                answer = upstream.getresponse()
                raw = answer.read()
            except (OSError, http.client.HTTPException):
                self.close_connection = True  # the server is away: so are we
                return
            upstream.close()
            if action == "applied_then_503":
                self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
            elif action != "lost_answer":
                length = answer.headers.get("Content-Length") if self.command == "HEAD" else str(len(raw))
                headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
                half = raw[: len(raw) // 2] if action == "half_answer" else raw
                self._answer(answer.status, headers, half, length=length)

        def _cut(self, body: bytes) -> None:
            upstream = self._open(len(body))
            upstream.endheaders(body[: len(body) // 2])
            time.sleep(0.05)
            upstream.close()

        def _answer(
            self, status: int, headers: list[tuple[str, str]], raw: bytes, *, length: str | None = None
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(raw)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
