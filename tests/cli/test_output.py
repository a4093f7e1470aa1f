"""The same answer three ways: rich on a terminal, plain lines in a pipe, one JSON object for a program."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_platform.cli.blocks import Fields, Line, Section, Table, plain_lines
from ml_platform.cli.text import duration, estimate, jsonable, moment, number, printable, short, value
from tests.cli.support import Shop, shell

ESCAPE = "\x1b"


def on_a_terminal(*arguments: object, folder: Path) -> str:
    """What a person sees: both streams of the command on a pseudo-terminal."""
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "ml_platform.cli", *map(str, arguments)],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        os.close(theirs)
        found = b""
        while True:
            try:
                part = os.read(mine, 65_536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            found += part
        process.wait()
    os.close(mine)
    return found.decode()


def test_a_pipe_gets_no_control_codes_and_a_terminal_does(shop: Shop) -> None:
    piped = shell("verify", "--root", shop.root, folder=shop.folder)
    assert piped.code == 0
    assert ESCAPE not in piped.out + piped.err
    seen = on_a_terminal("verify", "--root", shop.root, folder=shop.folder)
    assert ESCAPE in seen
    for line in piped.out.splitlines():
        assert line.split()[0] in seen


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "GITHUB_ACTIONS", "CLICOLOR_FORCE"])
def test_no_variable_puts_control_codes_into_a_pipe(shop: Shop, variable: str) -> None:
    piped = shell("keys", "list", "--root", shop.root, folder=shop.folder, **{variable: "1"})
    assert piped.code == 0
    assert ESCAPE not in piped.out + piped.err
    assert ESCAPE not in shell("keys", "list", "--help", **{variable: "1"}).out


def test_progress_goes_to_stderr_and_json_alone_to_stdout(shop: Shop) -> None:
    ran = shop.mlp("verify", "--json")
    assert ran.document["verified"] is True
    assert "verifying" in ran.err


def test_a_table_is_aligned_and_never_cut() -> None:
    long = "x" * 300
    lines = list(plain_lines([Section("Title"), Table(("a", "b"), [("1", long), ("1000", "y")])]))
    assert lines == ["Title", "  a     b", f"  1     {long}", "  1000  y"]


def test_sections_are_apart_and_empty_things_are_said() -> None:
    lines = plain_lines(
        [Section("One"), Fields([("name", ""), ("other", "v")]), Section("Two"), Table(("a",), [], "nothing")]
    )
    assert list(lines) == ["One", "  name   –", "  other  v", "", "Two", "  nothing"]


def test_text_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b]0;title\x07\nb") == "a\\x1b]0;title\\x07\\nb"
    assert list(plain_lines([Line("two\nlines")])) == ["two\\nlines"]


def test_rich_does_not_take_text_for_markup(tmp_path: Path) -> None:
    import io

    from rich.console import Console

    from ml_platform.cli.screen import show_rich

    stream = io.StringIO()
    blocks = [Section("[red]t[/red]"), Fields([("[b]", "[i]x")]), Table(("[u]",), [("[/]",)]), Line("[blink]")]
    show_rich(Console(file=stream, force_terminal=True, width=80), blocks)
    for text in ("[red]t[/red]", "[b]", "[i]x", "[u]", "[/]", "[blink]"):
        assert text in stream.getvalue()


def test_numbers_come_with_their_intervals() -> None:
    interval = {"point": 0.721, "low": 0.66, "high": 0.772, "level": 0.95, "method": "delong"}
    assert estimate(interval, 2) == "0.72 [0.66, 0.77]"
    assert estimate({"point": 1.0, "low": 0, "high": 2}) == "1.000 [0.000, 2.000]"
    assert estimate({"point": 0.5, "low": 0.5, "high": 0.5}) == "0.500"
    assert estimate({"absent": "One class only."}) == "absent: One class only."
    assert estimate(None) == "–"
    assert number(float("nan")) == "–"
    assert number(-0.00012) == "-1.20e-04"
    assert number(1_234_567) == "1,234,567"


def test_times_are_shown_in_utc() -> None:
    assert moment(datetime(2010, 1, 1, 12, tzinfo=UTC)) == "2010-01-01 12:00:00Z"
    assert moment("2010-01-01T00:00:00.250000Z") == "2010-01-01 00:00:00.250000Z"
    assert moment(None) == "–"
    assert [duration(us) for us in (0, 60_000_000, 3_600_000_000, 86_400_000_000, None)] == [
        "0 s",
        "1 min",
        "1 h",
        "1 d",
        "–",
    ]


def test_what_is_absent_says_why_and_digests_are_short() -> None:
    assert value({"cpu": "x", "gpu": {"absent": "None here."}}) == "cpu=x, gpu=absent: None here."
    assert value([True, False, None]) == "yes, no, –"
    assert short("sha256:" + "a" * 64) == "sha256:aaaaaaaaaaaa…"
    assert short(None) == "–"


def test_json_holds_no_number_that_is_none() -> None:
    assert jsonable(
        {"a": float("nan"), "b": float("inf"), "c": (1, b"\x01"), "d": datetime(2010, 1, 1, tzinfo=UTC)}
    ) == {
        "a": None,
        "b": None,
        "c": [1, "01"],
        "d": "2010-01-01T00:00:00.000000Z",
    }
