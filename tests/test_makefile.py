"""The commands of the README as `make` would run them (the demo itself is run by test_demo.py)."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import missing


@pytest.fixture
def commands(repository: Path):
    """The last tool's command line that a target runs, in words."""
    if shutil.which("make") is None:
        missing("make is not installed")

    def run(*arguments: str) -> list[list[str]]:
        done = subprocess.run(["make", "-n", *arguments], cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [shlex.split(line) for line in done.stdout.splitlines() if line.startswith(".venv/bin/")]

    return run


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["demo"], "mlp demo --root roots/demo"),
        (["demo", "DATA=../data/lending_club/"], "mlp demo --root roots/lending_club --data ../data/lending_club/"),
        (["demo", "DATA=loans", "ROOT=there"], "mlp demo --root there --data loans"),
        (["dev"], "mlp dev --root roots/demo"),
        (["dev", "ROOT=there"], "mlp dev --root there"),
    ],
)
def test_a_demo_and_its_ui_use_one_root_and_other_data_another(commands, given: list[str], wanted: str) -> None:
    assert commands(*given)[-1] == [f".venv/bin/{wanted.split(maxsplit=1)[0]}", *wanted.split()[1:]]


def test_the_demo_installs_neither_torch_nor_spark_nor_the_tools_of_development(repository: Path) -> None:
    stated = (repository / "Makefile").read_text().splitlines()
    extras = next(line for line in stated if line.startswith("DEMO_EXTRAS")).partition(":=")[2].strip().split(",")
    assert not {"torch", "spark", "kafka", "dev", "mlflow"} & set(extras)
    assert {"dagster", "lightgbm"} <= set(extras)


def test_all_tests_are_run_the_slow_ones_last(commands) -> None:
    fast, slow = (line for line in commands("test") if "pytest" in line)
    assert ("not slow" in fast, "slow" in slow) == (True, True)


def test_the_check_is_style_types_layers_and_architecture(commands) -> None:
    tools = [Path(line[0]).name for line in commands("check")]
    assert {"ruff", "mypy", "lint-imports", "python"} <= set(tools)
