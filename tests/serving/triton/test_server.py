from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ml_platform.core.errors import Conflict, ServerUnavailable
from ml_platform.core.settings import ServingSettings
from ml_platform.serving.triton import Boot, Server
from ml_platform.serving.triton.boot import boot_path
from tests.serving.triton.roots import MODEL, SERVING, Root, family, gone

STARTER = """
import sys, time
from pathlib import Path
from ml_platform.core.objects import ObjectStore
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton import Pusher, Server, TritonClient

root, artifact = Path(sys.argv[1]), sys.argv[2]
server = Server.start(root, root / "settings.toml")
with TritonClient(server.boot) as client:
    Pusher(root, ObjectStore(root / "store"), server.boot, client).version("credit_risk", 1, artifact, Serving())
server.announce()
print(server.boot.pid, server._guarded._guard.pid, flush=True)
time.sleep(600)
"""


def regions(root: Root) -> list[Path]:
    """Shared memory of the servers of this root."""
    import hashlib

    prefix = f"mlp_{hashlib.sha256(str(root.folder.resolve()).encode()).hexdigest()[:12]}_"
    return list(Path("/dev/shm").glob(f"{prefix}*"))


@pytest.fixture
def parent(root: Root):
    """A process that has started a server with a version; yields it, the server's and the guard's process ids."""
    command = [sys.executable, "-c", STARTER, str(root.folder), root.artifact.digest]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    yield process, *pids
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_server_starts_says_where_it_is_and_leaves_nothing_when_it_stops(root: Root):
    with root.start() as server:
        with pytest.raises(ServerUnavailable, match="mlp serve"):
            Boot.read(root.folder)  # not announced yet
        server.announce()
        assert Boot.read(root.folder) == server.boot
        assert stat.S_IMODE(boot_path(root.folder).stat().st_mode) == 0o600
        assert stat.S_IMODE(boot_path(root.folder).parent.stat().st_mode) == 0o700
        assert server.alive
        processes = family(server.boot.pid)
        for secret in (server.boot.control_key, server.boot.capability):
            assert secret not in repr(server) + str(server.boot)
        assert server.boot.capability not in " ".join(psutil.Process(server.boot.pid).cmdline())
    assert gone(processes)
    assert not server.alive
    assert not boot_path(root.folder).exists()
    assert regions(root) == []
    server.stop()  # again: nothing happens


def test_it_listens_on_loopback_only_and_on_the_ports_that_are_set(root: Root):
    with root.start() as first:
        ports = ServingSettings("127.0.0.1", first.boot.http_port, first.boot.grpc_port, first.boot.metrics_port)
    with Server.start(root.folder, root.settings_file, ports) as server:
        assert (server.boot.http_port, server.boot.grpc_port) == (ports.http_port, ports.grpc_port)
        listening = [
            one.laddr for one in psutil.Process(server.boot.pid).net_connections("tcp") if one.status == "LISTEN"
        ]
        assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
        assert {address.port for address in listening} == {ports.http_port, ports.grpc_port, ports.metrics_port}


def test_a_taken_port_is_an_error_that_names_the_log_and_leaves_nothing(root: Root):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ServerUnavailable, match=r"triton\.log"):
            Server.start(root.folder, root.settings_file, ServingSettings(grpc_port=other.getsockname()[1]))
    with root.start() as server:  # the lock is free again
        assert server.alive


def test_a_root_has_one_server(root: Root):
    with root.start() as server, pytest.raises(Conflict, match="runs for this root already"):
        root.start()
    assert not server.alive


def test_a_stale_boot_file_is_no_server(root: Root):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    boot = Boot.new(grpc_port=1, http_port=2, metrics_port=3)
    folder = boot_path(root.folder).parent
    folder.mkdir()
    boot_path(root.folder).write_text(json.dumps({**boot.__dict__, "pid": dead.pid}))
    with pytest.raises(ServerUnavailable, match="No inference server runs"):
        Boot.read(root.folder)
    boot_path(root.folder).write_text("{")
    with pytest.raises(ServerUnavailable, match="No inference server runs"):
        Boot.read(root.folder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_parent_that_was_killed(root: Root, parent, how: signal.Signals):
    process, server, guard = parent
    processes = [*family(server), psutil.Process(guard)]
    assert len(processes) >= 3  # server, its Python stub, the guard
    process.send_signal(how)
    assert gone(processes)
    assert not boot_path(root.folder).exists()
    assert regions(root) == []
    with root.start() as again:
        assert again.alive


def test_no_process_outlives_a_guard_that_was_killed(root: Root, parent):
    process, server, guard = parent
    processes = family(server)
    os.kill(guard, signal.SIGKILL)
    assert gone(processes)
    process.kill()
    process.wait()
    with root.start():  # the next start takes the shared memory that nobody could give back
        pass
    assert regions(root) == []


def test_the_end_of_the_server_is_seen(root: Root):
    with root.start() as server:
        assert not server.wait(0.05)
        processes = family(server.boot.pid)
        os.kill(server.boot.pid, signal.SIGKILL)
        assert server.wait(30.0)
        assert not server.alive
        assert gone(processes)


def control(server: Server, path: str, headers: dict[str, str] | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.boot.http_port, timeout=10)
    connection.request("POST", path, body=b"{}", headers=headers or {})
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/credit_risk.v1/unload",
        "/v2/repository/models/credit_risk.v1/load",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/trace/setting",
        "/v2/logging",
    ],
)
def test_control_over_http_is_closed_to_clients(running, path: str):
    assert control(running.server, path) == 403
    assert control(running.server, path, {"ml-platform-control": "0" * 64}) == 403
    assert "credit_risk.v1" in running.client.loaded()


def test_control_over_http_opens_with_the_key(running):
    header = {"ml-platform-control": running.server.boot.control_key}
    assert control(running.server, "/v2/repository/index", header) == 200


def test_control_over_grpc_is_closed_to_clients(running):
    from tritonclient import grpc

    with grpc.InferenceServerClient(f"127.0.0.1:{running.server.boot.grpc_port}") as client:
        for call in (
            client.get_model_repository_index,
            lambda: client.unload_model("credit_risk.v1"),
            lambda: client.load_model("credit_risk.v1"),
            client.get_trace_settings,
            client.get_log_settings,
            client.get_system_shared_memory_status,
        ):
            with pytest.raises(Exception, match="restricted"):
                call()
    assert "credit_risk.v1" in running.client.loaded()


def test_the_root_that_is_served_is_in_the_servers_environment_and_nowhere_in_its_models(running):
    environ = psutil.Process(running.server.boot.pid).environ()
    assert environ["ML_PLATFORM_SETTINGS"] == str(running.root.settings_file)
    assert MODEL in {path.name.partition(".")[0] for path in (running.root.folder / "triton").iterdir()}
    for path in (running.root.folder / "triton").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert str(running.root.folder).encode() not in path.read_bytes()
    assert SERVING.max_batch == 16
