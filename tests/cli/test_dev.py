"""`mlp dev`: Dagster on a root, and no process left when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from ml_platform.cli.dev_server import Server, environment
from ml_platform.core.errors import Conflict
from tests.cli.support import Shop, call
from tests.conftest import missing

REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def location(folder: Path) -> Path:
    """A code location with nothing in it."""
    (folder / "assets").mkdir(parents=True)
    (folder / "definitions.py").write_text("import dagster as dg\n\ndefs = dg.Definitions()\n")
    (folder / "workspace.yaml").write_text("load_from:\n  - python_file: definitions.py\n")
    return folder


def test_outside_a_checkout_demo_and_dev_say_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shop: Shop
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in (("demo", "--root", tmp_path / "r"), ("dev", "--root", shop.root)):
        ran = call(*line)
        assert ran.code == 4
        assert "needs a checkout" in ran.problem
        assert "workspace.yaml" in ran.problem
    assert not (tmp_path / "r").exists()


def test_dagster_gets_the_root_and_the_code(tmp_path: Path) -> None:
    given = environment(tmp_path / "settings.toml", Path("/code"), {"PYTHONPATH": "/other", "HOME": "/h"})
    assert given["ML_PLATFORM_SETTINGS"] == str(tmp_path / "settings.toml")
    assert given["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert given["PYTHONPATH"].split(os.pathsep) == ["/code", "/other"]
    assert given["HOME"] == "/h"


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    if find_spec("dagster_webserver") is None:
        missing("dagster-webserver is not installed (extra: dagster)")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(tmp_path / "settings.toml", tmp_path, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(Conflict, match="port"):
            server.run(ready=lambda: None, say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_dagster_answers_and_stops_with_us(shop: Shop, tmp_path: Path, how: signal.Signals) -> None:
    if find_spec("dagster_webserver") is None:
        missing("dagster-webserver is not installed (extra: dagster)")
    process = subprocess.Popen(
        [sys.executable, "-m", "ml_platform.cli", "dev", "--root", shop.root, "--port", str(free_port()), "--json"],
        cwd=location(tmp_path / "code"),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"{ready['url']}/server_info", timeout=60) as answer:
            assert "dagster_version" in json.load(answer)
        process.send_signal(how)
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, err
    assert out == ""
    assert "Traceback" not in err
    assert "Dagster has stopped" in err
    with pytest.raises(ProcessLookupError):
        os.killpg(ready["pid"], 0)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # the socket of a closed server may linger
        with socket.socket() as found:
            if found.connect_ex(("127.0.0.1", int(ready["url"].rsplit(":", 1)[1]))):
                return
        time.sleep(0.2)
    pytest.fail("something still listens")
