"""Notices against a real HTTP server."""

from __future__ import annotations

import http.server
import json
import logging
import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager

import pytest

from ml_platform.core.errors import Conflict, SettingsError, StorageFailed
from ml_platform.monitoring import notices as module
from ml_platform.monitoring.notices import AlertRoute, Notice, Target, deliver, payload_of


def notice(index=5, event="raised", severity="P2", **parts):
    default = {
        "event": event,
        "log_index": index,
        "at": "2010-06-01T00:00:00.000000Z",
        "root": "11" * 16,
        "model": "credit_risk",
        "alert": f"al-{index}",
        "rule": "new_category",
        "severity": severity,
        "version": 1,
        "window": "2010-05",
        "subject": "term",
        "cause": None,
        "evidence": "sha256:" + "00" * 32,
    }
    return Notice(**(default | parts))


class Receiver:
    """A server that answers what it is told to, one answer a request, then 200."""

    def __init__(self, answers=()):
        self.answers, self.got, self.keys, self.paths = list(answers), [], [], []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver.answers.pop(0) if receiver.answers else 200
                receiver.paths.append(self.path)
                if answer == 200:
                    receiver.got.append(json.loads(body))
                    receiver.keys.append(self.headers["Idempotency-Key"])
                if answer == "cut":
                    self.connection.close()
                    return
                self.send_response(answer)
                if answer in (301, 307):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def send(folder, found, receiver=None, *, kind="webhook", least="P3", until=100, pauses=None, url=None):
    target = None if receiver is None and url is None else Target(url or receiver.url, "key")
    return deliver(
        AlertRoute("desk", kind, least),
        lambda start: [one for one in found if one.log_index >= start],
        folder=folder,
        sleep=(pauses if pauses is not None else []).append,
        target=target,
        until=until,
    )


def test_a_webhook_gets_every_event_once_in_order(tmp_path):
    found = [notice(5), notice(9, "closed", cause="recovered")]
    with Receiver() as receiver:
        assert send(tmp_path, found, receiver).sent == 2
        again = send(tmp_path, found, receiver)
        assert (again.sent, again.cursor, again.failed) == (0, 100, None)
        assert [one["log_index"] for one in receiver.got] == [5, 9]
        assert send(tmp_path, [*found, notice(100)], receiver, until=101).sent == 1
    assert receiver.keys == ["al-5-5", "al-9-9", "al-100-100"]
    assert receiver.got[1]["cause"] == "recovered"
    assert receiver.got[0]["format"] == "ml-platform/notice/1"


@pytest.mark.parametrize("answer", [500, 503, 429, 408, "cut"])
def test_it_is_tried_again_with_longer_pauses(tmp_path, answer):
    pauses = []
    with Receiver([answer, answer]) as receiver:
        assert send(tmp_path, [notice()], receiver, pauses=pauses).failed is None
    assert len(receiver.got) == 1
    assert pauses == [0.5, 2.0]


@pytest.mark.parametrize(("answer", "attempts"), [(500, 4), (400, 1), (404, 1), (301, 1), (307, 1)])
def test_what_cannot_be_sent_stays_and_is_sent_by_the_next_delivery(tmp_path, answer, attempts):
    with Receiver([200, *[answer] * attempts]) as receiver:
        first = send(tmp_path, [notice(5), notice(6), notice(7)], receiver)
        assert (first.sent, first.cursor) == (1, 6)
        assert str(answer) in first.failed
        assert receiver.url not in first.failed  # an address is a secret
        assert len(receiver.paths) == 1 + attempts
        second = send(tmp_path, [notice(5), notice(6), notice(7)], receiver)
        assert (second.sent, second.failed) == (2, None)
    assert [one["log_index"] for one in receiver.got] == [5, 6, 7]
    assert "/elsewhere" not in receiver.paths


def test_a_receiver_that_is_away_loses_nothing(tmp_path):
    with Receiver() as receiver:
        away = receiver.url
    pauses = []
    found = send(tmp_path, [notice()], url=away, pauses=pauses)
    assert "cannot be reached" in found.failed
    assert pauses == [0.5, 2.0, 8.0]
    with Receiver() as receiver:
        assert send(tmp_path, [notice()], receiver).sent == 1


def _die_after_the_post(folder, url):
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    module._write_cursor = die
    send(folder, [notice(5), notice(6)], url=url)


def test_a_process_that_dies_between_answer_and_cursor_sends_again_under_the_same_key(tmp_path):
    with Receiver() as receiver:
        process = multiprocessing.get_context("spawn").Process(
            target=_die_after_the_post, args=(tmp_path, receiver.url)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert send(tmp_path, [notice(5), notice(6)], receiver).sent == 2
    assert receiver.keys == ["al-5-5", "al-5-5", "al-6-6"]


def test_a_route_wants_only_what_is_grave_enough(tmp_path):
    with Receiver() as receiver:
        found = [notice(1, severity="P0"), notice(2, severity="P1"), notice(3, severity="P2")]
        assert send(tmp_path, found, receiver, least="P1").sent == 2
    assert [one["severity"] for one in receiver.got] == ["P0", "P1"]


def test_slack_gets_a_sentence_and_pagerduty_its_events():
    said = payload_of("slack", notice(cause="version_replaced", event="closed"))
    assert said == {
        "text": "P2 closed (version replaced): new category of term, credit_risk version 1, window 2010-05, al-5"
    }
    page = payload_of("pagerduty", notice(severity="P0"), "key")
    assert (page["routing_key"], page["event_action"], page["dedup_key"]) == ("key", "trigger", "al-5")
    assert page["payload"]["severity"] == "critical"
    assert page["payload"]["timestamp"] == "2010-06-01T00:00:00.000000Z"
    actions = [payload_of("pagerduty", notice(event=event))["event_action"] for event in ("acknowledged", "closed")]
    assert actions == ["acknowledge", "resolve"]
    grades = [payload_of("pagerduty", notice(severity=f"P{level}"))["payload"]["severity"] for level in range(4)]
    assert grades == ["critical", "error", "warning", "info"]


def test_the_log_route_writes_one_line_an_event(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "ml_platform.alerts"):
        assert send(tmp_path, [notice()], kind="log").sent == 1
    (line,) = caplog.messages
    assert json.loads(line)["alert"] == "al-5"


def test_two_processes_do_not_deliver_at_once(tmp_path):
    @contextmanager
    def held():
        import fcntl

        with (tmp_path / "desk.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    with held(), pytest.raises(Conflict, match="alerts"):
        send(tmp_path, [notice()], kind="log")


def test_a_spoilt_cursor_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "desk.json").write_text("{")
    with pytest.raises(StorageFailed, match=r"desk\.json"):
        send(tmp_path, [notice()], kind="log")


def test_an_address_is_http_and_is_never_shown():
    with pytest.raises(SettingsError, match="alerts"):
        Target("file:///etc/passwd")
    assert "secret" not in repr(Target("https://hooks.example/secret", "secret"))
