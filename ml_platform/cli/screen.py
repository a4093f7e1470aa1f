"""Where output goes: the answer to stdout, remarks, progress and errors to stderr.

On a terminal with colours and a moving line (rich); anywhere else plain lines without a control code. ``--json``
makes stdout one JSON object and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from ml_platform.cli.blocks import Answer, Block, Fields, Line, Section, plain_lines
from ml_platform.cli.text import NONE, jsonable, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Note", "Screen", "is_terminal", "show_rich"]

Note = Callable[[str], None]


def is_terminal(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Whether a person looks at the stream through something that understands more than lines."""
    terminal = (os.environ if environ is None else environ).get("TERM", "")
    return stream.isatty() and terminal != "dumb"


@dataclass(frozen=True)
class Screen:
    """The output of one command."""

    as_json: bool = False

    def show(self, answer: Answer) -> None:
        """Prints the answer: one JSON object, or the blocks."""
        if self.as_json:
            self.document(answer.document)
        elif is_terminal(sys.stdout):
            show_rich(_console(sys.stdout), answer.blocks)
        else:
            for line in plain_lines(answer.blocks):
                print(line)  # noqa: T201 - the answer itself
        sys.stdout.flush()

    def document(self, document: Any) -> None:
        """Prints one JSON object: indented for a person, on one line for a program."""
        indent = 2 if is_terminal(sys.stdout) else None
        print(json.dumps(jsonable(document), ensure_ascii=False, allow_nan=False, indent=indent), flush=True)  # noqa: T201

    def remark(self, text: str) -> None:
        """Says something on the way, on stderr."""
        line = printable(text)
        if is_terminal(sys.stderr):
            _console(sys.stderr).print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - remarks are for people, not for logs

    @contextmanager
    def step(self, what: str) -> Iterator[Note]:
        """A step of a longer command: a moving line on a terminal, one finished line with its time in the end.

        Yields:
            A function that says what came out; it is added to the finished line.
        """
        found: list[str] = []
        started = time.monotonic()
        if is_terminal(sys.stderr):
            with _console(sys.stderr).status(printable(what)):
                yield found.append
        else:
            yield found.append
        told = f": {'; '.join(found)}" if found else ""
        self.remark(f"{what}{told} ({time.monotonic() - started:.1f} s)")


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream)


def show_rich(console: Console, blocks: Iterable[Block]) -> None:
    """As `plain_lines`, with weight and rules; text is never taken as markup."""
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    indent, first = 0, True
    for block in blocks:
        if isinstance(block, Section):
            console.print(Text(("" if first else "\n") + printable(block.title), style="bold"))
            indent = 2
        elif isinstance(block, Line):
            console.print(Padding(Text(printable(block.text)), (0, 0, 0, indent), expand=False))
        else:
            grid = RichTable(box=None, pad_edge=False, show_header=not isinstance(block, Fields), header_style="dim")
            if isinstance(block, Fields):
                grid.add_column(style="dim", no_wrap=True)
                grid.add_column(overflow="fold")
                rows: Iterable[Iterable[str]] = block.items
            else:
                for header in block.headers:
                    grid.add_column(Text(printable(header)), overflow="fold")
                rows = block.rows
                if not block.rows:
                    console.print(Padding(Text(printable(block.empty), style="dim"), (0, 0, 0, indent), expand=False))
                    continue
            for row in rows:
                grid.add_row(*(Text(printable(cell) or NONE) for cell in row))
            console.print(Padding(grid, (0, 0, 0, indent), expand=False))
        first = False
