from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

from ml_platform import training


def test_public_names_exist_and_are_sorted():
    assert training.__all__ == sorted(
        training.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert all(hasattr(training, name) for name in training.__all__)


@pytest.mark.parametrize("module", ["absent", "onnx"])
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(importlib.import_module(f"ml_platform.training.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_declaring_a_model_loads_no_vendor():
    code = (
        "import sys, ml_platform.training as t; t.LightGBM(); t.Decline(0.1, {'a': 'A'});"
        "sys.exit(any(name in sys.modules for name in ('lightgbm', 'onnx', 'onnxruntime', 'pandas', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
