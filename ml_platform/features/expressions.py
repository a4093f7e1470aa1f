"""Derived features: a closed grammar, one normalised tree, two back ends that agree bit for bit.

Numbers are float64 from the first literal on. Null in, null out; a division by zero, the logarithm of what is not
positive, and every overflow are null. Comparisons and and / or / not are three-valued, as in SQL: unknown unless
certain; a ``case`` takes a branch only when its condition is certainly true. ``least`` and ``greatest`` are null when
any argument is (SQL's own skip nulls). A boolean result is 1 or 0. All operations but ``ln`` are IEEE 754's and
the same on every machine; ``ln`` is the C library's, within an ulp, and the same in both back ends of one machine.

The parser (sqlglot) only parses. What is digested, stored in contracts and compiled is our own tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DeclarationError
from ml_platform.features.expression_numpy import evaluate
from ml_platform.features.expression_sql import compile_sql
from ml_platform.features.expression_tree import ALLOWED, Tree, build, check_tree, tree_columns

__all__ = ["Expression", "parse"]

_LONGEST: Final = 4_000


@dataclass(frozen=True)
class Expression:
    """A parsed derived feature. Equal trees are equal expressions, however they were written."""

    tree: Tree = field(hash=False)

    def spec(self) -> Tree:
        """The normalised JSON tree: lower case, no redundant parentheses, literals as float64 text."""
        return self.tree

    @classmethod
    def from_spec(cls, tree: Tree, columns: Mapping[str, str]) -> Expression:
        """The expression of a stored tree; ``columns`` as in ``parse``.

        Raises:
            DeclarationError: the tree is not of the grammar.
        """
        check_tree(tree, columns, "derived")
        return cls(tree)

    def columns(self) -> tuple[str, ...]:
        """The request columns that it reads, sorted."""
        return tuple(sorted(tree_columns(self.tree)))

    def evaluate(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Values by numpy: float64 [n], NaN where null, no infinity.

        Numbers are float64 arrays with NaN for null, finite otherwise; categories are object arrays of text and None.
        """
        return evaluate(self.tree, columns)

    def duckdb_sql(self) -> str:
        """The same values as a DuckDB expression of type DOUBLE; each operand stands in it once, so it stays small."""
        return compile_sql(self.tree)


def parse(text: str, columns: Mapping[str, str], *, field: str = "derived") -> Expression:
    """Reads a derived expression.

    Args:
        text: such as ``installment * 12 / annual_inc``.
        columns: the request columns and their kinds, ``number`` or ``category``.
        field: the name of the derived feature, for errors.

    Raises:
        DeclarationError: lists what is allowed, or the columns that there are.
    """
    import sqlglot
    from sqlglot.errors import SqlglotError

    if len(text) > _LONGEST:
        raise DeclarationError("The expression is too long.", field=field, next_step="Derive it in a feature view.")
    try:
        parsed = sqlglot.parse_one(text, read="duckdb")
    except (SqlglotError, RecursionError) as error:
        raise DeclarationError("The expression cannot be parsed.", field=field, next_step=ALLOWED) from error
    tree = build(parsed, columns, field)
    check_tree(tree, columns, field)
    return Expression(tree)
