"""Which code a model was trained by, and who wrote it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ml_platform.core.digests import document_digest, file_digest
from ml_platform.training.absent import Absent

__all__ = ["CodeState"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAIL: Final = re.compile(r"<([^<>\s]+@[^<>\s]+)>")
_NO_GIT: Final = "Git is not installed on this machine."
_NO_REPOSITORY: Final = "The code is not in a Git repository with a commit."
_TIMEOUT_SECONDS: Final = 60


@dataclass(frozen=True)
class CodeState:
    """The code location at one moment.

    Attributes:
        commit: the checked-out commit.
        branch: its branch.
        dirty: whether files of the location differ from the commit.
        tree: digest over the files of the location, as they are now (names and contents).
        authors: e-mails, lower case, sorted, of authors and co-authors of the commits that touched the location since
            the asked commit (all of them if none was asked). Absent means unknown: then two approvers are needed.
    """

    commit: str | Absent
    branch: str | Absent
    dirty: bool | Absent
    tree: str
    authors: tuple[str, ...] | Absent

    @classmethod
    def of(cls, path: Path, *, since: str | None = None, exclude: Path | None = None) -> CodeState:
        """Reads the state of a folder.

        Args:
            path: the code location.
            since: the previous production version's commit; its successors' authors are asked for.
            exclude: a folder whose files are no code, such as the platform's root, where there is no Git to say so.
        """
        git = _Git.find(path)
        if isinstance(git, Absent):
            return cls(git, git, git, _tree(path, sorted(_walk(path, exclude))), git)
        commit = git.run("rev-parse", "HEAD")
        branch = git.run("symbolic-ref", "--short", "HEAD")
        return cls(
            commit=commit or Absent(_NO_REPOSITORY),
            branch=branch or Absent("No branch is checked out."),
            dirty=bool(git.run("status", "--porcelain", "--", ".")),
            tree=_tree(path, git.files()),
            authors=git.authors(since),
        )

    def to_json(self) -> dict[str, object]:
        """What the run record holds: no e-mails; the registry commits to those."""
        return {"commit": self.commit, "branch": self.branch, "dirty": self.dirty, "tree": self.tree}


@dataclass(frozen=True)
class _Git:
    program: str
    path: Path

    @classmethod
    def find(cls, path: Path) -> _Git | Absent:
        program = shutil.which("git")
        if program is None:
            return Absent(_NO_GIT)
        git = cls(program, path)
        return git if git.run("rev-parse", "--verify", "HEAD") else Absent(_NO_REPOSITORY)

    def run(self, *arguments: str) -> str | None:
        """Output without the last newline; None when Git says no."""
        command = [self.program, "--no-optional-locks", "-C", str(self.path), *arguments]
        done = subprocess.run(  # noqa: S603 - a fixed program, our own arguments, no shell
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_TIMEOUT_SECONDS
        )
        return done.stdout.rstrip("\n") if done.returncode == 0 else None

    def files(self) -> list[str]:
        """Tracked files and new ones that are not ignored, relative to the location."""
        listed = self.run("ls-files", "--cached", "--others", "--exclude-standard", "-z") or ""
        return sorted({name for name in listed.split("\0") if name and (self.path / name).is_file()})

    def authors(self, since: str | None) -> tuple[str, ...] | Absent:
        if self.run("rev-parse", "--is-shallow-repository") != "false":
            return Absent("The clone is shallow: earlier authors are unknown.")
        if since is not None and (not _COMMIT.fullmatch(since) or not self._is_ancestor(since)):
            return Absent("The previous production version's commit is not in this history.")
        span = "HEAD" if since is None else f"{since}..HEAD"
        trailers = "%(trailers:key=Co-authored-by,valueonly)"
        log = self.run("log", f"--format=<%aE>%n{trailers}", span, "--", ".")
        if log is None:
            return Absent("Git cannot read the history.")
        return tuple(sorted({mail.lower() for mail in _MAIL.findall(log)}))

    def _is_ancestor(self, commit: str) -> bool:
        return self.run("merge-base", "--is-ancestor", commit, "HEAD") is not None


def _walk(path: Path, exclude: Path | None) -> list[str]:
    """Files below a folder without Git: no hidden ones, no compiled ones."""
    left_out = None if exclude is None else exclude.resolve()
    relative = (
        file.relative_to(path)
        for file in path.rglob("*")
        if file.is_file() and (left_out is None or left_out not in file.resolve().parents)
    )
    return [
        name.as_posix()
        for name in relative
        if not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    ]


def _tree(path: Path, files: list[str]) -> str:
    return document_digest("code", {name: file_digest(path / name) for name in files})
