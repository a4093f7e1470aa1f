"""The normalised tree of a derived expression: building it, and checking what it may hold.

A node is a JSON object: ``{"column": "dti"}``, ``{"number": "12.0"}`` (text, since JSON cannot say every float64),
``{"text": "36"}``, or ``{"op": …, "args": […]}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ml_platform.core.errors import DeclarationError

if TYPE_CHECKING:
    from sqlglot import exp

__all__ = ["ALLOWED", "Tree", "build", "check_condition", "check_tree", "tree_columns"]

Tree = dict[str, Any]

ALLOWED: Final = (
    "Use columns, number and text literals, + - * /, = <> < <= > >=, and / or / not, case when … then … else … end, "
    "coalesce, abs, least, greatest, ln, is null; texts only in = and <> with a category column."
)
_DEEPEST: Final = 40

# operator: (kind of the arguments, kind of the result, fewest arguments, most arguments)
_SIGNATURES: Final[dict[str, tuple[str, str, int, int]]] = {
    "add": ("number", "number", 2, 2),
    "subtract": ("number", "number", 2, 2),
    "multiply": ("number", "number", 2, 2),
    "divide": ("number", "number", 2, 2),
    "negate": ("number", "number", 1, 1),
    "abs": ("number", "number", 1, 1),
    "ln": ("number", "number", 1, 1),
    "least": ("number", "number", 1, 100),
    "greatest": ("number", "number", 1, 100),
    "coalesce": ("number", "number", 1, 100),
    "equal": ("comparable", "boolean", 2, 2),
    "not_equal": ("comparable", "boolean", 2, 2),
    "less": ("number", "boolean", 2, 2),
    "less_equal": ("number", "boolean", 2, 2),
    "greater": ("number", "boolean", 2, 2),
    "greater_equal": ("number", "boolean", 2, 2),
    "and": ("boolean", "boolean", 2, 2),
    "or": ("boolean", "boolean", 2, 2),
    "not": ("boolean", "boolean", 1, 1),
    "is_null": ("any", "boolean", 1, 1),
}
_BINARY: Final = {
    "Add": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "Div": "divide",
    "EQ": "equal",
    "NEQ": "not_equal",
    "LT": "less",
    "LTE": "less_equal",
    "GT": "greater",
    "GTE": "greater_equal",
    "And": "and",
    "Or": "or",
}
_UNARY: Final = {"Neg": "negate", "Not": "not", "Abs": "abs", "Ln": "ln"}
_VARIADIC: Final = {"Coalesce": "coalesce", "Least": "least", "Greatest": "greatest"}


def _refuse(what: str, field: str, next_step: str = ALLOWED) -> DeclarationError:
    return DeclarationError(what, field=field, next_step=next_step)


def build(node: exp.Expr, columns: Mapping[str, str], field: str, depth: int = 0) -> Tree:
    """Our tree of a parsed expression.

    Raises:
        DeclarationError: a construct outside the grammar, or an unknown column.
    """
    if depth > _DEEPEST:
        raise _refuse("The expression is nested too deeply.", field, "Derive it in steps or in a feature view.")

    def down(child: exp.Expr) -> Tree:
        return build(child, columns, field, depth + 1)

    kind = type(node).__name__
    if kind == "Paren":
        return build(node.this, columns, field, depth)
    if kind in ("Column", "Literal"):
        return _leaf(node, columns, field)
    if kind == "Case":
        return _case(node, down)
    op, arguments = _call(node, kind, field)
    return _fold_sign({"op": op, "args": [down(argument) for argument in arguments]})


def _call(node: exp.Expr, kind: str, field: str) -> tuple[str, list[exp.Expr]]:
    if kind in _BINARY:
        return _BINARY[kind], [node.this, node.expression]
    if kind in _UNARY:
        return _UNARY[kind], [node.this]
    if kind in _VARIADIC:
        return _VARIADIC[kind], [node.this, *node.expressions]
    if kind == "Is" and type(node.expression).__name__ == "Null":
        return "is_null", [node.this]
    raise _refuse(f"{kind.lower()} is not allowed in a derived feature.", field)


def _leaf(node: exp.Expr, columns: Mapping[str, str], field: str) -> Tree:
    if type(node).__name__ == "Column":
        return _column(node, columns, field)
    return {"text": node.this} if node.is_string else _number(node.this, field)


def _column(node: exp.Expr, columns: Mapping[str, str], field: str) -> Tree:
    name = node.name if node.this.args.get("quoted") else node.name.lower()
    if node.args.get("table") or name not in columns:
        raise _refuse(f"There is no column {name!r}.", field, f"Choose one of {', '.join(sorted(columns))}.")
    return {"column": name}


def _number(text: str, field: str) -> Tree:
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise _refuse("A number literal is not a finite float64.", field, "Write a smaller, plain decimal number.")
    return {"number": repr(value)}


def _fold_sign(tree: Tree) -> Tree:
    # "-1" parses as a negated literal: one number, one form.
    argument = tree["args"][0]
    if tree["op"] == "negate" and "number" in argument:
        return {"number": repr(-float(argument["number"]))}
    return tree


def _case(node: exp.Expr, down: Any) -> Tree:
    subject = node.this
    branches = []
    for branch in node.args["ifs"]:
        condition = down(branch.this)
        if subject is not None:
            condition = {"op": "equal", "args": [down(subject), condition]}
        branches.append([condition, down(branch.args["true"])])
    default = node.args.get("default")
    otherwise = None if default is None or type(default).__name__ == "Null" else down(default)
    return {"op": "case", "branches": branches, "else": otherwise}


def tree_columns(tree: Tree) -> set[str]:
    """The columns that a tree reads."""
    if "column" in tree:
        return {tree["column"]}
    found: set[str] = set()
    for child in _children(tree):
        found |= tree_columns(child)
    return found


def _children(tree: Tree) -> list[Tree]:
    if tree.get("op") == "case":
        parts = [part for branch in tree["branches"] for part in branch]
        return parts if tree["else"] is None else [*parts, tree["else"]]
    return list(tree.get("args", ()))


def check_tree(tree: Tree, columns: Mapping[str, str], field: str) -> None:
    """Refuses a tree that is not of the grammar or whose result is a text.

    Raises:
        DeclarationError: says which operator got what.
    """
    if _kind(tree, columns, field) not in ("number", "boolean"):
        raise _refuse("The result is a text.", field)


def check_condition(tree: Tree, columns: Mapping[str, str], field: str) -> None:
    """Refuses a tree that is not of the grammar or that is no condition.

    Raises:
        DeclarationError: says what is there instead.
    """
    kind = _kind(tree, columns, field)
    if kind != "boolean":
        raise _refuse(f"A condition is true or false; this is a {kind}.", field, "Compare it with something.")


def _kind(tree: Tree, columns: Mapping[str, str], field: str) -> str:
    if "column" in tree:
        if tree["column"] not in columns:
            raise _refuse("The tree names an unknown column.", field, f"Choose one of {', '.join(sorted(columns))}.")
        return columns[tree["column"]]
    if "number" in tree:
        return "number"
    if "text" in tree:
        return "text"
    op = tree.get("op")
    if op == "case":
        return _case_kind(tree, columns, field)
    if op not in _SIGNATURES:
        raise _refuse("The tree has an unknown operator.", field)
    wanted, result, fewest, most = _SIGNATURES[op]
    kinds = [_kind(child, columns, field) for child in tree["args"]]
    if not fewest <= len(kinds) <= most:
        raise _refuse(f"{op} has the wrong number of arguments.", field)
    if not _fits(wanted, kinds, tree):
        raise _refuse(f"{op} cannot take {' and '.join(kinds)}.", field)
    return result


def _fits(wanted: str, kinds: list[str], tree: Tree) -> bool:
    if wanted == "comparable":
        return kinds == ["number", "number"] or sorted(kinds) == ["category", "text"]
    if wanted == "any":
        return "column" in tree["args"][0] or kinds == ["number"]
    return all(kind == wanted for kind in kinds)


def _case_kind(tree: Tree, columns: Mapping[str, str], field: str) -> str:
    for condition, value in tree["branches"]:
        if _kind(condition, columns, field) != "boolean" or _kind(value, columns, field) != "number":
            raise _refuse("A case has conditions that are comparisons, and numbers as values.", field)
    if tree["else"] is not None and _kind(tree["else"], columns, field) != "number":
        raise _refuse("The else of a case is a number.", field)
    return "number"
