"""What every test may ask for; what a machine lacks makes a test skip with its reason, or fail where CI promises it."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.redis import RedisServer, redis_binary
from tests.services.s3 import S3Server, versitygw

pytest_plugins = ["tests.services.kafka", "tests.services.spark"]  # one broker, one session a process

REPOSITORY = Path(__file__).resolve().parent.parent


def missing(reason: str) -> None:
    """Skips with the reason; fails under ``ML_PLATFORM_REQUIRE_ALL=1`` (CI has installed everything)."""
    if os.environ.get("ML_PLATFORM_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (ML_PLATFORM_REQUIRE_ALL=1: nothing may be missing here)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public records that are not part of the project."""
    folder = Path(os.environ.get("ML_PLATFORM_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        # Absent data is a fact of the checkout, not of the machine: it skips even in CI.
        pytest.skip("the public records are not beside this checkout (set ML_PLATFORM_DATA)")
    return folder


@pytest.fixture(scope="session")
def lending_club(shared_data: Path) -> Path:
    folder = shared_data / "lending_club"
    if not folder.is_dir():
        pytest.skip("the LendingClub records are absent")
    return folder


@pytest.fixture(scope="session")
def ssh_keygen() -> str:
    """OpenSSH's own verifier."""
    found = shutil.which("ssh-keygen")
    if found is None:
        missing("ssh-keygen (Debian package openssh-client) is not installed")
    return str(found)


@pytest.fixture(scope="session")
def own_mounts() -> list[str]:
    """The beginning of a command line that may mount devices of its own, which vanish with it."""
    for command in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        try:
            done = subprocess.run(
                [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False, timeout=30
            )
        except OSError:
            continue
        if done.returncode == 0:
            return command
    # A right, not a part that could be installed: it skips even in CI.
    pytest.skip("this user may not mount a small device")


@pytest.fixture(scope="session")
def redis_server() -> str:
    """The binary of a real Redis."""
    found = redis_binary()
    if found is None:
        missing("redis-server (Debian package redis-server) is not installed")
    return str(found)


@pytest.fixture(scope="session")
def redis(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running Redis, shared by tests that use prefixes of their own and leave it running."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, one for all tests of a process; never killed by a test (make another for that)."""
    if versitygw() is None:
        missing("versitygw is not installed (CONTRIBUTING.md says how)")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of a real server, with credentials for it in the environment."""

    server: S3Server
    name: str
    folder: Path

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @property
    def settings(self) -> dict[str, object]:
        """Of a root whose tables and objects lie in it."""
        return {"lake": f"{self.url}/lake", "objects": f"{self.url}/store", "storage": self.server.storage}


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    name = f"test-{uuid.uuid4().hex[:12]}"
    return Bucket(s3_server, name, s3_server.bucket(name))
