"""What the package offers, and that it needs nothing but numpy."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

from ml_platform import stats


def test_public_names_exist_and_are_sorted():
    assert stats.__all__ == sorted(stats.__all__, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(stats, name) for name in stats.__all__)


@pytest.mark.parametrize("module", ["auc", "chi_square", "differences", "divergence", "interval", "quantiles", "rates"])
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(importlib.import_module(f"ml_platform.stats.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_import_needs_neither_scipy_nor_scikit_learn():
    code = (
        "import sys, ml_platform.stats; sys.exit(any(name in sys.modules for name in ('scipy', 'sklearn', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
