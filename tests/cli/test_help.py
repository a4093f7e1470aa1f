"""Every command promises one thing, shows an example that parses, and takes the common options."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from ml_platform.cli.main import app
from tests.cli.support import call

HEAVY = {
    "dagster",
    "duckdb",
    "pyarrow",
    "numpy",
    "deltalake",
    "sqlalchemy",
    "lightgbm",
    "onnxruntime",
    "rich",
    "cryptography",
}
GROUP: Any = typer.main.get_command(app)


def commands() -> dict[str, Any]:
    """Every command that does something, by what is typed."""
    found: dict[str, Any] = {}
    for name, command in GROUP.commands.items():
        own = getattr(command, "commands", None)
        found |= {name: command} if own is None else {f"{name} {sub}": one for sub, one in own.items()}
    return found


def examples(text: str) -> list[str]:
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.strip() in {"Example:", "Examples:"})
    return [line.strip() for line in lines[start + 1 :] if line.strip()]


def test_the_commands_of_the_issue_are_there() -> None:
    wanted = "demo train score models versions show state keys approve promote rollback trace verify reproduce dev"
    assert set(wanted.split()) <= set(GROUP.commands)


@pytest.mark.parametrize("name", commands())
def test_a_command_promises_one_sentence_and_shows_examples(name: str) -> None:
    ran = call(*name.split(), "--help")
    assert ran.code == 0
    assert ran.err == ""
    promise = commands()[name].help.split("\n\n")[0]
    assert promise.endswith(".")
    assert promise.count(". ") == 0
    assert "xample" in ran.out
    for option in ("--root", "--json", "--debug", "--help"):
        assert option in ran.out


@pytest.mark.parametrize("name", commands())
def test_the_examples_of_a_command_parse(name: str) -> None:
    command = commands()[name]
    shown = examples(command.help)
    assert shown
    for line in shown:
        words = shlex.split(line.split(" | ")[0].split(" > ")[0])
        if words[0] == "ssh-keygen":
            continue
        given = len(name.split()) + 1
        assert words[:given] == ["mlp", *name.split()]
        command.make_context(name, words[given:])


def test_help_loads_no_library_of_data_or_dagster() -> None:
    script = "import sys; from ml_platform.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr.split()
    assert "ml_platform.cli.main" in loaded
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()
    assert [name for name in loaded if name.startswith("ml_platform.") and not name.startswith("ml_platform.cli")] == []


def test_mlp_alone_shows_its_help() -> None:
    assert call().out == call("--help").out
    assert call().code == 0


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    ran = call("--version")
    assert (ran.code, ran.out) == (0, f"mlp {version('dagster-ml-platform')}\n")
