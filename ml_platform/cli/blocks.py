"""What an answer looks like, as data: fields, tables, lines, sections. Rendering is `ml_platform.cli.screen`'s.

Views are pure functions from a document to blocks, so they are tested without a root and look the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ml_platform.cli.text import NONE, printable

__all__ = ["Answer", "Block", "Fields", "Line", "Section", "Table", "plain_lines"]


@dataclass(frozen=True)
class Section:
    """A heading; what follows belongs to it."""

    title: str


@dataclass(frozen=True)
class Line:
    """One sentence."""

    text: str


@dataclass(frozen=True)
class Fields:
    """Names and values, one a line."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows under headers; ``empty`` is said where there are none."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = "none"


Block: TypeAlias = Section | Line | Fields | Table


@dataclass(frozen=True)
class Answer:
    """What a command answers: the document for ``--json``, the blocks for a reader, and the exit code."""

    document: Any
    blocks: Sequence[Block] = field(default_factory=tuple)
    exit_code: int = 0


def plain_lines(blocks: Iterable[Block]) -> Iterator[str]:
    """The blocks as text without any control code: aligned, never wrapped or cut, so that a pipe gets all of it."""
    first = True
    indent = ""
    for block in blocks:
        if isinstance(block, Section):
            if not first:
                yield ""
            yield printable(block.title)
            indent = "  "
        elif isinstance(block, Line):
            yield indent + printable(block.text)
        elif isinstance(block, Fields):
            width = max((len(name) for name, _ in block.items), default=0)
            yield from (
                f"{indent}{printable(name):<{width}}  {printable(value) or NONE}" for name, value in block.items
            )
        else:
            yield from (indent + line for line in _table(block))
        first = False


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        yield table.empty
        return
    rows = [[printable(cell) or NONE for cell in row] for row in (table.headers, *table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.headers))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
