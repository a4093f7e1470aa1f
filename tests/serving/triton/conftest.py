from __future__ import annotations

from collections.abc import Iterator

import pytest

from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton import Server, TritonClient, is_installed
from ml_platform.serving.triton.nginx import Edge, Nginx
from tests.conftest import missing
from tests.serving.triton.roots import MODEL, SERVING, Root, Running, new_root
from tests.serving.triton.routed import RunningRouter, new_routed_root, push


@pytest.fixture(scope="session")
def triton() -> None:
    """The server of the wheel."""
    if not is_installed():
        missing("the Triton server is not installed (extra: triton)")


@pytest.fixture
def root(tmp_path, artifact_parts, triton) -> Root:
    return new_root(tmp_path / "root", artifact_parts)


@pytest.fixture(scope="session")
def running(tmp_path_factory, artifact_parts, triton) -> Iterator[Running]:
    """One server for all tests that only ask; version 1 is loaded."""
    root = new_root(tmp_path_factory.mktemp("triton") / "root", artifact_parts)
    with root.start() as server, TritonClient(server.boot) as client:
        server.announce()
        one = Running(root, server, client)
        one.pusher.version(MODEL, 1, root.artifact.digest, SERVING)
        yield one


@pytest.fixture(scope="session", params=["in_process", "triton"])
def router(request, tmp_path_factory, triton) -> Iterator[RunningRouter]:
    """A server with both versions and their router, version 1 in production; once for each executor."""
    root = new_routed_root(tmp_path_factory.mktemp("routed") / "root")
    with Server.start(root.folder, root.settings_file) as server, TritonClient(server.boot) as client:
        push(root, server, client, Serving(executor=request.param, max_batch=16))
        if (nginx := Nginx.find()) is None:
            server.announce()
            yield RunningRouter(root, server, client)
            return
        with Edge.start(nginx, root.folder, host="127.0.0.1", port=0, upstream_port=server.boot.http_port) as edge:
            server.announce(edge_port=edge.port)
            yield RunningRouter(root, server, client)


@pytest.fixture(scope="session")
def nginx() -> Nginx:
    """The machine's own."""
    found = Nginx.find()
    if found is None:
        missing("nginx with its Lua module (Debian packages nginx-light, libnginx-mod-http-lua) is not installed")
    assert found is not None
    return found
