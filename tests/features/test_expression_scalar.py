"""One row at a time gives the bits that whole columns give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings

from ml_platform.core.errors import SchemaMismatch
from ml_platform.features.expression_scalar import compile_row
from ml_platform.features.expressions import parse
from tests.features.test_expressions import KINDS, ROWS, TEXTS, bits, columns_of

ORDER = ("term", "c", "b", "a")


@given(TEXTS, ROWS)
@example("least(a, b)", [(-0.0, 0.0, None, None)])
@example("greatest(a, b) / c", [(-0.0, 0.0, -0.0, None)])
@example("a / b", [(1.0, 0.0, None, None), (0.0, 0.0, None, None), (1.0, -0.0, None, None)])
@example("a * b * 0", [(1e200, 1e200, None, None)])
@example("a + b", [(1.7e308, 1.7e308, None, None)])
@example("ln(a)", [(0.0, None, None, None), (-1.0, None, None, None), (5e-324, None, None, None)])
@example("coalesce(a * b, b, c)", [(1e200, 1e200, 7.0, None), (None, None, 7.0, None)])
@example("least(a, b, c)", [(None, 1.0, 0.0, None), (3.0, 1.0, 2.0, None)])
@example("case when a = b and term = '36' then a else c end", [(1.0, 1.0, 2.0, "36"), (None, 1.0, 2.0, None)])
@settings(max_examples=400, deadline=None)
def test_rows_and_columns_agree_bit_for_bit(text: str, rows: Any) -> None:
    expression = parse(text, KINDS)
    columns = columns_of(rows)
    compute = compile_row(expression.tree, ORDER)
    listed = {name: columns[name].tolist() for name in ORDER}
    ours = np.array([compute([listed[name][row] for name in ORDER]) for row in range(len(rows))], np.float64)
    theirs = expression.evaluate(columns)
    nan = np.isnan(theirs)
    assert np.isnan(ours).tolist() == nan.tolist()
    assert bits(ours[~nan]) == bits(theirs[~nan])


def test_a_missing_column_is_named() -> None:
    for text, missing in (("a + b", "b"), ("term = '36'", "term")):
        with pytest.raises(SchemaMismatch, match=missing):
            compile_row(parse(text, KINDS).tree, ("a",))


def test_a_row_may_be_any_sequence() -> None:
    assert compile_row(parse("a / b", KINDS).tree, ("a", "b"))((1.0, 4.0)) == 0.25
    assert math.isnan(compile_row(parse("a / b", KINDS).tree, ("a", "b"))((1.0, 0.0)))
