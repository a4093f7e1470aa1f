"""A folder and a real S3 server keep the same promises; a store that lets writers replace each other is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_platform import Platform
from ml_platform.core.delta import Lake
from ml_platform.core.errors import Conflict, SettingsError
from ml_platform.core.objects import ObjectStore
from ml_platform.core.storage import StorageSettings
from ml_platform.testing import check_lake, check_object_store
from tests.conftest import Bucket
from tests.services.s3 import S3Server

Place = tuple[str, StorageSettings]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return str(tmp_path / "store"), StorageSettings()
    bucket: Bucket = request.getfixturevalue("bucket")
    return f"{bucket.url}/some/prefix", StorageSettings(**bucket.server.storage)


def test_a_store_keeps_its_promises(place: Place) -> None:
    check_object_store(lambda: ObjectStore(*place))


def test_a_lake_keeps_its_promises(place: Place) -> None:
    check_lake(lambda: Lake(*place))


@pytest.fixture
def careless(bucket: Bucket, tmp_path: Path) -> Iterator[S3Server]:
    """A server that does not honour If-None-Match."""
    server = S3Server(tmp_path / "careless", ("--nometa",))
    server.start()
    server.bucket("careless")
    yield server
    server.stop()


def test_a_store_that_replaces_what_was_created_is_found(careless: S3Server) -> None:
    with pytest.raises(AssertionError, match="created once"):
        check_object_store(lambda: ObjectStore("s3://careless/p", StorageSettings(**careless.storage)))


def new_root(root: Path, settings: dict[str, object]) -> Platform:
    return Platform.create(root, kind="replay", member_keys={"ada": ["ada@example.org"]}, settings=settings)


def test_no_root_is_made_on_such_a_store(careless: S3Server, tmp_path: Path) -> None:
    settings = {"objects": "s3://careless/p", "storage": careless.storage}
    with pytest.raises(SettingsError, match="objects: The store lets a second writer replace"):
        new_root(tmp_path / "root", settings)
    assert list(tmp_path.glob("*root*")) == []
    assert not ObjectStore("s3://careless/p", StorageSettings(**careless.storage)).any_below("")


def test_no_root_is_made_on_another_roots_store(bucket: Bucket, tmp_path: Path) -> None:
    make: Callable[[str], Platform] = lambda name: new_root(tmp_path / name, bucket.settings)  # noqa: E731
    made = make("one")
    assert [file.name for file in (bucket.folder / "store").iterdir()] == ["checkpoints"]
    made.registry.close()
    with pytest.raises(Conflict, match="objects: The store is not empty"):
        make("two")
    assert not (tmp_path / "two").exists()
    assert Platform.local(tmp_path / "one").root_id == made.root_id
