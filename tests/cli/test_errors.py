"""A failure is one line with the next step, an exit code, and with ``--json`` an object; a traceback only on demand."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import typer

from ml_platform.cli.blocks import Answer
from ml_platform.cli.frame import Commands, new_app
from ml_platform.cli.main import EXIT_CODES
from ml_platform.cli.problems import Problem
from ml_platform.cli.session import Session
from ml_platform.core import errors
from tests.cli.support import call, shell


def documented_exit_codes() -> set[int]:
    """Those of the help."""
    parts = EXIT_CODES.removeprefix("Exit codes: ").split(", ")
    return {int(part.split()[0]) for part in parts if part[0].isdigit()}


def exit_code(error: BaseException) -> int:
    return Problem.of(error).exit_code


def test_exit_codes_are_those_of_the_error_tree() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PlatformError)
    ]
    for kind in kinds:
        assert exit_code(kind("What.", next_step="Do.")) == kind.exit_code
    assert documented_exit_codes() == {0, 130} | {kind.exit_code for kind in kinds}


def test_a_full_disk_is_a_storage_failure_and_ctrl_c_is_130() -> None:
    full = Problem.of(OSError(errno.ENOSPC, "No space left on device"))
    assert (full.kind, full.exit_code) == ("StorageFailed", 9)
    assert "full" in full.what
    stopped = Problem.of(KeyboardInterrupt())
    assert (stopped.exit_code, stopped.what) == (130, "Stopped by Ctrl-C; nothing is half-done.")
    assert stopped.next_step == "The same command continues."


def test_an_unexpected_error_shows_its_kind_and_never_its_text() -> None:
    problem = Problem.of(ValueError("loan 112233 earns 45000"))
    assert problem.exit_code == 1
    assert "112233" not in problem.line()
    assert "ValueError" in problem.line()


def test_a_line_has_no_line_break_and_no_control_character() -> None:
    problem = Problem.of(errors.NotFound("One\ntwo\x1b[31m.", next_step="Go on."))
    assert problem.line().isprintable()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["frobnicate"], 2, "No such command"),
        (["train", "credit_risk"], 2, "--as-of"),
        (["train", "credit_risk", "--as-of", "yesterday"], 2, "2010-01-01"),
        (["train", "credit_risk", "--as-of", "2010-01-01T00:00:00"], 2, "2010-01-01"),
        (["score", "credit_risk", "--partition", "2010-13"], 2, "2010-03"),
        (["promote", "credit_risk", "1", "--to", "heaven", "--reason", "x"], 2, "staging, canary or production"),
        (["approve", "credit_risk", "1", "--to", "staging", "--key", "k", "--reason", "x"], 2, "canary or production"),
        (["approve", "credit_risk", "1", "--to", "canary", "--reason", "x"], 2, "--payload-out"),
        (["approve", "credit_risk", "1", "--payload", "p"], 2, "belong together"),
        (["show", "credit_risk", "0"], 2, "equal to 1"),
        (["trace"], 2, "--entity"),
        (["trace", "--entity", "loan_id=1"], 2, "--model"),
        (["trace", "--entity", "loan_id", "--model", "m"], 2, "name=value"),
        (["models"], 2, "No root is named"),
        (["init", "--member", "a=b.pub"], 2, "--root"),
        (["models", "--root", "nowhere"], 2, "settings.toml"),
        (["keys", "--root", "nowhere", "list"], 2, "after the subcommand"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    arguments: list[str], code: int, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ML_PLATFORM_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    ran = call(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == ran.problem + "\n"
    assert says in ran.problem
    assert " Next: " in ran.problem


def test_with_json_an_error_is_the_one_object_on_stdout_and_the_line_stays_on_stderr(tmp_path: Path) -> None:
    ran = call("models", "--json", "--root", tmp_path)
    assert ran.document["error"] == {
        "kind": "SettingsError",
        "what": "The settings file cannot be read.",
        "field": "settings.toml",
        "next_step": ran.document["error"]["next_step"],
    }
    assert ran.document["exit_code"] == ran.code == 2
    assert ran.err == ran.problem + "\n"
    usage = call("frobnicate", "--json")
    assert usage.document["error"]["kind"] == "UsageError"


def test_a_traceback_comes_with_debug_only(tmp_path: Path) -> None:
    assert "Traceback" not in call("models", "--root", tmp_path).err
    ran = call("models", "--root", tmp_path, "--debug")
    assert "Traceback" in ran.err
    assert ran.err.splitlines()[-1] == ran.problem


def test_a_command_that_is_stopped_says_so_and_exits_with_130() -> None:
    commands, app = Commands(), new_app("For a test.")

    @commands.add("wait", examples=["mlp wait"])
    def wait(session: Session) -> Answer:
        """Wait."""
        raise KeyboardInterrupt

    commands.attach(app)
    with pytest.raises(typer.Exit) as stopped:
        app.registered_commands[0].callback(root=None, as_json=False, debug=False)
    assert stopped.value.exit_code == 130


def test_a_declaration_that_cannot_be_imported_is_named_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken_shop.py").write_text("import nothing_of_that_name\n")
    ran = shell("land", "applications", "x.parquet", "--models", "broken_shop", "--root", "r", folder=tmp_path)
    assert ran.code == 2
    assert "nothing_of_that_name" in ran.problem
    assert ran.err == ran.problem + "\n"


def test_a_reader_that_leaves_early_is_no_failure(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); from ml_platform.cli.main import main; main()"
    )
    new = ["keys", "new", "--principal", "ada", "--out", str(tmp_path / "keys" / "ada")]
    done = subprocess.run([sys.executable, "-c", script, *new], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
