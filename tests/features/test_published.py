"""Views by reference from a lock file: the definition itself, or an error; never another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, NotFound
from ml_platform.features import feature_view
from ml_platform.features.published import lock_text, locked_references, write_lock
from tests.features.test_tables import PAYMENTS, VIEW


def test_a_locked_view_is_the_published_one(tmp_path: Path) -> None:
    lock = tmp_path / "features.lock"
    write_lock(lock, [VIEW, VIEW])
    found = feature_view(VIEW.reference, lock=lock)
    assert found == VIEW
    assert (found.table, [item.name for item in found.features]) == (VIEW.table, [item.name for item in VIEW.features])
    assert locked_references(lock) == [VIEW.reference]
    assert json.loads(lock.read_bytes())["format"] == "ml-platform/feature-lock/1"


def test_a_lock_file_is_the_same_whatever_the_order() -> None:
    assert lock_text([VIEW, PAYMENTS]) == lock_text([PAYMENTS, VIEW, PAYMENTS])


def test_a_changed_lock_file_is_found(tmp_path: Path) -> None:
    lock = tmp_path / "features.lock"
    write_lock(lock, [VIEW])
    raw = lock.read_bytes()
    assert b'"late"' in raw
    lock.write_bytes(raw.replace(b'"column":"late"', b'"column":"id"'))
    with pytest.raises(ArtifactCorrupt, match="not what its reference says"):
        feature_view(VIEW.reference, lock=lock)


def test_what_is_not_there_is_said_with_the_command(tmp_path: Path) -> None:
    lock = tmp_path / "features.lock"
    with pytest.raises(NotFound, match="mlp features lock"):
        feature_view(VIEW.reference, lock=lock)
    write_lock(lock, [PAYMENTS])
    with pytest.raises(NotFound, match="mlp features lock"):
        feature_view(VIEW.reference, lock=lock)
    with pytest.raises(DeclarationError, match="source"):
        feature_view(PAYMENTS.reference, lock=lock)
    with pytest.raises(DeclarationError, match="reference"):
        feature_view("late_history@sha256:12345678", lock=lock)
    lock.write_text("{}")
    with pytest.raises(ArtifactCorrupt):
        feature_view(VIEW.reference, lock=lock)
