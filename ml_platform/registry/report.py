"""The outcome of ``verify``: what is wrong, how wrong, and one sentence that claims no more than was shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["EXIT_CODES", "Grade", "Problem", "Report"]

Grade = Literal["tampered", "incomplete", "unwitnessed"]
EXIT_CODES: Final[Mapping[str, int]] = {"verified": 0, "tampered": 5, "incomplete": 10, "unwitnessed": 11}


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be.

    Args:
        grade: ``tampered``, ``incomplete`` (evidence is missing) or ``unwitnessed``.
        entry: log index of the first bad entry, where one can be named.
        what: what is wrong.
        expected: what was expected.
    """

    grade: Grade
    entry: int | None
    what: str
    expected: str


@dataclass(frozen=True)
class Report:
    """The outcome. ``since`` is the size of the older checkpoint that the log was held against.

    Without one the log is internally consistent only: an operator who rewrote everything could have made it.
    """

    size: int
    root: str
    genesis: str | None
    checkpoints: int
    since: int | None
    problems: tuple[Problem, ...]
    open_writers: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``verified``, or the worst grade of a problem."""
        grades = {problem.grade for problem in self.problems}
        return next((grade for grade in ("tampered", "incomplete", "unwitnessed") if grade in grades), "verified")

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]

    @property
    def statement(self) -> str:
        """One sentence that claims no more than was shown."""
        if self.problems:
            first = self.problems[0]
            where = "" if first.entry is None else f" at entry {first.entry}"
            return f"{self.status}{where}: {first.what} Expected: {first.expected}"
        if self.since is None:
            return "Internally consistent only: no older checkpoint was given."
        return f"Verified: the log extends the checkpoint of {self.since} entries."

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "status": self.status,
            "statement": self.statement,
            "entries": self.size,
            "root": self.root,
            "genesis": self.genesis,
            "checkpoints": self.checkpoints,
            "since": self.since,
            "problems": [vars(problem) for problem in self.problems],
            "open_writers": list(self.open_writers),
        }
