"""The edge: what it refuses and why, that the rest arrives as it was sent, and that it lives and ends with `mlp serve`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import ServerUnavailable, SettingsError
from ml_platform.lifecycle import predict
from ml_platform.serving.triton import Boot
from ml_platform.serving.triton.nginx import MOST_BODY_BYTES, Edge, Nginx
from tests.serving.triton.roots import family, gone
from tests.serving.triton.routed import MODEL, RoutedRoot, RunningRouter, new_routed_root
from tests.serving.triton.served import Serve
from tests.serving.triton.test_router_model import as_json, post, request
from tests.serving.triton.test_supervisor import eventually, loan
from tests.serving.triton.v2_reference import acceptable

INFER = f"/v2/models/{MODEL}/infer"
LENGTH = "Inference-Header-Content-Length"


# -- before a listener that keeps what reaches it: no rule depends on Triton ---------------------------------------------


@dataclass
class Kept:
    """An edge, and the requests that it let through."""

    edge: Edge
    folder: Path
    arrived: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    def send(self, body: bytes, length: str | None = None, path: str = INFER) -> tuple[int, bytes]:
        status, raw, _ = ask(self.edge.port, "POST", path, body, {} if length is None else {LENGTH: length})
        return status, raw


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


@pytest.fixture(scope="module")
def kept(nginx: Nginx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    found: list[Kept] = []

    class Keeper(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found[0].arrived.append((self.command, self.path, dict(self.headers.items()), raw))
            found[0].connections.add(self.client_address)
            said = b'{"odd":  "\xff\x00"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.send_header(LENGTH, "7")
            self.end_headers()
            self.wfile.write(said)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeper)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    folder = tmp_path_factory.mktemp("edge")
    with Edge.start(nginx, folder, host="127.0.0.1", port=0, upstream_port=server.server_address[1]) as edge:
        found.append(Kept(edge, folder))
        yield found[0]
    server.shutdown()
    thread.join()
    server.server_close()


KINDS = st.sampled_from(["BOOL", "BYTES", "FP16", "FP32", "FP64", "INT8", "INT32", "INT64", "UINT8", "UINT64", "TEXT"])
NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([127, 128, -128, -129, 255, 256, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**307, 10**308]),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
SCALARS = st.one_of(NUMBERS, st.booleans(), st.none(), st.text(max_size=6))
TREES = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)), max_leaves=6)  # fmt: skip
VALUES = {
    "BOOL": st.booleans(), "BYTES": st.text(max_size=5), "FP32": NUMBERS, "FP64": NUMBERS,
    "INT8": st.integers(-128, 127), "INT64": st.integers(-(2**63), 2**63 - 1), "UINT64": st.integers(0, 2**64 - 1),
}  # fmt: skip


@st.composite
def tensors(draw: Any) -> tuple[dict[str, Any], bytes]:
    """Mostly good ones, in JSON or as bytes."""
    kind, shape = draw(st.sampled_from(sorted(VALUES))), draw(st.lists(st.integers(0, 3), max_size=3))
    count = 1
    for size in shape:
        count *= size
    one: dict[str, Any] = {"name": draw(st.sampled_from(["amount", "é", "a b", ""])), "datatype": kind, "shape": shape}
    raw = b""
    if draw(st.booleans()):
        one["data"] = draw(st.lists(VALUES[kind], min_size=count, max_size=count))
        if draw(st.booleans()) and shape and count:
            one["data"] = [one["data"][at : at + shape[-1]] for at in range(0, count, shape[-1])]
    else:
        raw = bytes({"BOOL": 1, "INT8": 1, "FP32": 4, "BYTES": 5}.get(kind, 8) * count)
        one["parameters"] = {"binary_data_size": len(raw)}
    if not draw(st.integers(0, 9)):
        name = draw(st.sampled_from(["name", "datatype", "shape", "data", "parameters", "more"]))
        one[name] = draw(st.one_of(TREES, KINDS, st.lists(st.one_of(st.integers(-1, 4), st.integers(10**6, 2**70)), max_size=10)))  # fmt: skip
    return one, raw


@st.composite
def requests(draw: Any) -> tuple[bytes, str | None]:
    """From good to broken, in every layout that JSON allows; and what the header says of its length."""
    found = draw(st.lists(tensors(), min_size=draw(st.sampled_from([1, 1, 1, 0])), max_size=3))
    document: dict[str, Any] = {"inputs": [one for one, _ in found]}
    if draw(st.booleans()):
        document["outputs"] = [{"name": "score"}]
        if not draw(st.integers(0, 2)):
            known = ["binary_data", "classification", "shared_memory_region", "other"]
            document["outputs"][0]["parameters"] = {draw(st.sampled_from(known)): draw(SCALARS)}
    if not draw(st.integers(0, 9)):
        names = ["inputs", "outputs", "id", "parameters", "more"]
        document[draw(st.sampled_from(names))] = draw(TREES)
    if not draw(st.integers(0, 7)):
        names = ["timeout", "priority", "sequence_id", "sequence_end", "binary_data_output", "other"]
        document["parameters"] = {draw(st.sampled_from(names)): draw(TREES)}
    layout = draw(st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}]))
    header = json.dumps(document, **layout).encode("utf-8", "surrogatepass")
    if not draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(header)))
        junk = draw(st.one_of(st.binary(max_size=3), st.sampled_from([b"0", b"-", b"1e400", b"e9", b".5", b"[", b"}", b",", b'"', b"NaN", b"\\u12", b"\\ud800", b" \n", b"1.0"])))  # fmt: skip
        header = header[:at] + junk + header[at + draw(st.integers(0, 2)) :]
    rest = b"".join(raw for _, raw in found) + draw(st.sampled_from([*[b""] * 9, b"x"]))
    if rest or draw(st.booleans()):
        return header + rest, draw(
            st.sampled_from([str(len(header))] * 30 + ["0", "-1", "7", "99999", "many", "9" * 30])
        )
    return header, None


def test_the_edge_lets_through_what_the_slow_reference_does_and_byte_by_byte(kept: Kept):
    seen = {True: 0, False: 0}

    @settings(
        max_examples=1000, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(requests())
    def same(sent: tuple[bytes, str | None]) -> None:
        body, length = sent
        kept.arrived.clear()
        status, said = kept.send(body, length)
        fine = acceptable(body, length)
        seen[fine] += 1
        assert status == (200 if fine else 400), (said, sent)
        if fine:
            ((method, path, headers, arrived),) = kept.arrived
            assert (method, path, arrived) == ("POST", INFER, body)
            assert headers.get(LENGTH) == length
        else:
            assert not kept.arrived
            field, rule, rest = json.loads(said)["error"].split(": ", 2)
            assert field
            assert rule in {"json", "type", "shape", "length", "range", "missing", "depth", "duplicate", "parameter"}
            assert ". Next: " in rest

    same()
    assert min(seen.values()) > 200


EMPTY = b'{"name": "a", "datatype": "BOOL", "shape": [0], "data": []}'
BAD = {
    "body: missing: ": b"",
    "body: json: something after the object": b'{"inputs": [' + EMPTY + b"]} x",
    "body: duplicate: ": b'{"id": "a", "id": "b"}',
    "body: json: a member's name with an escape": b'{"in\\u0070uts": []}',
    "body: json: a text with half": b'{"id": "\\ud800"}',
    "body: depth: ": b'{"more": ' + b"[" * 16 + b"]" * 16 + b"}",
    "inputs: missing: no list": b'{"id": "a"}',
    "inputs: length: ": json.dumps({"inputs": [{"name": "a", "datatype": "BOOL", "shape": [0], "data": []}] * 4097}),
    "amount: shape: another number": b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [2], "data": [1]}]}',
    "amount: shape: a dimension": b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [16777217]}]}',
    "amount: shape: too many values": b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [4097, 4096]}]}',
    "amount: shape: too many dimensions": b'{"inputs": [{"name": "amount", "shape": [1, 1, 1, 1, 1, 1, 1, 1, 1]}]}',
    "inputs[0]: shape: a dimension": b'{"inputs": [{"name": "a secret value", "shape": [16777217]}]}',
    "amount: depth: ": b'{"inputs": [{"name": "amount", "data": ' + b"[" * 13 + b"]" * 13 + b"}]}",
    "outputs[0].parameters: parameter: ": b'{"outputs": [{"name": "decision", "parameters": {"classification": 1}}]}',
}


@pytest.mark.parametrize("said", BAD)
def test_a_refusal_names_field_rule_and_next_step_but_no_value(kept: Kept, said: str):
    body = BAD[said] if isinstance(BAD[said], bytes) else BAD[said].encode()
    status, raw = kept.send(body)
    error = json.loads(raw)["error"]
    assert status == 400
    assert error.startswith(said)
    assert ". Next: " in error
    assert "secret" not in error


LIMITS = {
    "INT8": (-(2**7), 2**7 - 1), "INT16": (-(2**15), 2**15 - 1), "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1), "UINT8": (0, 2**8 - 1), "UINT16": (0, 2**16 - 1), "UINT32": (0, 2**32 - 1),
    "UINT64": (0, 2**64 - 1),
}  # fmt: skip


@pytest.mark.parametrize("datatype", LIMITS)
def test_an_integer_is_refused_from_the_first_that_its_type_cannot_hold(kept: Kept, datatype: str):
    low, high = LIMITS[datatype]
    for value, fine in ((low, True), (high, True), (low - 1, False), (high + 1, False), (f"{high}.0", False)):
        body = f'{{"inputs": [{{"name": "a", "datatype": "{datatype}", "shape": [1], "data": [{value}]}}]}}'.encode()
        status, raw = kept.send(body)
        assert status == (200 if fine else 400), raw
        assert acceptable(body) == fine


@pytest.mark.parametrize("dimensions", [8, 9])
def test_a_tensor_has_eight_dimensions_at_most(kept: Kept, dimensions: int):
    body = json.dumps(
        {"inputs": [{"name": "a", "datatype": "BOOL", "shape": [1] * dimensions, "data": [True]}]}
    ).encode()
    assert kept.send(body)[0] == (200 if dimensions == 8 else 400)
    assert acceptable(body) == (dimensions == 8)


@pytest.mark.parametrize("depth", [15, 16])
def test_the_limits_are_where_they_are_said_to_be(kept: Kept, depth: int):
    one = b'{"name": "a", "datatype": "BOOL", "shape": [0, 16777216], "data": []}'
    body = b'{"inputs": [' + one + b'], "more": ' + b"[" * depth + b"]" * depth + b"}"
    assert kept.send(body)[0] == (200 if depth == 15 else 400)
    assert acceptable(body) == (depth == 15)


@pytest.mark.parametrize(
    ("method", "path", "status", "passed"),
    [
        ("GET", "/v2", 200, True),
        ("GET", "/v2/health/ready", 200, True),
        ("GET", "/v2/health/live", 200, True),
        ("GET", f"/v2/models/{MODEL}", 200, True),
        ("GET", f"/v2/models/{MODEL}/versions/1/config", 200, True),
        ("GET", f"/v2/models/{MODEL}/stats", 200, True),
        ("POST", f"/v2/models/{MODEL}/versions/1/infer", 200, True),
        ("POST", f"/v2/models/{MODEL}/%69nfer", 200, True),
        ("GET", INFER, 405, False),
        ("PUT", INFER, 405, False),
        ("POST", f"/v2/models/{MODEL}", 405, False),
        ("POST", f"/v2/models/{MODEL}/generate", 404, False),
        ("POST", "/v2/repository/index", 404, False),
        ("POST", f"/v2/repository/models/{MODEL}/unload", 404, False),
        ("GET", "/v2/systemsharedmemory/status", 404, False),
        ("POST", "/v2/systemsharedmemory/region/a/register", 404, False),
        ("GET", "/v2/trace/setting", 404, False),
        ("POST", "/v2/logging", 404, False),
        ("GET", f"/v2/models/{MODEL}/trace/setting", 404, False),
        ("GET", "/edge/unreadable", 404, False),
        ("GET", "/" + "a" * 20_000, 414, False),
        ("GET", "/v2/models/a%00", 400, False),
    ],
)
def test_only_questions_are_open(kept: Kept, method: str, path: str, status: int, passed: bool):
    kept.arrived.clear()
    body = json.dumps(as_json(request())).encode()
    found, raw, _ = ask(kept.edge.port, method, path, body)
    assert (found, bool(kept.arrived)) == (status, passed), raw
    if not passed and path != "/edge/unreadable":
        assert "error" in json.loads(raw)
    if passed and method == "GET":
        assert kept.arrived[0][3] == b""  # what reads has no body


def test_bodies_that_are_too_large_or_compressed_are_refused(kept: Kept):
    good = json.dumps(as_json(request())).encode()
    spaces = MOST_BODY_BYTES - len(good)
    kept.arrived.clear()
    assert kept.send(good + b" " * spaces)[0] == 200
    assert len(kept.arrived[0][3]) == MOST_BODY_BYTES
    status, raw = kept.send(good + b" " * (spaces + 1))
    assert status == 413
    assert json.loads(raw)["error"].startswith("body: size: ")
    for encoding in ("gzip", "deflate", "br"):
        status, raw, _ = ask(kept.edge.port, "POST", INFER, good, {"Content-Encoding": encoding})
        assert status == 415
        assert json.loads(raw)["error"].startswith("Content-Encoding: encoding: ")


def raw_exchange(port: int, sent: bytes, *, close: bool = False) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        if close:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        while block := connection.recv(65_536):
            found += block
            if b"\r\n\r\n" in found and not close:
                break
        return found


def test_lengths_that_lie_and_what_is_no_http_reach_nobody(kept: Kept):
    kept.arrived.clear()
    good = json.dumps(as_json(request())).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\n".encode()
    longer = raw_exchange(kept.edge.port, head + b"Content-Length: %d\r\n\r\n" % (len(good) + 9) + good, close=True)
    assert longer == b"" or b" 400 " in longer.split(b"\r\n")[0]
    shorter = raw_exchange(kept.edge.port, head + b"Content-Length: %d\r\n\r\n" % (len(good) - 9) + good)
    assert b" 400 " in shorter.split(b"\r\n")[0]
    for lines in (
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: many\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"A: " + b"a" * 40_000 + b"\r\n\r\n",
    ):
        found = raw_exchange(kept.edge.port, head + lines)
        assert found.split(b" ")[1] in {b"400", b"431"}, (lines[:40], found[:80])
    twice = head + b"%s: 3\r\n%s: 4\r\n" % (LENGTH.encode(), LENGTH.encode())
    found = raw_exchange(kept.edge.port, twice + b"Content-Length: %d\r\n\r\n" % len(good) + good)
    assert b" 400 " in found.split(b"\r\n")[0]
    assert not kept.arrived
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(good), good)
    assert b" 200 " in raw_exchange(kept.edge.port, chunked).split(b"\r\n")[0]
    assert kept.arrived[0][3] == good


def test_answers_come_back_byte_by_byte_over_connections_that_are_kept(kept: Kept):
    good = json.dumps(as_json(request())).encode()
    kept.connections.clear()
    connection = http.client.HTTPConnection("127.0.0.1", kept.edge.port, timeout=20)
    for _ in range(50):
        connection.request("POST", INFER, body=good)
        answer = connection.getresponse()
        assert answer.read() == b'{"odd":  "\xff\x00"}'
        assert answer.getheader(LENGTH) == "7"
        connection.request("POST", INFER, body=b"{")
        refused = connection.getresponse()
        assert refused.status == 400
        refused.read()
    connection.close()
    assert len(kept.connections) == 1  # to the server behind it, too


def metrics(port: int) -> dict[str, float]:
    lines = ask(port, "GET", "/edge/metrics")[1].decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_what_is_refused_is_counted_by_rule(kept: Kept):
    before = metrics(kept.edge.port)
    for body in (b"{", b"{", BAD["amount: shape: a dimension"], json.dumps(as_json(request())).encode()):
        kept.send(body)
    after = metrics(kept.edge.port)
    risen = {name: value - before[name] for name, value in after.items() if value != before[name]}
    assert risen == {
        "ml_platform_edge_requests_total": 4,
        'ml_platform_edge_refused_total{rule="json"}': 2,
        'ml_platform_edge_refused_total{rule="shape"}': 1,
    }


def test_the_edge_writes_into_the_roots_run_folder_only_and_no_value_into_its_log(kept: Kept):
    kept.send(b'{"inputs": [{"name": "a", "datatype": "BYTES", "shape": [2], "data": ["a secret"]}]}')
    files = {str(path.relative_to(kept.folder)) for path in kept.folder.rglob("*") if path.is_file()}
    assert files == {"serving/edge.log", "serving/edge/nginx.conf", "serving/edge/nginx.pid"}
    assert "secret" not in (kept.folder / "serving" / "edge.log").read_text()
    (worker,) = psutil.Process(kept.edge.pid).children()
    assert worker.uids().real != 0
    listening = {one.laddr.ip for one in worker.net_connections() if one.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1"}


def test_a_port_that_is_taken_and_an_nginx_that_takes_no_configuration_are_said(nginx: Nginx, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            (ServerUnavailable, SettingsError), match=r"edge did not become ready|Address already in use"
        ):
            Edge.start(nginx, tmp_path, host="127.0.0.1", port=port, upstream_port=1)
    with pytest.raises(SettingsError, match="does not take its configuration"):
        Edge.start(Nginx(nginx.binary, tmp_path), tmp_path, host="127.0.0.1", port=0, upstream_port=1)


# -- before Triton -------------------------------------------------------------------------------------------------------


def deadly() -> Iterator[tuple[str, bytes]]:
    """What ends a Triton 2.51 that is asked without an edge, or gets 500 from it (docs/serving.md)."""
    good = as_json(request())
    for shape in ([2**63 - 1], [1, 10**14], [1, 10**9], [2**32, 2**32], [2**64], [-1, 1], [1.0, 1]):
        changed = json.loads(json.dumps(good))
        changed["inputs"][1]["shape"] = shape
        yield f"shape {shape}", json.dumps(changed).encode()
    deep = b"[" * 200_000 + b"]" * 200_000
    raw = json.dumps(good).encode()[:-1]
    yield "deep", raw + b', "more": ' + deep + b"}"
    yield "deep parameters", raw + b', "parameters": {"a": ' + deep + b"}}"
    yield "deep data", b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [1, 1], "data": ' + deep + b"}]}"
    yield "twice", raw + b', "inputs": [{"name": "amount", "datatype": "FP64", "shape": [1, 100000000000000], "data": [1]}]}'  # fmt: skip
    for name in ("decision", "prediction_id", "reason_codes"):
        yield (
            f"classification of {name}",
            json.dumps({**good, "outputs": [{"name": name, "parameters": {"classification": 2}}]}).encode(),
        )
    yield "no JSON", b"{"
    yield "a number that is none", raw + b', "id": 1e400}'


def test_no_client_ends_the_server_over_rest(nginx: Nginx, router: RunningRouter):
    boot = router.server.boot
    for name, body in deadly():
        status, raw = post(router, body)
        assert status == 400, (name, raw)
    assert router.server.alive
    assert router.server.boot == boot
    assert router.ask()["version"][0, 0] == 1


# -- with `mlp serve` ----------------------------------------------------------------------------------------------------


@pytest.fixture
def routed(tmp_path: Path, triton) -> RoutedRoot:
    return new_routed_root(tmp_path / "root")


def infer(port: int) -> int:
    try:
        return ask(port, "POST", INFER, json.dumps(as_json(request())).encode())[0]
    except OSError:
        return 0


def test_serve_keeps_the_edge_through_every_death_and_leaves_nothing(nginx: Nginx, routed: RoutedRoot, repository):
    serve = Serve(routed, repository, "--edge", "nginx")
    try:
        where = serve.ready()
        boot = Boot.read(routed.folder)
        assert where["edge"] == "nginx"
        assert where["http"] == f"http://127.0.0.1:{boot.edge_port}"
        assert boot.edge_port not in {0, boot.http_port}
        assert "edge: nginx" in serve.said.read_text()
        assert infer(boot.edge_port) == 200
        assert predict(routed.folder, MODEL, loan())["version"] == 1
        master = int((routed.folder / "serving" / "edge" / "nginx.pid").read_text())
        first = family(master)
        assert len(first) == 2  # its worker
        os.kill(master, signal.SIGKILL)
        assert gone(first)  # the worker with it
        eventually(lambda: infer(boot.edge_port) == 200)  # on the same port
        assert "the edge has ended; starting it again" in serve.said.read_text()
        os.kill(boot.pid, signal.SIGKILL)
        _, raw, headers = eventually(lambda: _away(boot.edge_port))
        assert json.loads(raw)["error"].startswith("serving: away: ")
        assert headers["retry-after"]
        assert metrics(boot.edge_port)["ml_platform_edge_away_total"] >= 1
        again = serve.ready()
        assert again["http"] == where["http"]
        assert infer(boot.edge_port) == 200
        processes = family(serve.process.pid)
        assert sum("nginx" in one.name() for one in processes) == 2
        serve.process.kill()
        assert gone(processes)
    finally:
        serve.close()


def _away(port: int) -> Any:
    answer = ask(port, "POST", INFER, json.dumps(as_json(request())).encode())
    return answer if answer[0] == 503 else None


def test_a_machine_without_nginx_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("ml_platform.serving.triton.nginx.shutil.which", lambda *_args, **_more: None)
    assert Nginx.find() is None
    with pytest.raises(SettingsError, match="no nginx with the Lua module") as error:
        Nginx.required()
    assert "libnginx-mod-http-lua" in str(error.value)
