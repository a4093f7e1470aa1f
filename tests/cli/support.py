"""Running ``mlp``: in this process, in one of its own, and in the folder of a small lender."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_platform.cli.main import run

DECLARATION = """
from dataclasses import replace

from assets.credit_risk import credit_risk
from ml_platform import LightGBM, at_least, brier_skill

QUICK = LightGBM(objective="binary", num_leaves=4, learning_rate=0.1, rounds=10, min_data_in_leaf=20)
small = replace(credit_risk, name="small", trainer=QUICK, gates=[brier_skill(on_inconclusive="ask")], protected=[])
unapproved = replace(small, name="unapproved")
hopeless = replace(credit_risk, name="hopeless", trainer=QUICK, gates=[at_least("auc", 0.99)], protected=[])
"""
MODELS = ("--models", "cli_shop")
ACCEPT = ("--accept", "brier_skill=four defaults are too few for the interval")


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON object on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def problem(self) -> str:
        """The one line on stderr."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("mlp: ")]
        return line


def call(*arguments: object) -> Ran:
    """Runs a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(one) for one in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def shell(*arguments: object, folder: Path | None = None, **environment: str) -> Ran:
    """Runs a command line in a process of its own, its output piped."""
    done = subprocess.run(
        [sys.executable, "-m", "ml_platform.cli", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        timeout=240,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Shop:
    """A folder with a declaration, a market, keys of alice, bob and carol, and a root whose clock stands at July 2010."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def code(self) -> Path:
        """The code location, apart from the root: what lies in it is part of every candidate's key."""
        return self.folder / "code"

    def key(self, principal: str) -> Path:
        return self.folder / "keys" / principal

    def mlp(self, *arguments: object, **environment: str) -> Ran:
        """Runs a command on the root, from the folder."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.code)
            for name, text in environment.items():
                patch.setenv(name, text)
            return call(*arguments, "--root", self.root)

    def must(self, *arguments: object) -> Any:
        """Runs a command that succeeds; its JSON."""
        ran = self.mlp(*arguments, "--json")
        assert ran.code == 0, ran.err
        return ran.document
