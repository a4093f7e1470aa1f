"""``docs/cli.md`` has every command with every option, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.test_errors import documented_exit_codes
from tests.cli.test_help import commands, examples

SHARED = {"--root", "--json", "--debug", "--help", "-h"}


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "cli.md").read_text()


def sections(page: str) -> dict[str, str]:
    """The text below each command's heading."""
    parts = re.split(r"^### `mlp ([a-z ]+)`$", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_page_has_exactly_the_commands_that_there_are(page: str) -> None:
    assert set(sections(page)) == set(commands())


@pytest.mark.parametrize("name", commands())
def test_a_command_is_documented_with_its_promise_its_examples_and_its_options(page: str, name: str) -> None:
    command, text = commands()[name], sections(page)[name]
    assert command.help.split("\n\n")[0] in text
    for example in examples(command.help):
        assert example in text
    for parameter in command.params:
        wanted = parameter.opts[-1] if parameter.opts[0].startswith("-") else parameter.name.upper()
        assert wanted in SHARED or f"`{wanted}" in text, wanted
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"^\| `(--[a-z-]+)", text, re.MULTILINE)) <= known


def test_what_all_commands_share_and_the_exit_codes_are_documented(page: str) -> None:
    for option in SHARED:
        assert f"`{option}" in page
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert table == documented_exit_codes() | {10, 11}
