from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.services.kafka import Broker
from tests.serving.router_support import first_parts, second_parts
from tests.serving.stream.support import StreamRoot, make_stream_root

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def both_parts() -> tuple[dict[str, bytes], dict[str, bytes]]:
    return first_parts(), second_parts()


@pytest.fixture
def stream_root(
    tmp_path: Path, broker: Broker, both_parts: tuple[dict[str, bytes], dict[str, bytes]]
) -> Callable[..., StreamRoot]:
    """Makes roots, each with a model and topics of its own."""

    def make(**changes: Any) -> StreamRoot:
        number = next(_numbers)
        model = f"risk_{os.getpid()}_{number}"
        return make_stream_root(tmp_path / f"root-{number}", both_parts, broker, model, **changes)

    return make
