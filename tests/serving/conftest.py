from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.support import World, make_world, train


@pytest.fixture(scope="session")
def artifact_parts() -> dict[str, bytes]:
    return train()


@pytest.fixture
def world(tmp_path: Path, artifact_parts: dict[str, bytes]) -> World:
    return make_world(tmp_path, artifact_parts)
