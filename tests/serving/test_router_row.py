"""Whole rows through the router: the arms, answers and records of the same tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_platform.serving.router_answers import Answer, Rejection
from tests.serving.router_support import (
    OnlineRoot,
    decisions,
    first_parts,
    make_online_root,
    refusals,
    request,
    second_parts,
)

LOANS = range(40)


@pytest.fixture(scope="module")
def both_parts() -> tuple[dict[str, bytes], dict[str, bytes]]:
    return first_parts(), second_parts()


@pytest.fixture
def world(tmp_path: Path, both_parts: tuple[dict[str, bytes], dict[str, bytes]]) -> OnlineRoot:
    made = make_online_root(tmp_path / "root", *both_parts)
    made.routes.write(made.route(arms=made.arms(1, canary=2)))
    return made


def as_row(tensors: dict[str, Any]) -> bytes:
    values = {name: array.reshape(-1).tolist()[0] for name, array in tensors.items()}
    return json.dumps(values, default=bytes.decode).encode()


def test_rows_are_split_between_arms_and_recorded_as_their_tensors_are(world: OnlineRoot) -> None:
    router = world.router()
    singles = [request(loan) for loan in LOANS]
    together = {name: np.concatenate([one[name] for one in singles]) for name in singles[0]}
    rows = np.array([as_row(one) for one in singles], object).reshape(-1, 1)
    by_tensors, by_row = (router.handle([one])[0] for one in (together, {"row": rows}))
    alone = router.handle([{"row": rows[[loan]]} for loan in LOANS])
    router.close()
    assert isinstance(by_tensors, Answer)
    assert isinstance(by_row, Answer)
    assert set(by_row.versions) == {1, 2}
    for name in ("versions", "decisions", "reasons", "epoch"):
        assert getattr(by_row, name) == getattr(by_tensors, name), name
    assert by_row.outputs["score"].tobytes() == by_tensors.outputs["score"].tobytes()
    assert [one.versions for one in alone if isinstance(one, Answer)] == [[version] for version in by_row.versions]
    records = [(one.header.version, one.header.role, one.section.to_bytes()) for one in decisions(world.root)]
    first, second, third = (records[place * len(LOANS) : (place + 1) * len(LOANS)] for place in range(3))
    assert first == second
    assert sorted(third) == sorted(first)


def test_a_refused_row_is_recorded_under_the_index_of_the_same_tensors(world: OnlineRoot) -> None:
    router = world.router()
    bad = request(3, amount=np.array([[-1.0]]))
    found = router.handle([bad, {"row": np.array([[as_row(bad)]], object)}])
    router.close()
    assert [(one.field, one.rule) for one in found if isinstance(one, Rejection)] == [("amount", "range")] * 2
    one, other = refusals(world.root)
    assert (one.row_index, one.refusals, one.version) == (other.row_index, other.refusals, other.version)
    assert decisions(world.root) == []
