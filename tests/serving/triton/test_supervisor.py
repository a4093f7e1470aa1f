"""`mlp serve` as a process: it follows routes, survives crashes of the server, and leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ml_platform.core.errors import ContractViolation, PlatformError, ServerUnavailable
from ml_platform.core.ids import id_text
from ml_platform.lifecycle import predict
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton import Boot, Server, TritonClient
from ml_platform.serving.triton.boot import boot_path
from tests.serving.triton.roots import family, gone
from tests.serving.triton.routed import MODEL, RoutedRoot, RunningRouter, new_routed_root, push, request
from tests.serving.triton.served import Serve, command


@pytest.fixture
def routed(tmp_path: Path, triton) -> RoutedRoot:
    return new_routed_root(tmp_path / "root")


@pytest.fixture
def serve(routed: RoutedRoot, repository: Path) -> Iterator[Serve]:
    one = Serve(routed, repository)
    yield one
    one.close()


def eventually(found: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert value, "it did not happen"
    return value


def loan(number: int = 1) -> dict[str, Any]:
    return {"loan_id": number, "amount": 1.5, "income": 40.0, "term": 36, "grade": "B"}


def answers(root: RoutedRoot) -> dict[str, Any] | None:
    try:
        return predict(root.folder, MODEL, loan())
    except PlatformError:
        return None


@pytest.fixture(params=["auto", "none"])
def edged(request: pytest.FixtureRequest, routed: RoutedRoot, repository: Path) -> Iterator[Serve]:
    one = Serve(routed, repository, "--edge", request.param)
    yield one
    one.close()


def test_it_serves_what_is_routed_and_leaves_nothing_when_it_is_stopped(edged: Serve):
    serve = edged
    where = serve.ready()
    boot = Boot.read(serve.root.folder)
    assert where["http"] == f"http://127.0.0.1:{boot.rest_port}"
    with TritonClient(boot) as client:
        assert client.loaded() == {MODEL, f"{MODEL}.v1", f"{MODEL}.v2"}
    assert predict(serve.root.folder, MODEL, loan())["version"] == 1
    processes = family(serve.process.pid)
    assert (boot.edge_port > 0) == (where["edge"] == "nginx")
    if where["edge"] == "none":
        assert "Triton answers 500 to bodies that it cannot read" in serve.said.read_text()
    assert serve.end(signal.SIGINT if boot.edge_port else signal.SIGTERM) == 0
    assert gone(processes)
    assert not boot_path(serve.root.folder).exists()
    assert "has stopped" in serve.said.read_text()


def test_nothing_outlives_a_serve_that_was_killed(serve: Serve):
    serve.ready()
    processes = family(serve.process.pid)
    assert len(processes) >= 5  # mlp, guard, server, router, versions
    serve.process.kill()
    assert gone(processes)
    assert not boot_path(serve.root.folder).exists()


def test_a_second_serve_on_the_same_root_is_a_conflict(serve: Serve, repository: Path):
    serve.ready()
    second = subprocess.run(
        [*command(), "--root", str(serve.root.folder)], cwd=repository, capture_output=True, text=True, check=False
    )
    assert second.returncode == 6
    assert json.loads(second.stdout)["error"]["kind"] == "Conflict"
    assert answers(serve.root)


def test_a_model_is_served_as_soon_as_it_has_a_route_and_a_new_route_is_followed(tmp_path, repository, triton):
    root = new_routed_root(tmp_path / "root", primary=None)
    serve = Serve(root, repository)
    try:
        serve.ready()
        with pytest.raises(PlatformError):
            predict(root.folder, MODEL, loan())
        assert f"{MODEL} has no route yet" in serve.said.read_text()
        first = root.route(1)
        assert eventually(lambda: answers(root))["version"] == 1
        root.route(2, before=first)
        answer = eventually(lambda: answers(root))
        assert (answer["version"], answer["epoch"]) == (2, 2)
        root.routes.route_path.write_bytes(b"{}")  # torn: the last good one stands, and it is said
        assert eventually(lambda: "is not followed" in serve.said.read_text())
        assert answers(root)["version"] == 2
        with pytest.raises(ContractViolation) as refused:
            predict(root.folder, MODEL, {**loan(), "income": float("nan")})
        assert refused.value.what.startswith("The request is refused: income: finite: ")
        assert refused.value.next_step == "send what the model's contract takes."
        assert list(answers(root)) == ["score", "decision", "version", "prediction_id", "epoch", "reason_codes"]
        assert serve.end() == 0
    finally:
        serve.close()


class Load:
    """Clients that ask all the time; what they were answered, and how often they were not."""

    def __init__(self, root: RoutedRoot, clients: int = 4) -> None:
        self.root = root
        self.answered: list[str] = []
        self.failed = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, client_number: int) -> None:
        number = client_number * 1_000_000
        while not self._stop.is_set():
            try:
                with TritonClient(Boot.read(self.root.folder), timeout_seconds=5.0) as client:
                    while not self._stop.is_set():
                        number += 1
                        answer = client.infer(MODEL, request(number))
                        self.answered.append(answer["prediction_id"][0, 0])
            except PlatformError:
                self.failed += 1
                time.sleep(0.05)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_server_killed_under_load_comes_back_with_the_routed_versions_and_every_answer_is_recorded_once(serve: Serve):
    where = serve.ready()
    before = Boot.read(serve.root.folder)
    load = Load(serve.root)
    try:
        eventually(lambda: len(load.answered) > 200)
        os.kill(before.pid, signal.SIGKILL)
        again = serve.ready()
        answered = len(load.answered)
        eventually(lambda: len(load.answered) > answered + 200)
    finally:
        load.stop()
    after = Boot.read(serve.root.folder)
    assert (again["http"], again["grpc"]) == (where["http"], where["grpc"])
    assert after.pid != before.pid
    assert after.capability != before.capability
    with TritonClient(after) as client:
        assert client.loaded() == {MODEL, f"{MODEL}.v1", f"{MODEL}.v2"}
    _recorded_once(serve.root, load)


def _recorded_once(root: RoutedRoot, load: Load) -> None:
    logged = [id_text(one.header.prediction_id) for one in root.decisions()]
    assert len(set(logged)) == len(logged)
    assert set(load.answered) <= set(logged)
    assert len(set(load.answered)) == len(load.answered)
    by_writer: dict[str, list[int]] = {}
    for one in root.decisions():
        by_writer.setdefault(one.header.writer, []).append(one.header.seq)
    assert len(by_writer) == 2
    assert all(seqs == list(range(len(seqs))) for seqs in by_writer.values())


def test_a_router_process_killed_under_load_is_replaced_and_every_answer_is_recorded_once(serve: Serve):
    serve.ready()
    boot = Boot.read(serve.root.folder)
    (writer,) = (serve.root.folder / "wal" / MODEL).iterdir()
    pid = json.loads((writer / "writer.json").read_bytes())["pid"]
    load = Load(serve.root)
    try:
        eventually(lambda: len(load.answered) > 200)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(list((serve.root.folder / "wal" / MODEL).iterdir())) == 2)
        answered = len(load.answered)
        eventually(lambda: len(load.answered) > answered + 200)
    finally:
        load.stop()
    assert Boot.read(serve.root.folder) == boot or not psutil.pid_exists(boot.pid)
    _recorded_once(serve.root, load)


def test_a_request_that_brings_triton_down_costs_seconds_and_no_record(serve: Serve):
    """Triton 2.51 reserves memory for any shape that a JSON body names; over gRPC the same is refused."""
    serve.ready()
    answered = predict(serve.root.folder, MODEL, loan())["prediction_id"]
    boot = Boot.read(serve.root.folder)
    connection = http.client.HTTPConnection("127.0.0.1", boot.http_port, timeout=20)
    tensor = {"name": "amount", "datatype": "FP64", "shape": [1, 10**14], "data": [1]}
    connection.request("POST", f"/v2/models/{MODEL}/infer", body=json.dumps({"inputs": [tensor]}))
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.getresponse()
    connection.close()
    serve.ready()
    assert Boot.read(serve.root.folder).pid != boot.pid
    assert eventually(lambda: answers(serve.root))
    assert answered in {id_text(one.header.prediction_id) for one in serve.root.decisions()}


def test_a_router_without_a_route_says_503(tmp_path, triton):
    root = new_routed_root(tmp_path / "root", primary=None)
    with Server.start(root.folder, root.settings_file) as server, TritonClient(server.boot) as client:
        push(root, server, client, Serving(max_batch=16))
        router = RunningRouter(root, server, client)
        with pytest.raises(ServerUnavailable, match="route"):
            router.ask()
        connection = http.client.HTTPConnection("127.0.0.1", server.boot.http_port, timeout=20)
        inputs = [
            {"name": name, "datatype": kind, "shape": [1, 1], "data": [value]}
            for (name, value), kind in zip(loan().items(), ("INT64", "FP64", "FP64", "INT64", "BYTES"), strict=True)
        ]
        connection.request("POST", f"/v2/models/{MODEL}/infer", body=json.dumps({"inputs": inputs}))
        answer = connection.getresponse()
        assert answer.status == 503, answer.read()
        answer.read()
        connection.close()
        root.route(1)
        assert router.ask()["version"][0, 0] == 1
