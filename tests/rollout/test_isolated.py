"""A version in a process of its own: it answers, fails, hangs or dies, and nobody else is concerned."""

from __future__ import annotations

import os
import time
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from ml_platform.core.errors import DataError, NotFound
from ml_platform.rollout.isolated import IsolatedScorer
from ml_platform.serving.building import Decided
from ml_platform.serving.preparing import TextLists


class Version:
    """Scores a row by its first value; a negative one is trouble."""

    def decide(self, matrix: npt.NDArray[np.float32]) -> Decided:
        trouble = float(matrix.min())
        if trouble == -1:
            time.sleep(3600)
        if trouble == -2:
            os._exit(3)
        if trouble == -3:
            raise DataError("A score is not a finite number.", field="score", next_step="Mend it.")
        return Decided({"score": matrix[:, 0]}, np.zeros(len(matrix), np.int64), (None,), TextLists.of(len(matrix), {}))


def fails_to_load(_: str) -> Version:
    raise NotFound("There is no such artifact.", next_step="Look elsewhere.")


def hangs_while_loading() -> Version:
    time.sleep(3600)
    return Version()


def row(value: float) -> npt.NDArray[np.float32]:
    return np.array([[value]], np.float32)


def test_it_answers_as_the_version_itself() -> None:
    with IsolatedScorer(Version, limit_seconds=60) as scorer:
        for value in (0.25, 0.5):
            decided = scorer.decide(row(value))
            assert decided is not None
            assert decided.outputs["score"].tolist() == [value]


def test_a_version_that_hangs_is_killed_and_the_next_batch_gets_a_new_process() -> None:
    with IsolatedScorer(Version, limit_seconds=1) as scorer:
        scorer.decide(row(1))
        assert scorer.decide(row(-1)) is None
        assert scorer.decide(row(1)) is not None


def test_a_version_whose_process_dies_is_an_error_and_no_more() -> None:
    with IsolatedScorer(Version, limit_seconds=60) as scorer:
        with pytest.raises(DataError, match="ended"):
            scorer.decide(row(-2))
        assert scorer.decide(row(1)) is not None


def test_the_versions_own_error_comes_through() -> None:
    with IsolatedScorer(Version, limit_seconds=60) as scorer:
        with pytest.raises(DataError, match="finite"):
            scorer.decide(row(-3))
        assert scorer.decide(row(1)) is not None


def test_a_version_that_cannot_be_loaded_says_why() -> None:
    with (
        IsolatedScorer(partial(fails_to_load, "x"), limit_seconds=60) as scorer,
        pytest.raises(NotFound, match="artifact"),
    ):
        scorer.decide(row(1))


def test_a_version_that_hangs_while_it_is_loaded_is_given_up() -> None:
    with (
        IsolatedScorer(hangs_while_loading, limit_seconds=60, start_seconds=1) as scorer,
        pytest.raises(DataError, match="did not start"),
    ):
        scorer.decide(row(1))
