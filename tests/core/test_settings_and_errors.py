from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ml_platform.core import errors
from ml_platform.core.digests import canonical_json, document_digest, parse_canonical
from ml_platform.core.errors import DeclarationError, PlatformError, SettingsError
from ml_platform.core.settings import load_settings, settings_path


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def test_defaults_lie_below_the_root(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'kind = "replay"\n'))
    assert settings.kind == "replay"
    assert Path(settings.lake).parent == Path(settings.objects).parent == tmp_path.resolve()
    assert settings.registry.startswith("sqlite:///")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "kind"),
        ('kind = "both"', "kind"),
        ('kind = "wall"\nlakes = "x"', "lakes"),
        ('kind = "wall"\nlake = 3', "lake"),
        ('kind = "wall"\n[unavailable]\ngroup = ""', "unavailable"),
        ('kind = "wall"\n[batch]\nengine = "flink"', r"batch\.engine"),
        ('kind = "wall"\n[batch]\nmaster = "local"', "batch"),
        ('kind = "wall"\nbatch = "spark"', "batch"),
        ('kind = "wall"\n[spark]\nmemory = 3', r"spark\.memory"),
        ('kind = "wall"\n[spark]\ncores = "3"', "spark"),
        ('kind = "wall"\n[spark.conf]\n"spark.executor.cores" = 2', r"spark\.conf"),
        ("kind = ", "TOML"),
    ],
)
def test_unusable_settings_name_the_setting(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_settings(write(tmp_path, text))


def test_the_root_comes_from_the_option_or_the_environment(tmp_path: Path) -> None:
    assert settings_path(tmp_path) == tmp_path / "settings.toml"
    assert settings_path(None, {"ML_PLATFORM_SETTINGS": "x/settings.toml"}) == Path("x/settings.toml")
    with pytest.raises(SettingsError, match="--root"):
        settings_path(None, {})
    with pytest.raises(SettingsError):
        load_settings(tmp_path / "missing.toml")


def test_every_error_is_of_one_tree_says_the_next_step_and_crosses_processes() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, PlatformError)
        error = kind("It happened.", field="term", next_step="Do this.")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert str(again) == str(error) == "term: It happened. Next: Do this."
        assert kind.exit_code in range(1, 10)


def test_equal_documents_have_equal_digests_and_nouns_separate_them() -> None:
    assert document_digest("a", {"x": 1, "y": 2}) == document_digest("a", {"y": 2, "x": 1})
    assert document_digest("a", {"x": 1}) != document_digest("b", {"x": 1})


@pytest.mark.parametrize("value", [float("nan"), 2**53, {1: 2}, object()])
def test_what_json_cannot_say_exactly_has_no_digest(value: object) -> None:
    with pytest.raises(DeclarationError, match="canonical"):
        canonical_json({"x": value})


def test_stored_documents_must_be_canonical() -> None:
    assert parse_canonical(b'{"a":1}') == {"a": 1}
    with pytest.raises(DeclarationError):
        parse_canonical(b'{"a": 1}')
