"""A planted secret: it works, and is found in no output, error, log or stored file, whatever goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_platform.registry.keyfiles import new_key
from tests.conftest import Bucket
from tests.services.s3 import ACCESS_KEY, SECRET_KEY


@pytest.fixture
def said() -> list[str]:
    return []


def mlp(said: list[str], *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ml_platform.cli", *words]
    done = subprocess.run(
        command,
        env={**os.environ, "RUST_LOG": "debug", "PYTHONWARNINGS": "default", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said += [done.stdout, done.stderr]
    return done


def test_a_secret_of_the_environment_is_shown_logged_and_stored_nowhere(
    bucket: Bucket, tmp_path: Path, said: list[str]
) -> None:
    new_key(tmp_path / "alice", comment="alice")
    root = tmp_path / "root"
    options = [word for name, value in bucket.server.storage.items() for word in ("--storage", f"{name}={text(value)}")]
    init = [
        "init",
        "--root",
        str(root),
        "--kind",
        "wall",
        "--member",
        f"alice={tmp_path / 'alice.pub'}",
        "--json",
        "--debug",
    ]
    init += ["--lake", f"{bucket.url}/lake", "--objects", f"{bucket.url}/store"]

    refused = mlp(said, *init, *options, "--storage", f"secret_access_key={SECRET_KEY}")
    assert refused.returncode == 2
    assert "storage.secret_access_key" in refused.stderr
    assert not root.exists()
    made = mlp(said, *init, *options)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["root"] == str(root)

    for words, environ in (
        (["verify"], {}),
        (["trace", "0123"], {"AWS_SESSION_TOKEN": SECRET_KEY}),
    ):
        mlp(said, *words, "--root", str(root), "--json", "--debug", **environ)
    denied = mlp(said, "verify", "--root", str(root), "--json", "--debug", AWS_SECRET_ACCESS_KEY=SECRET_KEY + "x")
    assert denied.returncode == 9, denied.stderr
    assert "access is denied" in json.loads(denied.stdout)["error"]["what"]

    assert sum(map(len, said)) > 1_000
    assert [one for one in said if SECRET_KEY in one] == []
    for folder in (root, bucket.server.folder):
        assert files_with(SECRET_KEY, folder) == []
    for folder in (root, bucket.folder):  # the name of the key is no secret, and yet nothing of ours
        assert files_with(ACCESS_KEY, folder) == []


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def files_with(secret: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log").write_text(f"key {SECRET_KEY}")
    assert files_with(SECRET_KEY, tmp_path) == [tmp_path / "a" / "log"]
