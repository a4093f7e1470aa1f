"""The policies of one field over the values of a batch: the same rules, in the same order, as ``core.contract``.

A value is what a tensor holds: a float, an int, a bool, or the bytes of a text; ``NULL`` stands for a number that is
null and None for such a category. The usual value costs one comparison, or one look-up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ml_platform.core.contract import Refusal, ResolvedField
from ml_platform.core.rows import encode_value

__all__ = ["NULL", "FieldCheck", "Remarks", "field_check", "text_fault", "text_of"]

NULL: Final = float("nan")
"""The one NaN that means null; any other was sent by somebody."""

_NAN: Final = math.nan
_NULL_PIECE: Final = b"\x00"
_LARGEST: Final = float.fromhex("0x1.fffffefffffffp127")  # beyond it, float32 is infinite

Column = Sequence[Any]
Applied = tuple[list[float], list[bytes]]
"""Numbers as float64, NaN for missing, and no bytes; or codes of categories and the ``row/1`` bytes as received."""


@dataclass(slots=True)
class Remarks:
    """Refusals and flags (field, ``rule:policy``) of the rows of a batch."""

    refusals: dict[int, list[Refusal]] = field(default_factory=dict)
    flags: dict[int, list[tuple[str, str]]] = field(default_factory=dict)

    def refuse(self, row: int, name: str, rule: str, kind: str) -> None:
        self.refusals.setdefault(row, []).append(Refusal(0, name, rule, kind))

    def flag(self, row: int, name: str, rule: str) -> None:
        self.flags.setdefault(row, []).append((name, rule))

    def keep(self, rows: Sequence[int]) -> None:
        """Flags of the rows that stay, counted from the first of them."""
        self.refusals = {}
        if self.flags:
            self.flags = {place: self.flags[row] for place, row in enumerate(rows) if row in self.flags}


class FieldCheck(Protocol):
    """One compiled field."""

    name: str

    def apply(self, column: Column, remarks: Remarks) -> Applied:
        """Its values as the model takes them; what is wrong with them lands in ``remarks``."""
        ...

    def received(self, column: Column) -> Column:
        """Its values as derived expressions read them: numbers with NaN for null, or texts and None."""
        ...

    def stored(self, values: Sequence[Any]) -> Column:
        """Values of the online store as if a tensor had brought them."""
        ...


def field_check(item: ResolvedField, longest_text: int) -> FieldCheck:
    """The check of a field of a contract."""
    return _Category(item, longest_text) if item.kind == "category" else _Number(item)


class _Number:
    def __init__(self, item: ResolvedField) -> None:
        self.name = item.name
        self._item = item
        self._whole = item.type != "float64"
        low, high = item.range or (None, None)
        self._range = (-math.inf if low is None else low, math.inf if high is None else high)
        self._usual = (max(self._range[0], -_LARGEST), min(self._range[1], _LARGEST))
        self._default = _NAN if item.default is None else float(item.default)

    def apply(self, column: Column, remarks: Remarks) -> Applied:
        values = self.received(column)
        low, high = self._usual
        for value in values:
            if not low <= value <= high:
                break
        else:
            return values, []
        found = enumerate(values)
        return [v if low <= v <= high else self._unusual(row, v, remarks) for row, v in found], []

    def received(self, column: Column) -> list[float]:
        if self._whole:
            return [value if value is NULL else float(value) for value in column]
        return column  # type: ignore[return-value]

    def stored(self, values: Sequence[Any]) -> Column:
        return [NULL if value is None else float(value) for value in values]

    def _unusual(self, row: int, value: float, remarks: Remarks) -> float:
        item = self._item
        if value is NULL:
            value = _NAN
            if not item.nullable:
                value = self._policy(row, value, ("null", item.on_null, "null"), remarks)
        elif not math.isfinite(value):
            remarks.refuse(row, item.name, "finite", "not a finite number")
        elif abs(value) > _LARGEST:
            remarks.refuse(row, item.name, "float32", "a number beyond float32")
        low, high = self._range
        if value < low or value > high:
            value = self._policy(row, value, ("range", item.on_range, "a number out of range"), remarks)
        return math.copysign(math.inf, value) if abs(value) > _LARGEST else value  # a default may be that large

    def _policy(self, row: int, value: float, broken: tuple[str, str, str], remarks: Remarks) -> float:
        rule, policy, kind = broken
        if policy == "reject":
            remarks.refuse(row, self.name, rule, kind)
            return value
        remarks.flag(row, self.name, f"{rule}:{policy}")
        return self._default if policy == "default" else value


class _Category:
    def __init__(self, item: ResolvedField, longest_text: int) -> None:
        self.name = item.name
        self._item = item
        self._longest = longest_text
        known = item.categories or ()
        self._default = float(known.index(str(item.default))) if item.default in known else _NAN
        self._known: dict[Any, tuple[float, bytes]] = {}
        for code, text in enumerate(known):
            entry = float(code), encode_value("text", text)
            for value in _values_of(text, item.type):
                self._known[value] = entry
        if item.nullable:
            self._known[None] = (_NAN, _NULL_PIECE)

    def apply(self, column: Column, remarks: Remarks) -> Applied:
        known = self._known.get
        values: list[float] = []
        pieces: list[bytes] = []
        for row, value in enumerate(column):
            code, piece = known(value) or self._unusual(row, value, remarks)
            values.append(code)
            pieces.append(piece)
        return values, pieces

    def received(self, column: Column) -> Column:
        return [None if value is None else text_of(value) for value in column]

    def stored(self, values: Sequence[Any]) -> Column:
        return values

    def _unusual(self, row: int, value: Any, remarks: Remarks) -> tuple[float, bytes]:
        item = self._item
        if value is None:
            return self._policy(row, ("null", item.on_null, "null"), remarks), _NULL_PIECE
        fault = text_fault(value, self._longest) if item.type == "string" else None
        if fault is not None:
            remarks.refuse(row, self.name, *fault)
            return _NAN, _NULL_PIECE
        code = self._policy(row, ("unknown", item.on_unknown, "an unknown category"), remarks)
        return code, encode_value("text", text_of(value))

    def _policy(self, row: int, broken: tuple[str, str, str], remarks: Remarks) -> float:
        rule, policy, kind = broken
        if policy == "reject":
            remarks.refuse(row, self.name, rule, kind)
            return _NAN
        remarks.flag(row, self.name, f"{rule}:{policy}")
        return self._default if policy == "default" else _NAN


def _values_of(text: str, kind: str) -> tuple[Any, ...]:
    """The values that read as this text; a text that no value of the type reads as is never met."""
    if kind == "bool":
        return {"true": (True,), "false": (False,)}.get(text, ())
    if kind == "int64":
        try:
            number = int(text)
        except ValueError:
            return ()
        return (number,) if str(number) == text else ()
    return (text, text.encode())


def text_of(value: Any) -> str:
    """A category as text: integers in decimal, booleans as ``true`` and ``false``."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def text_fault(value: Any, longest: int) -> tuple[str, str] | None:
    """Rule and kind of a text that is refused whatever a contract says: none at all, too long, or not UTF-8."""
    if not isinstance(value, bytes | str):
        return "type", "a value that is no text"
    try:
        raw = value.encode() if isinstance(value, str) else value
        raw.decode()
    except UnicodeError:
        return "utf-8", "a text that is not UTF-8"
    return ("length", f"a text of more than {longest} bytes") if len(raw) > longest else None
