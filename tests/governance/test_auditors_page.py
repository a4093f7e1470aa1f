"""The page for auditors says what the answers hold."""

from __future__ import annotations

import re

import pytest

from ml_platform.governance import trace
from ml_platform.registry.report import EXIT_CODES


@pytest.fixture
def page(repository) -> str:
    return (repository / "docs" / "auditors.md").read_text()


def test_every_section_of_a_trace_is_on_the_page(shared, declined, page):
    unnamed = {"format", "lock", "determinism", "training_metrics", "logs"}  # parts of the run record, by other words
    missing = [name for name in trace(shared, declined).to_json() if f"`{name}`" not in page and name not in unnamed]
    assert missing == []


def test_the_exit_codes_of_verify_are_those_on_the_page(page):
    listed = dict(re.findall(r"^\| (\d+) \| (verified|tampered|incomplete|unwitnessed) \|", page, re.MULTILINE))
    assert {name: int(code) for code, name in listed.items()} == dict(EXIT_CODES)


def test_every_command_on_the_page_exists(page):
    from ml_platform.cli.main import app

    names = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert set(re.findall(r"`mlp (\w+)", page)) <= names
