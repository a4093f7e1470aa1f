"""The edge before Triton's REST port: nginx with its Lua module, as a managed process.

Triton's own HTTP front end answers 500 to bodies that it cannot read, and some requests end the process (see
docs/serving.md). The edge reads the JSON part by rules of its own, refuses with 400 what Triton must not see, and
passes on everything else as it came.
"""

from __future__ import annotations

import grp
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from ml_platform.core.errors import ServerUnavailable, SettingsError
from ml_platform.serving.triton.boot import serving_folder
from ml_platform.serving.triton.guarded import Guarded, Order

__all__ = ["EDGE_LOG", "MOST_BODY_BYTES", "TEMPLATES", "Edge", "Nginx"]

EDGE_LOG: Final = "edge.log"
MOST_BODY_BYTES: Final = 8 * 1024 * 1024
TEMPLATES: Final = Path(__file__).parent / "edge"
_MODULES: Final = ("ndk_http_module.so", "ngx_http_lua_module.so")
_START_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02
_INSTALL: Final = "Install nginx with its Lua module (Debian: nginx-light, libnginx-mod-http-lua), or say --edge none."


@dataclass(frozen=True)
class Nginx:
    """An nginx that can be the edge.

    Attributes:
        binary: ``nginx``.
        modules: the folder of its dynamic modules, the Lua module among them.
    """

    binary: Path
    modules: Path

    @classmethod
    def find(cls) -> Self | None:
        """The machine's nginx; None where it or its Lua module is absent."""
        found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if found is None:
            return None
        said = subprocess.run([found, "-V"], capture_output=True, text=True, check=False).stderr  # noqa: S603
        named = [part.removeprefix("--modules-path=") for part in said.split() if part.startswith("--modules-path=")]
        modules = Path(named[0] if named else "/usr/lib/nginx/modules")
        return cls(Path(found), modules) if all((modules / one).is_file() for one in _MODULES) else None

    @classmethod
    def required(cls) -> Self:
        """The machine's nginx.

        Raises:
            SettingsError: it or its Lua module is absent.
        """
        found = cls.find()
        if found is None:
            raise SettingsError("There is no nginx with the Lua module here.", field="--edge", next_step=_INSTALL)
        return found

    def configuration(self, folder: Path, *, listen: str, upstream: str) -> str:
        """The text of ``nginx.conf``: ``TEMPLATES/nginx.conf`` with its places filled in.

        Args:
            folder: where it writes its process id and nothing else.
            listen: its address and port.
            upstream: those of Triton.
        """
        text = (TEMPLATES / "nginx.conf").read_text()
        values = {
            "user": _user(),
            "workers": "1",
            "folder": str(folder),
            "modules": str(self.modules),
            "lua": str(TEMPLATES),
            "listen": listen,
            "upstream": upstream,
            "body": str(MOST_BODY_BYTES),
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text


@dataclass
class Edge:
    """A running edge. Use it as a context, or call ``stop``.

    Attributes:
        port: where clients ask.
        pid: nginx's master process.
    """

    port: int
    pid: int
    _guarded: Guarded = field(repr=False)

    @classmethod
    def start(cls, nginx: Nginx, root: Path, *, host: str, port: int, upstream_port: int) -> Self:
        """Starts it before a Triton on loopback and waits until it answers.

        Args:
            nginx: which one.
            root: the root's folder; it writes into ``serving/edge/`` and ``serving/edge.log`` only.
            host: address on which it listens.
            port: port on which it listens; 0 takes a free one.
            upstream_port: Triton's REST port.

        Raises:
            SettingsError: nginx does not take its configuration.
            ServerUnavailable: it did not become ready; its log says why.
        """
        serving = serving_folder(root)
        folder = serving / "edge"
        folder.mkdir(mode=0o700, exist_ok=True)
        port = port or _free_port(host)
        listen, upstream = f"{_bracketed(host)}:{port}", f"127.0.0.1:{upstream_port}"
        file = folder / "nginx.conf"
        file.write_text(nginx.configuration(folder, listen=listen, upstream=upstream))
        command = [str(nginx.binary), "-p", str(folder), "-e", "stderr", "-c", str(file)]
        _check(command)
        order = Order(command, str(serving / EDGE_LOG), end_signal=signal.SIGQUIT)  # what was asked is answered
        guarded = Guarded.start(order, env=_environment(), folder=folder)
        try:
            edge = cls(port, guarded.pid(_START_SECONDS) or 0, guarded)
            edge._await_ready(host)
        except BaseException:
            guarded.stop()
            raise
        return edge

    @property
    def alive(self) -> bool:
        return self._guarded.alive

    def stop(self) -> None:
        """Answers what was asked, then ends; nothing of it is left."""
        self._guarded.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _await_ready(self, host: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.alive:
            if _answers(host, self.port):
                return
            time.sleep(_POLL_SECONDS)
        raise ServerUnavailable(
            "The edge did not become ready.",
            field="--edge",
            next_step=f"Its log, serving/{EDGE_LOG} in the root, says why; a port may be taken.",
        )


def _user() -> str:
    """Who reads requests: root hands that to ``nobody``; anybody else may only do it alone."""
    if os.getuid() != 0:
        return "# of the user who started it"
    groups = {one.gr_name for one in grp.getgrall()}
    return f"user nobody {'nogroup' if 'nogroup' in groups else 'nobody'};"


def _environment() -> dict[str, str]:
    """Nothing of ours: the edge knows no secret."""
    return {"PATH": os.environ.get("PATH", os.defpath)}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


def _check(command: list[str]) -> None:
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, env=_environment())  # noqa: S603
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "[emerg]" in line or "[error]" in line), "no reason")
        raise SettingsError(
            f"nginx does not take its configuration: {said.partition('] ')[2]}", field="--edge", next_step=_INSTALL
        )


def _answers(host: str, port: int) -> bool:
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    connection = http.client.HTTPConnection(everywhere.get(host, host), port, timeout=2.0)
    try:
        connection.request("GET", "/edge/metrics")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
