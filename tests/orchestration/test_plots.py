from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest

from ml_platform.core.errors import DataError
from ml_platform.orchestration import plots


def sample(rows: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    scores = random.beta(1.2, 12, rows)
    return scores, (random.random(rows) < scores).astype(float)


def drawings() -> dict[str, bytes]:
    scores, labels = sample()
    many = {f"a_feature_with_quite_a_long_name_{i}": i / 100 for i in range(80)}
    return {
        "roc": plots.roc_png(scores, labels, auc=0.7, low=0.68, high=0.72),
        "calibration": plots.calibration_png(scores, labels),
        "scores": plots.scores_png(scores, labels, limit=0.06),
        "psi": plots.psi_png(many),
    }


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_pictures_of_forty_thousand_rows_stay_below_fifty_kilobytes() -> None:
    for name, png in drawings().items():
        assert len(png) <= plots.MAX_PNG_BYTES, name
        assert min(size(png)) > 200, name


def test_the_same_numbers_draw_the_same_bytes() -> None:
    assert drawings() == drawings()


def test_different_numbers_draw_different_pictures() -> None:
    scores, labels = sample()
    assert plots.calibration_png(scores, labels) != plots.calibration_png(scores, 1 - labels)
    assert plots.scores_png(scores, labels) != plots.scores_png(scores, labels, limit=0.06)
    assert plots.psi_png({"term": 0.1}) != plots.psi_png({"term": 0.3})


def test_one_class_and_one_score_can_be_drawn() -> None:
    assert plots.scores_png([0.5, 0.5], [0, 0])
    assert plots.scores_png([0.0, 0.0], [1, 1])
    assert plots.calibration_png([0.5, 0.5], [0, 1])
    assert plots.psi_png({})


def test_a_picture_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MAX_PNG_BYTES", 100)
    with pytest.raises(DataError, match="100 are allowed"):
        plots.psi_png({"term": 0.1})


def test_a_picture_is_markdown_with_a_data_uri() -> None:
    value = plots.as_markdown(b"png", "ROC").value
    assert value == "![ROC](data:image/png;base64,cG5n)"


def test_importing_the_module_does_not_import_matplotlib() -> None:
    code = "import sys, ml_platform.orchestration.plots; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
