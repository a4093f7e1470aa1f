"""``mlp seal``: one pass, or a process that goes on until it is told to stop and leaves nothing half-done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ml_platform import governance
from ml_platform.cli.main import run
from ml_platform.lifecycle.features import contract_views, materialize_model_views
from ml_platform.training import load_artifact
from tests.governance.online import MODEL, WRITER, apply_route, decide, ids, open_log, requests, write
from tests.governance.root import at, model


@pytest.fixture
def logged(root):
    """Six decisions of a router that has ended."""
    root.replay.move(at("2010-04-01"))
    artifact = load_artifact(root.objects, root.registry.state().version(MODEL, 1).digests.artifact)
    materialize_model_views(root, model(), end=at("2010-04-01"), views=contract_views(root, artifact.contract))
    made = decide(root, requests(range(7000, 7006)), apply_route(root))
    log = open_log(root)
    write(log, made)
    log.close()
    return root, made


def follow(root: Path, repository: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ml_platform.cli", "seal", "--follow", "--every", "1s", "--root", str(root)]
    return subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def until_sealed(platform, prediction_id: str) -> None:
    for _ in range(600):
        if governance.trace(platform, prediction_id).proven:
            return
        time.sleep(0.1)
    raise AssertionError("never sealed")


def test_one_pass_says_what_was_sealed(logged, capsys):
    platform, _ = logged
    assert run(["seal", "--once", "--json", "--root", str(platform.root)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["records"], document["segments"], document["closed"]) == (6, [f"{WRITER}.0"], [WRITER])
    assert run(["seal", "--root", str(platform.root)]) == 0
    assert "0 decisions in 0 segments" in capsys.readouterr().out


def test_a_log_with_a_gap_is_named_with_the_exit_code_of_integrity(logged, capsys):
    platform, made = logged
    other = "router-" + "0e" * 16
    route = platform.registry.applied_route(MODEL)
    assert route
    log = open_log(platform, other)
    for one in made[:3]:
        write(log, [one])
    log.close()
    sorted(log.folder.glob("*.wal"))[0].unlink()
    assert run(["seal", "--root", str(platform.root)]) == 5
    captured = capsys.readouterr()
    assert other in captured.err
    assert "lacks records" in captured.err
    assert "sealed 6 decisions" in captured.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_following_sealer_stops_cleanly_when_it_is_told_to(logged, repository, number):
    platform, made = logged
    process = follow(platform.root, repository)
    try:
        until_sealed(platform, ids(made)[5])
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "sealed 6 decisions in 1 segments" in said
    assert "stopped; nothing is half-done" in said
    assert governance.verify(platform).ok


def test_a_second_sealer_waits_for_the_first(logged, repository):
    platform, made = logged
    processes = [follow(platform.root, repository) for _ in range(2)]
    try:
        until_sealed(platform, ids(made)[0])
        time.sleep(1.5)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("sealed 6 decisions" in one for one in said) == 1


@pytest.mark.parametrize(
    "arguments", [["--once", "--follow"], ["--every", "2mo"], ["--every", "soon"], ["--every", "2m"]]
)
def test_what_cannot_be_meant_is_refused(arguments, capsys, tmp_path):
    assert run(["seal", *arguments, "--root", str(tmp_path)]) == 2
    assert "mlp:" in capsys.readouterr().err
