"""The whole life of a version with its lake and its objects on a real S3 server; in the root's folder stays what must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ml_platform import Platform, governance, lifecycle
from ml_platform.core.delta import Lake
from ml_platform.core.errors import StorageFailed
from ml_platform.core.objects import ObjectStore
from ml_platform.core.settings import load_settings
from ml_platform.lifecycle.features import contract_views, materialize_model_views
from ml_platform.registry.registry import Registry
from ml_platform.training import load_artifact
from tests.conftest import Bucket
from tests.governance import root as small
from tests.governance.online import MODEL, apply_route, decide, ids, open_log, requests, write
from tests.governance.root import at
from tests.services.faults import FaultProxy

LOCAL = {"clock", "code", "registry.sqlite", "scratch", "secrets", "serving", "settings.toml", "subjects", "triton"}


@pytest.fixture
def on_s3(bucket: Bucket, tmp_path: Path) -> Platform:
    """Landed, trained, promoted, a month scored."""
    return small.make_root(tmp_path, months=("2010-01",), settings=bucket.settings)


def test_a_version_lives_its_whole_life_on_s3(on_s3: Platform, bucket: Bucket) -> None:
    assert {one.name for one in on_s3.root.iterdir() if not one.name.endswith(("-wal", "-shm"))} <= LOCAL
    assert on_s3.lake.read(f"{MODEL}/predictions").num_rows > 50
    assert {one.name for one in (bucket.folder / "lake").iterdir()} == {"sources", "features", MODEL, "index"}
    stored = {one.name for one in (bucket.folder / "store").iterdir()}
    assert stored >= {
        "artifacts",
        "batch",
        "candidates",
        "checkpoints",
        "definitions",
        "objects",
        "segments",
        "snapshots",
    }

    sealed = seal_some_online_decisions(on_s3)
    declined = on_s3.lake.read(f"{MODEL}/predictions_personal", columns=["prediction_id", "decision"]).to_pylist()
    batch = max(row["prediction_id"] for row in declined if row["decision"] == "declined")
    for found in (governance.trace(on_s3, batch), governance.trace(on_s3, sealed)):
        assert found.proven
        assert found.to_json()["prediction"]["version"] == 1
    assert governance.verify(on_s3).status == "verified"
    tables = on_s3.lake.version(f"{MODEL}/predictions")
    lifecycle.score_partition(on_s3, small.model(), "2010-01")  # complete: nothing is written
    assert on_s3.lake.version(f"{MODEL}/predictions") == tables

    on_s3.registry.close()
    reopened = Platform.local(on_s3.root)
    assert governance.trace(reopened, batch).proven
    assert load_settings(reopened.root / "settings.toml").lake == f"{bucket.url}/lake"


def seal_some_online_decisions(platform: Platform) -> str:
    """What a router logged on this machine becomes rows of the lake on S3; one id of them."""
    platform.replay.move(at("2010-04-01"))
    artifact = load_artifact(platform.objects, platform.registry.state().version(MODEL, 1).digests.artifact)
    materialize_model_views(
        platform, small.model(), end=at("2010-04-01"), views=contract_views(platform, artifact.contract)
    )
    made = decide(platform, requests(range(7000, 7006)), apply_route(platform))
    log = open_log(platform)
    write(log, made)
    log.close()
    before = platform.lake.read(f"{MODEL}/predictions").num_rows
    report = lifecycle.seal_once(platform, now=True)
    assert report.records == 6
    assert platform.lake.read(f"{MODEL}/predictions").num_rows == before + 6
    return ids(made)[2]


def test_a_table_that_somebody_changed_on_s3_is_found(on_s3: Platform, bucket: Bucket) -> None:
    assert governance.verify(on_s3).status == "verified"
    part = next((bucket.folder / "lake" / MODEL / "predictions").rglob("*.parquet"))
    raw = bytearray(part.read_bytes())
    raw[len(raw) // 2] ^= 1
    part.write_bytes(raw)
    report = governance.verify(Platform.local(on_s3.root))
    assert report.status == "tampered"
    assert any("predictions" in finding.where for finding in report.findings), report.findings


def test_a_store_that_is_away_is_never_called_tampering(on_s3: Platform) -> None:
    with FaultProxy.before(urlsplit(str(on_s3.objects.storage.endpoint)).port or 0) as proxy:
        away = replace(on_s3.objects.storage, endpoint=proxy.endpoint, retries=0)
        for place in ("store/objects", "lake/index", f"lake/{MODEL}/predictions"):
            proxy.rule = lambda _method, path, place=place: "slow_down" if place in path else "pass"
            platform = replace(
                on_s3,
                objects=ObjectStore(on_s3.objects.url, away),
                lake=Lake(on_s3.lake.root, away),
                registry=Registry.open(on_s3.settings.registry, ObjectStore(on_s3.objects.url, away)),
            )
            with pytest.raises(StorageFailed):
                governance.verify(platform)
            assert proxy.count("slow_down") > 0
            platform.registry.close()
    assert governance.verify(on_s3).status == "verified"
