"""What a failure looks like: one line on stderr with the next step, an exit code, and with ``--json`` an object.

Every exit code is that of its error (`ml_platform.core.errors`); ``docs/cli.md`` lists them.
"""

from __future__ import annotations

import errno
import sys
import traceback
from dataclasses import dataclass
from typing import Any, Final

from ml_platform.cli.screen import Screen
from ml_platform.cli.text import printable

__all__ = ["INTERRUPTED", "UNEXPECTED", "USAGE", "Problem", "report"]

UNEXPECTED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Problem:
    """A failure as it is shown."""

    kind: str
    what: str
    field: str | None
    next_step: str
    exit_code: int

    @classmethod
    def of(cls, error: BaseException) -> Problem:
        """The problem that an exception stands for; unknown ones give their type only, for their text may hold data."""
        from ml_platform.core.errors import PlatformError, StorageFailed

        if isinstance(error, PlatformError):
            return cls(type(error).__name__, error.what, error.field, error.next_step, error.exit_code)
        if isinstance(error, KeyboardInterrupt):
            what = "Stopped by Ctrl-C; nothing is half-done."
            return cls("Interrupted", what, None, "The same command continues.", INTERRUPTED)
        if isinstance(error, OSError):
            what = "The disk is full" if error.errno in _FULL else f"A file or folder cannot be used ({error.strerror})"
            step = "Free space or mend its permissions, then run the same command again."
            return cls("StorageFailed", f"{what}; nothing is half-done.", None, step, StorageFailed.exit_code)
        what = f"An unexpected error ({type(error).__name__})."
        return cls("Unexpected", what, None, "Run it again with --debug and report the traceback.", UNEXPECTED)

    @classmethod
    def usage(cls, message: str, command: str, field: str | None = None) -> Problem:
        """A command line that nobody can parse."""
        # The parser's own sentences do not all end.
        said = message if message.endswith((".", "?", "!")) else f"{message}."
        return cls("UsageError", said, field, f"`{command} --help` shows what it takes.", USAGE)

    def line(self) -> str:
        """``mlp: <field>: <what> Next: <step>``, without a line break."""
        where = f"{self.field}: " if self.field and self.field not in self.what else ""
        return printable(f"mlp: {where}{self.what} Next: {self.next_step}")

    def to_json(self) -> dict[str, Any]:
        return {
            "error": {"kind": self.kind, "what": self.what, "field": self.field, "next_step": self.next_step},
            "exit_code": self.exit_code,
        }


def report(problem: Problem, *, as_json: bool, debug: bool = False, error: BaseException | None = None) -> int:
    """Shows a problem and returns its exit code."""
    if debug and error is not None:
        traceback.print_exception(error, file=sys.stderr)
    screen = Screen(as_json)
    screen.remark(problem.line())
    if as_json:
        screen.document(problem.to_json())
    return problem.exit_code
