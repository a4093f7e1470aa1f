"""Documentation that can fail: links lead somewhere, commands exist, Python compiles, and the tutorial is executed."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import call, shell
from tests.cli.test_help import GROUP
from tests.conftest import REPOSITORY, missing

PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "benchmarks").glob("*.md")]
)
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
SHELL = ("", "sh", "console")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line where it begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    found, text = [], page.read_text()
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        found.append(Block(match[1], match[2], text[: match.start()].count("\n") + 1))
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def command_lines(page: Path) -> Iterator[str]:
    """Every ``mlp …`` that a page tells somebody to type."""
    for block in blocks(page):
        if block.language in SHELL:
            yield from (line for line in block.text.splitlines() if line.startswith("mlp "))
    yield from re.findall(r"`(mlp [^`]+)`", prose(page))


def arguments_of(line: str) -> list[str]:
    """What the shell hands to ``mlp``: pipes and redirections end it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>;&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("|<>;&"):
            break
        words.append(word)
    return words[1:]


def slug(heading: str) -> str:
    """A heading's anchor, as forges make it."""
    text = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def headings(page: Path) -> set[str]:
    return {slug(found) for found in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_a_file_and_a_heading_of_it(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_is_one_with_options_that_exist(page: Path) -> None:
    for line in command_lines(page):
        command: Any = GROUP
        words = arguments_of(line)
        is_complete = "…" not in line
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        if hasattr(command, "commands"):
            assert not words or words[0].startswith("-"), line
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h", "--version"}
        assert {word for word in words if word.startswith("-")} <= known, line
        if is_complete and not hasattr(command, "commands") and not _is_mention(line):
            context = command.context_class(command, info_name="mlp", resilient_parsing=True)
            _, left, _ = command.make_parser(context).parse_args(words)
            assert not left, line


def _is_mention(line: str) -> bool:
    """``mlp keys add`` in a sentence names a command; only what has arguments is a command line."""
    return len(line.split()) <= 2


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_make_target_is_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    named = re.findall(r"`make ([a-z]+)[^`]*`", text) + re.findall(r"^make ([a-z]+)", text, re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_compiles(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")


@pytest.mark.parametrize("name", ["features", "datasets", "dagster"])
def test_python_of_the_pages_on_declarations_runs(name: str) -> None:
    written = [block for block in blocks(REPOSITORY / "docs" / f"{name}.md") if block.language == "python"]
    assert written
    for block in written:
        exec(compile(block.text, f"{name}.md:{block.line}", "exec"), {})


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs" / "README.md").read_text()
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_the_version_has_its_changes() -> None:
    version = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## {version[1]}" in (REPOSITORY / "CHANGELOG.md").read_text()


def matches(shown: ast.AST, real: ast.AST) -> bool:
    """Whether code is shown as it is; ``...`` at the end of a list stands for elements that are left out."""
    if isinstance(shown, ast.List) and isinstance(real, ast.List) and shown.elts:
        last = shown.elts[-1]
        if isinstance(last, ast.Constant) and last.value is ...:
            rest = iter(real.elts)
            return all(any(matches(one, other) for other in rest) for one in shown.elts[:-1])
    if type(shown) is not type(real):
        return False
    for name in shown._fields:
        left, right = getattr(shown, name, None), getattr(real, name, None)
        pairs = (
            zip(left, right, strict=False) if isinstance(left, list) and isinstance(right, list) else [(left, right)]
        )
        if isinstance(left, list) and len(left) != len(right):
            return False
        for one, other in pairs:
            same = matches(one, other) if isinstance(one, ast.AST) and isinstance(other, ast.AST) else one == other
            if not same:
                return False
    return True


def assignments(code: str) -> dict[str, ast.expr]:
    body = ast.parse(code).body
    return {
        statement.targets[0].id: statement.value
        for statement in body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def model_in_readme() -> str:
    (block,) = [block for block in blocks(REPOSITORY / "README.md") if block.language == "python"]
    return block.text


def test_the_model_in_the_readme_is_the_one_in_assets() -> None:
    shown = assignments(model_in_readme())
    real = assignments((REPOSITORY / "assets" / "credit_risk.py").read_text())
    assert "credit_risk" in shown
    for name, value in shown.items():
        assert matches(value, real[name]), name


def test_a_change_of_one_number_in_the_shown_model_would_be_seen() -> None:
    real = assignments((REPOSITORY / "assets" / "credit_risk.py").read_text())
    changed = assignments(model_in_readme().replace("above=0.06", "above=0.07"))
    assert not matches(changed["credit_risk"], real["credit_risk"])


def test_the_model_in_the_readme_has_about_thirty_lines() -> None:
    assert len([line for line in model_in_readme().splitlines() if line.strip()]) <= 36


def test_the_requests_on_the_page_of_serving_have_every_field_of_the_model() -> None:
    from assets.credit_risk import application, loan

    page = blocks(REPOSITORY / "docs" / "serving.md")
    (row,) = [json.loads(block.text) for block in page if block.language == "json"]
    (curl,) = [block.text for block in page if block.text.startswith("curl ")]
    body = json.loads(curl.split("-d ", 1)[1].strip().strip("'"))
    declared = {column.name for column in application.columns} | set(loan.keys)
    assert set(row) == declared
    assert {tensor["name"].removesuffix(".null") for tensor in body["inputs"]} == declared


def test_the_demo_says_what_it_takes() -> None:
    ran = call("demo", "--help")
    assert ran.code == 0
    assert "--data" in ran.out
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "mlp demo --root $(ROOT)" in makefile
    assert re.search(r"^test:.*\n(\t.*\n)*\t.*pytest.* tests$", makefile, re.MULTILINE)


# The tutorial, step by step.


def pattern(line: str) -> re.Pattern[str]:
    """A shown line: … stands for anything, and columns may be wider or narrower."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in line.split("…")]
    return re.compile(r".*?".join(parts))


def is_shown(output: str, line: str) -> bool:
    wanted = pattern(line)
    return any(wanted.match(" ".join(given.split())) or wanted.match(given.strip()) for given in output.splitlines())


@dataclass(frozen=True)
class Step:
    """What is to be typed, and the lines that it is said to print."""

    blocks: tuple[Block, ...]
    shown: tuple[str, ...]


def steps(page: Path) -> list[Step]:
    """Commands up to the next output; what follows without an output is a step of its own."""
    made: list[Step] = []
    waiting: list[Block] = []
    for block in blocks(page):
        if block.language == "text":
            made.append(Step(tuple(waiting), tuple(line for line in block.text.splitlines() if line.strip())))
            waiting = []
        else:
            waiting.append(block)
    return [*made, Step(tuple(waiting), ())]


@dataclass
class Reader:
    """Somebody who follows a tutorial in a checkout; ``apart``: each command in a process of its own.

    Python that begins with ``# assets/….py`` is saved there; other Python is run.
    """

    folder: Path
    apart: bool = False

    def follow(self, step: Step) -> str:
        said = [
            self._python(block) if block.language == "python" else self._shell(block, step) for block in step.blocks
        ]
        return "\n".join(said)

    def _python(self, block: Block) -> str:
        saved = re.match(r"# (assets/\w+\.py)\n", block.text)
        if saved is not None:
            (self.folder / saved[1]).write_text(block.text)
            return ""
        done = subprocess.run(
            [sys.executable, "-c", block.text],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _shell(self, block: Block, step: Step) -> str:
        said = []
        is_refusal = any(line.startswith("mlp: ") for line in step.shown)
        lines = block.text.splitlines()
        for line in lines:
            assert line.startswith("mlp "), line
            if self.apart:
                ran = shell(*arguments_of(line), folder=self.folder)
            else:
                with pytest.MonkeyPatch.context() as patch:
                    patch.chdir(self.folder)
                    ran = call(*arguments_of(line))
            is_last = line == lines[-1]
            assert (ran.code == 7) if is_refusal and is_last else (ran.code == 0), (line, ran.err)
            said.append(ran.out + ran.err)
        return "\n".join(said)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(checkout(tmp_path_factory.mktemp("checkout")))


def checkout(folder: Path) -> Path:
    """A checkout with one commit, by somebody who is neither Alice nor Bob."""
    if shutil.which("git") is None:
        missing("git is not installed")
    shutil.copytree(REPOSITORY / "assets", folder / "assets", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text("roots/\n__pycache__/\n")
    for line in ("init -q", "add -A", "-c user.name=Carol -c user.email=carol@example.org commit -q -m models"):
        subprocess.run(["git", *line.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def followed(reader: Reader) -> list[tuple[Step, str]]:
    """Every step of the tutorial and what it printed."""
    return [(step, reader.follow(step)) for step in steps(REPOSITORY / "docs" / "tutorial.md")]


def test_the_tutorial_prints_what_it_shows(followed: list[tuple[Step, str]]) -> None:
    assert len(followed) > 8
    for step, output in followed:
        for line in step.shown:
            assert is_shown(output, line), f"{line!r} is not in\n{output}"


def test_the_tutorial_of_a_second_model_prints_what_it_shows(tmp_path: Path) -> None:
    reader = Reader(checkout(tmp_path), apart=True)
    followed = [(step, reader.follow(step)) for step in steps(REPOSITORY / "docs" / "tutorial-churn.md")]
    assert len(followed) > 4
    for step, output in followed:
        for line in step.shown:
            assert is_shown(output, line), f"{line!r} is not in\n{output}"


def test_a_shown_line_that_was_not_printed_is_noticed() -> None:
    printed = "  rows           42,535\nmlp: 0 of 2 approvals for canary are there. Next: sign."
    assert is_shown(printed, "rows      42,535")
    assert is_shown(printed, "mlp: 0 of … approvals for canary are there. …")
    assert not is_shown(printed, "rows      42,536")
    assert not is_shown(printed, "declined")


OF_THE_DEMO = re.compile(r"Approval of |reason  |stage now  |partition  |left out there  ")
"""What only the demo's officers wrote, its second version changed, or its online decisions left to the batch."""


@pytest.fixture(scope="module")
def readme_trace(reader: Reader, followed: list[tuple[Step, str]]) -> str:
    """The decision of the README, made in the tutorial's root: the same version, the same month."""
    assert followed
    replay = "from datetime import *; from pathlib import Path; from ml_platform import Platform; "
    replay += "Platform.local(Path('roots/tutorial')).replay.move(datetime(2011, 4, 1, tzinfo=UTC))"
    month = "mlp score credit_risk --partition 2011-03 --root roots/tutorial"
    (shell,) = [block for block in blocks(REPOSITORY / "README.md") if block.language == "sh"]
    trace = shell.text.replace("roots/demo", "roots/tutorial")
    typed = (Block("python", replay, 0), Block("sh", month, 0), Block("sh", trace, 0))
    return reader.follow(Step(typed, ()))


def test_the_trace_in_the_readme_is_a_real_one(readme_trace: str) -> None:
    (shown,) = [block for block in blocks(REPOSITORY / "README.md") if block.language == "text"]
    lines = [line for line in shown.text.splitlines() if not OF_THE_DEMO.match(line.strip())]
    assert len(lines) > 30
    for line in lines:
        assert is_shown(readme_trace, line), f"{line!r} is not in\n{readme_trace}"
