"""A really full disk under the real server: a clear 503, no decision without a record, and on it goes when there is room."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ml_platform import Platform, Serving, governance, lifecycle
from ml_platform.core.errors import ServerUnavailable
from ml_platform.core.ids import id_text
from ml_platform.serving.online_record import LoggedDecision, decode
from ml_platform.serving.triton import Boot, TritonClient
from ml_platform.serving.wal import read_frames
from ml_platform.training import load_artifact
from tests.lifecycle import tiny
from tests.serving.triton.served import Serve

MODEL = "late_parcel"
late_parcel = replace(tiny.late_parcel, features=[tiny.sending], decision=tiny.PLAIN, serving=Serving(max_batch=16))
ROWS = 8  # of a request: more bytes of record than a page of the device, so that a full one never takes it


@pytest.fixture
def platform(tmp_path: Path, triton) -> Iterator[Platform]:
    """A governed root with version 1 in production."""
    made = tiny.new_root(tmp_path / "root")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text("# a team's code\n")
    lifecycle.build_candidate(made, late_parcel, tiny.AS_OF, code=tmp_path / "code")
    lifecycle.stage(made, MODEL, 1, principal="ada", reason="Passed")
    for stage in ("canary", "production"):
        for person in ("ada", "bob"):
            key = made.secrets.path("people") / person
            lifecycle.approve(made, MODEL, 1, stage, key=key, reason="Reviewed")
        lifecycle.promote(made, MODEL, 1, stage, principal="ada", reason="Reviewed")
    yield made
    made.registry.close()


@pytest.fixture
def device(platform: Platform) -> Iterator[Path]:
    """The folder of the write-ahead log, on a device of 256 KiB."""
    folder = platform.root / "wal"
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if os.getuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a small disk needs root; test_wal.py has a file size limit")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def serve(platform: Platform, device: Path, repository: Path) -> Iterator[Serve]:
    one = Serve(SimpleNamespace(folder=platform.root), repository, models=__name__)
    yield one
    one.close()


def fill(folder: Path) -> Path:
    """Takes every page that the device still has."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"x" * 4096)
    assert os.statvfs(folder).f_bfree == 0
    return ballast


def parcels(first: int) -> dict[str, np.ndarray]:
    """A request of several rows."""
    rows = np.arange(first, first + ROWS).reshape(-1, 1)
    return {
        "parcel_id": rows,
        "weight": 1.0 + rows % 29,
        "depot": np.array([["north"], ["south"]] * (ROWS // 2), object),
    }


def over_grpc(boot: Boot, first: int) -> list[str] | str:
    """The prediction ids, or why there are none."""
    with TritonClient(boot) as client:
        try:
            return [one for (one,) in client.infer(MODEL, parcels(first))["prediction_id"].tolist()]
        except ServerUnavailable as error:
            return str(error)


def over_http(boot: Boot, first: int) -> list[str] | str:
    kinds = {"float64": "FP64", "int64": "INT64", "object": "BYTES"}
    tensors = [
        {"name": name, "datatype": kinds[one.dtype.name], "shape": list(one.shape), "data": one.reshape(-1).tolist()}
        for name, one in parcels(first).items()
    ]
    connection = HTTPConnection("127.0.0.1", boot.rest_port, timeout=30)
    try:
        connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": tensors}))
        answer = connection.getresponse()
        document: dict[str, Any] = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status == 503:
        return str(document["error"])
    assert answer.status == 200, document
    return next(one["data"] for one in document["outputs"] if one["name"] == "prediction_id")


def ask(boot: Boot, first: int, count: int) -> list[list[str] | str]:
    """Half over HTTP, half over gRPC, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda n: (over_http, over_grpc)[n % 2](boot, first + n * ROWS), range(count)))


def ids(answers: list[list[str] | str]) -> list[str]:
    return [one for answer in answers if not isinstance(answer, str) for one in answer]


def logged(platform: Platform) -> list[str]:
    """Every decision in the log, in order; nothing but whole frames is there."""
    artifact = platform.registry.state().version(MODEL, 1).digests.artifact
    contract = load_artifact(platform.objects, artifact).contract
    found = []
    for path in sorted((platform.root / "wal").rglob("*.wal")):
        frames = read_frames(path)
        assert frames.torn_bytes == 0
        found += [decode(one, lambda _: contract) for one in frames.frames]
    assert [one.header.seq for one in found] == list(range(len(found)))
    return [id_text(one.header.prediction_id) for one in found if isinstance(one, LoggedDecision)]


def unavailable(boot: Boot) -> float:
    connection = HTTPConnection("127.0.0.1", boot.metrics_port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("ml_platform_router_unavailable_total") and 'cause="log"' in line
    )


def test_a_full_disk_is_a_clear_503_under_the_real_server_which_goes_on_when_there_is_room(
    platform: Platform, device: Path, serve: Serve
) -> None:
    serve.ready()
    boot = Boot.read(platform.root)
    answered = ids(ask(boot, 0, 10))
    assert len(answered) == 10 * ROWS
    for trouble in range(2):  # full, freed, and full again
        ballast = fill(device)
        first = 1_000 * (trouble + 1)
        while found := ids(ask(boot, first, 2)):  # what its last page takes
            answered += found
            first += 100
        before = logged(platform)
        assert sorted(before) == sorted(answered)
        refused = ask(boot, first, 40)
        for text in refused:
            assert isinstance(text, str)
            assert "No space left on device" in text
            assert "Free space" in text
        assert logged(platform) == before
        ballast.unlink()
        again = ask(boot, first + 500, 10)
        assert len(ids(again)) == 10 * ROWS
        answered += ids(again)
    assert Boot.read(platform.root) == boot  # the same server all the time
    for attempt in range(20):  # the figures come with a batch, at most once a second
        answered += ids(ask(boot, 9_000 + attempt * ROWS, 1))
        if unavailable(boot) >= 80:
            break
        time.sleep(0.3)
    assert unavailable(boot) >= 80
    assert sorted(logged(platform)) == sorted(answered)
    report = lifecycle.seal_once(platform, now=True)
    assert report.records == len(answered)
    sealed = platform.lake.read(f"{MODEL}/predictions", columns=["prediction_id"]).column(0).to_pylist()
    assert sorted(sealed) == sorted(answered)
    assert governance.verify(platform).status == "verified"
    assert governance.trace(platform, answered[-1]).proven
