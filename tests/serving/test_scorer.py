from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ml_platform.core.errors import DataError, DeclarationError
from ml_platform.serving import Scorer
from ml_platform.training.artifact import DECISION_PART, make_artifact
from ml_platform.training.lightgbm import NATIVE_PART
from tests.serving.support import CONTRACT

WITHOUT_DAGSTER = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("dagster"):
            raise ImportError("no dagster here")
        return None

sys.meta_path.insert(0, Refuses())
from pathlib import Path
from ml_platform.serving import score_partition
from tests.serving.support import loans, make_world
parts = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}
world = make_world(Path(sys.argv[2]), parts)
sys.stdout.write(str(score_partition(world.job(), world.parts(loans(20))).accepted))
"""


def matrix(rows: int) -> np.ndarray:
    found = np.random.default_rng(5).normal(size=(rows, len(CONTRACT.fields))).astype(np.float32)
    for place, item in enumerate(CONTRACT.fields):
        if item.kind == "category":
            found[:, place] = 0
    return found


def test_reasons_are_given_for_declined_rows_only(artifact_parts: dict[str, bytes]) -> None:
    decided = Scorer.of(make_artifact(artifact_parts)).decide(matrix(200))
    declined = decided.outputs["score"].astype(np.float64) > 0.5
    assert declined.any()
    assert not declined.all()
    assert [decided.decision_texts[code] == "declined" for code in decided.decisions] == declined.tolist()
    given = np.array([bool(decided.reasons.lists[code]) for code in decided.reasons.codes])
    assert (given == declined).all()


def test_a_row_is_decided_the_same_in_any_company(artifact_parts: dict[str, bytes]) -> None:
    scorer, rows = Scorer.of(make_artifact(artifact_parts)), matrix(64)
    together = scorer.decide(rows)
    for row in range(0, 64, 9):
        alone = scorer.decide(rows[row : row + 1])
        assert alone.outputs["score"][0] == together.outputs["score"][row]
        assert alone.reasons.lists[alone.reasons.codes[0]] == together.reasons.lists[together.reasons.codes[row]]


def test_a_version_that_declines_and_cannot_say_why_is_not_loaded(artifact_parts: dict[str, bytes]) -> None:
    silent = {name: raw for name, raw in artifact_parts.items() if name != NATIVE_PART}
    with pytest.raises(DeclarationError, match="reasons"):
        Scorer.of(make_artifact(silent))
    assert Scorer.of(make_artifact(silent), reasons=False).decide(matrix(3)).decisions.shape == (3,)


def test_a_version_without_decision_only_scores(artifact_parts: dict[str, bytes]) -> None:
    plain = {name: raw for name, raw in artifact_parts.items() if name not in {NATIVE_PART, DECISION_PART}}
    decided = Scorer.of(make_artifact(plain)).decide(matrix(3))
    assert decided.decision_texts == (None,)
    assert decided.reasons.lists == ((),)


def test_no_rows_have_no_scores(artifact_parts: dict[str, bytes]) -> None:
    assert len(Scorer.of(make_artifact(artifact_parts)).decide(matrix(0)).outputs["score"]) == 0


def test_a_matrix_of_another_width_is_refused(artifact_parts: dict[str, bytes]) -> None:
    with pytest.raises(DataError):
        Scorer.of(make_artifact(artifact_parts)).decide(matrix(3)[:, 1:])


def test_batch_scores_where_dagster_is_not_installed(
    artifact_parts: dict[str, bytes], tmp_path: Path, repository: Path
) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, raw in artifact_parts.items():
        (parts / name).write_bytes(raw)
    command = [sys.executable, "-c", WITHOUT_DAGSTER, str(parts), str(tmp_path / "root")]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.stdout == "20", done.stderr
