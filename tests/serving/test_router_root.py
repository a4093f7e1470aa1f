"""What a router reads of its root, without the registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ml_platform.core.errors import NotFound, SettingsError
from ml_platform.core.objects import ObjectStore
from ml_platform.core.settings import load_settings
from ml_platform.core.subjects import Subjects
from ml_platform.features.definitions import store
from ml_platform.serving.router_root import entity_of, object_store, shared_seed
from tests.features.support import outcomes
from tests.serving.router_support import FIRST, SECOND, SEED, VIEW
from tests.serving.test_features_lookup import BY_PURPOSE, stored


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "settings.toml").write_text('kind = "replay"\n')
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "root_seed").write_bytes(SEED)
    (tmp_path / "secrets" / "root_seed").chmod(0o600)
    objects = ObjectStore(tmp_path / "store")
    store(objects, VIEW)
    store(objects, BY_PURPOSE)
    return tmp_path


def test_the_entity_is_that_of_the_request_and_not_of_a_stored_view(root: Path) -> None:
    objects = ObjectStore(root / "store")
    other = replace(SECOND, fields=(stored("rate", BY_PURPOSE, "rate"), *SECOND.fields))
    assert entity_of(objects, FIRST) == entity_of(objects, other) == "loan"
    alone = replace(SECOND, fields=(stored("rate", BY_PURPOSE, "rate"),))
    assert entity_of(objects, alone) == "purpose"


def test_a_field_of_no_view_or_of_a_lost_one_is_said(root: Path) -> None:
    objects = ObjectStore(root / "store")
    digest = store(objects, outcomes())
    wrong = replace(SECOND, fields=(replace(SECOND.fields[0], reference=f"outcomes@{digest}:amount"),))
    with pytest.raises(SettingsError, match="amount"):
        entity_of(objects, wrong)
    lost = replace(SECOND, fields=(replace(SECOND.fields[0], reference=f"x@sha256:{'1' * 64}:amount"),))
    with pytest.raises(NotFound):
        entity_of(objects, lost)


def test_the_shared_seed_is_the_one_that_the_batch_uses(root: Path) -> None:
    settings = load_settings(root / "settings.toml")
    found = shared_seed(settings, object_store(settings), FIRST)
    assert found == Subjects(root / "subjects" / "subjects.sqlite", root_seed=SEED).seeds("loan", [b""])[0]
    (root / "settings.toml").write_text('kind = "wall"\n')
    (root / "subjects" / "subjects.sqlite").unlink()
    wall = load_settings(root / "settings.toml")
    random = shared_seed(wall, object_store(wall), FIRST)
    assert random != found
    assert random == shared_seed(wall, object_store(wall), FIRST)


def test_a_seed_that_others_may_read_or_that_is_gone_is_said(root: Path) -> None:
    settings = load_settings(root / "settings.toml")
    (root / "secrets" / "root_seed").chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        shared_seed(settings, object_store(settings), FIRST)
    (root / "secrets" / "root_seed").unlink()
    with pytest.raises(SettingsError, match="backup"):
        shared_seed(settings, object_store(settings), FIRST)


def test_a_relative_store_counts_from_the_root(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    (root / "settings.toml").write_text('kind = "replay"\nobjects = "store"\n')
    assert entity_of(object_store(load_settings(root / "settings.toml")), FIRST) == "loan"
    (root / "settings.toml").write_text(f'kind = "replay"\nobjects = "{root}/store"\n')
    assert entity_of(object_store(load_settings(root / "settings.toml")), FIRST) == "loan"
