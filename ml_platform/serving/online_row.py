"""A whole row as one JSON object: the compact form of a request, with the same strict types as tensors.

``{"loan_amnt": 5000, "term": 36, "mths_since_last_delinq": null}``: a member a field. A JSON integer is a number of any
type, one with a fraction or an exponent is none of an integer field, and nothing else is converted. The usual row is
read by orjson; whatever is unusual is read again by the standard library, which sees every member, and named by field,
rule and kind of value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from ml_platform.serving.online_orjson import object_reader

__all__ = ["LONGEST_ROW", "MISSING", "ROW", "UNDECLARED", "Faulty", "RowField", "RowReader", "safe_name"]

ROW: Final = "row"
"""The tensor that holds whole rows: BYTES, one JSON object a row."""

LONGEST_ROW: Final = 1024 * 1024
MISSING: Final = object()
"""Where a value is none of its field."""

UNDECLARED: Final = "(undeclared)"  # a name that is not one of ours may hold anything: it is not repeated
_SAFE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}(\.null)?")
_LOW, _HIGH = -(2**63), 2**63 - 1
_MOST_PLANS: Final = 1024
_KINDS: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number that is no integer",
    str: "a text",
    type(None): "null",
}


class Faulty(Exception):
    """Something is wrong with a request: field, rule, kind. A way out; nobody but its reader sees it."""


class RowField(NamedTuple):
    """A field of a request: its type in a contract's words; what stands for null, where null is taken."""

    name: str
    type: str
    null: Any = None
    nullable: bool = False


class _Plan(NamedTuple):
    """What is to be done with values of certain types: which become floats, which are null, which may be too large."""

    floats: Sequence[int]
    nulls: Sequence[tuple[int, Any]]
    whole: Sequence[int]


class _Members(list[tuple[str, Any]]):
    """The members of an object as they stand in the text."""


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Members)


class RowReader:
    """Reads rows of one contract. Safe for several threads.

    Args:
        fields: that every row must have: entity keys and inputs.
        time: the field that a row may have: T in microseconds UTC.
        also: names of other versions behind the same router, which are passed over.
    """

    def __init__(self, fields: Sequence[RowField], time: RowField, *, also: frozenset[str]) -> None:
        self._fields = fields
        self._time = time
        names = [one.name for one in fields]
        self._take = itemgetter(*names) if len(names) > 1 else lambda members: (members[names[0]],)
        self._known = frozenset([*names, time.name]) | also
        self._plans: dict[tuple[type, ...], _Plan] = {}
        self._load = object_reader()

    def read(self, raw: Any) -> list[Any]:
        """The values of the fields, and T at the end; None where the row has none.

        Raises:
            Faulty: the row is refused.
        """
        return self._usual(raw) or self._any(raw)

    def _usual(self, raw: Any) -> list[Any] | None:
        """Of a row with nothing unusual; None: look closer."""
        if type(raw) is not bytes or len(raw) > LONGEST_ROW or (members := self._load(raw)) is None:
            return None
        try:
            values = [*self._take(members)]
        except KeyError:
            return None
        t_us, more = members.get(self._time.name, MISSING), len(members) - len(values)
        if t_us is MISSING:
            t_us = None
        elif type(t_us) is int and _LOW <= t_us <= _HIGH:
            more -= 1
        else:
            return None
        if more and not members.keys() <= self._known:
            return None
        kinds = tuple(map(type, values))
        plan = self._plans.get(kinds) or self._new_plan(kinds)
        if plan is None or not _applied(plan, values):
            return None
        values.append(t_us)
        return values

    def _new_plan(self, kinds: tuple[type, ...]) -> _Plan | None:
        floats, nulls, whole = [], [], []
        for place, (one, kind) in enumerate(zip(self._fields, kinds, strict=True)):
            if kind is type(None) and one.nullable:
                nulls.append((place, one.null))
            elif kind is int and one.type == "float64":
                floats.append(place)
            elif kind is int and one.type == "int64":
                whole.append(place)
            elif kind is not _TYPES[one.type]:
                return None
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = self._plans[kinds] = _Plan(floats, nulls, whole)
        return plan

    def _any(self, raw: Any) -> list[Any]:
        members = _members(raw)
        found: dict[str, Any] = {}
        for name, value in members:
            if name in found:
                raise Faulty(safe_name(name), "duplicate", "a name that stands twice")
            found[name] = value
        undeclared = [name for name in found if name not in self._known]
        if undeclared:
            raise Faulty(safe_name(undeclared[0]), "undeclared", "a name that the contract does not name")
        values = [_value(one, found) for one in self._fields]
        values.append(_value(self._time, found) if self._time.name in found else None)
        return values

    def key_values(self, raw: Any, names: Sequence[str]) -> list[Any]:
        """What a broken row says of some fields, ``MISSING`` where that is no value: so that it is found again."""
        try:
            found = dict(_members(raw))
        except Faulty:
            return [MISSING] * len(names)
        by_name = {one.name: one for one in (*self._fields, self._time)}
        values: list[Any] = []
        for name in names:
            try:
                values.append(_value(by_name[name], found))
            except Faulty:
                values.append(MISSING)
        return values


_TYPES: Final[dict[str, type]] = {"float64": float, "int64": int, "string": str, "bool": bool}


def _applied(plan: _Plan, values: list[Any]) -> bool:
    for place in plan.whole:
        if not _LOW <= values[place] <= _HIGH:
            return False
    for place in plan.floats:
        values[place] = float(values[place])
    for place, null in plan.nulls:
        values[place] = null
    return True


def _members(raw: Any) -> _Members:
    """Every member of a row's object, in the order of the text."""
    if not isinstance(raw, bytes | str):
        raise Faulty(ROW, "type", "a value that is no text")
    if len(raw) > LONGEST_ROW:
        raise Faulty(ROW, "length", f"a row of more than {LONGEST_ROW} bytes")
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
    except UnicodeDecodeError:
        raise Faulty(ROW, "utf-8", "a row that is not UTF-8") from None
    try:
        found = _DECODER.decode(text)
    except (ValueError, RecursionError):  # ValueError: also an integer of thousands of digits
        raise Faulty(ROW, "json", "a text that is no JSON") from None
    if not isinstance(found, _Members):
        raise Faulty(ROW, "json", "JSON that is no object")
    return found


def _value(one: RowField, members: dict[str, Any]) -> Any:
    value = members.get(one.name, MISSING)
    if value is MISSING:
        raise Faulty(one.name, "missing", "no value")
    kind = type(value)
    if value is None and one.nullable:
        return one.null
    if kind is int and one.type == "float64":
        return _as_float(value)
    if kind is not _TYPES[one.type]:
        raise Faulty(one.name, "type", _KINDS.get(kind, "an object or a list"))
    if kind is int and not _LOW <= value <= _HIGH:
        raise Faulty(one.name, "type", "an integer beyond 64 bits")
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def safe_name(name: str) -> str:
    """A name of the client's that may be said; else what stands for such names."""
    return name if _SAFE_NAME.fullmatch(name) else UNDECLARED
