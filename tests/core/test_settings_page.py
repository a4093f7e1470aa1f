"""``docs/settings.md`` has every setting with its default and an example that loads."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from ml_platform.core.settings import _KNOWN, Settings, load_settings


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "settings.md").read_text()


def rows(page: str) -> dict[str, tuple[str, str]]:
    """Setting → (default, example)."""
    found = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    return {name: (default.strip(), example.strip(" `")) for name, default, example in found}


def whole(page: str) -> str:
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return block


def load(folder: Path, text: str) -> Settings:
    path = folder / "settings.toml"
    path.write_text(text)
    return load_settings(path)


def given(settings: Settings, name: str) -> object:
    """A setting as it is written; of a table only what differs from its defaults."""
    value = getattr(settings, name)
    if not is_dataclass(value):
        return value
    defaults = type(value)()
    return {
        one.name: getattr(value, one.name)
        for one in fields(value)
        if getattr(value, one.name) != getattr(defaults, one.name)
    }


def test_the_page_has_exactly_the_settings_that_there_are(page: str) -> None:
    assert set(rows(page)) == set(_KNOWN) == {field.name for field in fields(Settings)} - {"root"}
    assert set(tomllib.loads(whole(page))) == set(_KNOWN)


def test_the_defaults_are_those_of_the_code(page: str, tmp_path: Path) -> None:
    settings = load(tmp_path, 'kind = "wall"\n')
    documented = {
        name: default.strip("`").replace("<root>", str(tmp_path.resolve())) for name, (default, _) in rows(page).items()
    }
    assert documented.pop("kind").startswith("none")
    words = {None: "none", "{}": "empty"}
    for name, default in documented.items():
        value = given(settings, name)
        assert default == (value if isinstance(value, str) else words["{}" if value == {} else value])


@pytest.mark.parametrize("name", sorted(_KNOWN))
def test_the_example_of_a_setting_loads(name: str, page: str, tmp_path: Path) -> None:
    example = rows(page)[name][1]
    settings = load(tmp_path, example if name == "kind" else f'kind = "replay"\n{example}\n')
    assert given(settings, name) == tomllib.loads(example)[name]


def test_a_file_with_every_setting_loads(page: str, tmp_path: Path) -> None:
    settings = load(tmp_path, whole(page))
    assert {name: given(settings, name) for name in _KNOWN} == tomllib.loads(whole(page))


def test_every_environment_variable_of_the_code_is_on_the_page(repository: Path, page: str) -> None:
    modules = (repository / "ml_platform").rglob("*.py")
    read = {name for module in modules for name in re.findall(r'"(ML_PLATFORM_[A-Z_]+)"', module.read_text())}
    assert read == set(re.findall(r"`(ML_PLATFORM_[A-Z_]+)`", page[page.index("## Environment") :]))
