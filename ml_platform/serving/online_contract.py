"""A contract compiled for a handful of rows: what an online request is, and what the contract makes of it.

Gives exactly what ``Contract.admit``, the derived expressions, ``Contract.encode`` and ``serving.preparing`` give for
the same rows (a property test compares), one pass a field over plain Python values: arrays and tables would cost more
than the model. A request is a mapping from tensor names to arrays with one value a row; all its rows are decided, or
none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from struct import Struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.contract import Contract, Refusal
from ml_platform.core.errors import DataError, SchemaMismatch
from ml_platform.core.rows import encode_value
from ml_platform.features.expression_scalar import compile_row
from ml_platform.features.expression_tree import tree_columns
from ml_platform.serving.features_lookup import FeatureLookup
from ml_platform.serving.online_encoding import number_pieces
from ml_platform.serving.online_fields import NULL, FieldCheck, Remarks, field_check
from ml_platform.serving.online_request import Gathered, Request, RequestReader
from ml_platform.serving.record import SECTION_FORMAT

__all__ = ["Admitted", "OnlineContract", "RefusedRow"]

_NULL: Final = b"\x00"
_I64: Final = Struct("<Bq").pack
_NO_TEXTS: Final = encode_value("texts", ())
_SECTION: Final = encode_value("text", SECTION_FORMAT)


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """Why a row gets no decision. ``row_key`` is ``row/1`` of entity key and T, null where it was no value."""

    row_key: bytes
    refusals: tuple[Refusal, ...]


@dataclass(slots=True)
class Admitted:
    """What the contract made of the requests of a batch.

    Attributes:
        requests: the numbers of the accepted requests, in order, and of each how many rows it has.
        entity_keys: of each accepted row the ``row/1`` bytes of its entity key.
        bodies: of each accepted row the bytes of its personal section up to its flags.
        matrix: float32 [n, f] of the accepted rows, as the model sees them.
        flags: of each flagged row, its flags (``field:rule:policy``) in contract order.
        refused: number of a refused request → its refused rows.
    """

    requests: list[tuple[int, int]]
    entity_keys: list[bytes]
    bodies: list[bytes]
    matrix: npt.NDArray[np.float32]
    flags: dict[int, tuple[str, ...]]
    refused: dict[int, list[RefusedRow]]


@dataclass(slots=True)
class _Rows:
    """The rows that are still in the running, column-wise."""

    requests: list[tuple[int, int]]
    keys: list[list[Any]]
    key_pieces: list[list[bytes]]
    times: list[int]
    inputs: list[list[Any]]
    owners: list[int] = field(default_factory=list)

    def without(self, refused: Mapping[int, object]) -> list[int]:
        """Takes out all rows of the refused requests; the places of the rows that stay."""
        kept = [row for row, owner in enumerate(self.owners) if owner not in refused]
        self.requests = [(number, rows) for number, rows in self.requests if number not in refused]
        for columns in (self.keys, self.key_pieces, self.inputs):
            columns[:] = [[column[row] for row in kept] for column in columns]
        self.times = [self.times[row] for row in kept]
        self.owners = [self.owners[row] for row in kept]
        return kept


class OnlineContract:
    """One contract, ready for requests. Safe for several threads.

    Args:
        contract: of the version.
        also: tensors of other versions behind the same router, which this one ignores.
        longest_text: bytes of a key or category beyond which a request is refused.

    Raises:
        DeclarationError: an entity key of a type that no tensor has.
    """

    def __init__(self, contract: Contract, *, also: frozenset[str] = frozenset(), longest_text: int = 1024) -> None:
        self.contract = contract
        self._reader = RequestReader(contract, also=also, longest_text=longest_text)
        self._inputs = [field_check(item, longest_text) for item in contract.inputs]
        self._derived = [field_check(item, longest_text) for item in contract.derived]
        self._stored = [field_check(item, longest_text) for item in contract.stored]
        trees = [item.expression or {} for item in contract.derived]
        wanted = {name for tree in trees for name in tree_columns(tree)}
        self._wanted = [place for place, check in enumerate(self._inputs) if check.name in wanted]
        self._expressions = [compile_row(tree, [self._inputs[place].name for place in self._wanted]) for tree in trees]
        by_name = {check.name: check for check in (*self._inputs, *self._derived, *self._stored)}
        self._checks = [by_name[name] for name in contract.names]
        self._runs = _runs([item.kind == "number" for item in contract.fields])
        came = [*(name for name, _ in contract.entity_keys), *(check.name for check in self._inputs)]
        self._key_places = {name: place for place, name in enumerate(came)}
        self._places = {name: place for place, name in enumerate(contract.names)}

    def entity_keys(self, request: Request) -> list[bytes] | None:
        """``row/1`` bytes of the entity key of each row; None where the request is not whole."""
        gathered = self._reader.read(request, None)
        return gathered.entity_keys if isinstance(gathered, Gathered) else None

    def admit(self, requests: Sequence[Request], decided_at_us: int, features: FeatureLookup | None) -> Admitted:
        """Applies the contract to every row.

        Args:
            requests: of one batch.
            decided_at_us: the platform's clock; T where a request says none, and the latest T that is taken.
            features: finds stored features; needed where the contract has any.

        Raises:
            SchemaMismatch: the contract has stored features, and there is no look-up.
            DataError: a stored feature is younger than the request.
        """
        refused: dict[int, list[RefusedRow]] = {}
        rows = self._gathered(requests, decided_at_us, refused)
        columns: dict[str, tuple[list[float], list[Any]]] = {}
        remarks = Remarks()
        for check, column in zip(self._inputs, rows.inputs, strict=True):
            columns[check.name] = check.apply(column, remarks)
        if remarks.refusals:
            self._drop(rows, columns, remarks, refused)
        self._derive(rows, columns, remarks)
        ages = self._look_up(rows, columns, remarks, features)
        if remarks.refusals:
            kept = self._drop(rows, columns, remarks, refused)
            ages = [[column[row] for row in kept] for column in ages]
        return self._admitted(rows, columns, ages, remarks, refused)

    def _gathered(self, requests: Sequence[Request], decided_at_us: int, refused: dict[int, list[RefusedRow]]) -> _Rows:
        keys: list[tuple[Any, ...]] = []
        pieces: list[tuple[bytes, ...]] = []
        times: list[int] = []
        inputs: list[Sequence[Any]] = []
        owners: list[int] = []
        taken: list[tuple[int, int]] = []
        for number, request in enumerate(requests):
            gathered = self._reader.read(request, decided_at_us)
            if isinstance(gathered, Gathered):
                taken.append((number, len(gathered.times)))
                keys += gathered.keys
                pieces += gathered.key_pieces
                times += gathered.times
                inputs += gathered.inputs
                owners += [number] * len(gathered.times)
            else:
                refused[number] = [RefusedRow(*one) for one in gathered]
        return _Rows(taken, _columns(keys), _columns(pieces), times, _columns(inputs, len(self._inputs)), owners)

    def _drop(
        self,
        rows: _Rows,
        columns: dict[str, tuple[list[float], list[Any]]],
        remarks: Remarks,
        refused: dict[int, list[RefusedRow]],
    ) -> list[int]:
        """Moves refused rows, and all others of their requests, out of the way."""
        for row, refusals in remarks.refusals.items():
            key = b"".join(column[row] for column in rows.key_pieces)
            why = tuple(sorted(refusals, key=lambda refusal: self._places[refusal.field]))
            refused.setdefault(rows.owners[row], []).append(RefusedRow(key + _I64(1, rows.times[row]), why))
        kept = rows.without(refused)
        for name, (values, pieces) in columns.items():
            columns[name] = [values[row] for row in kept], [pieces[row] for row in kept] if pieces else pieces
        remarks.keep(kept)
        return kept

    def _derive(self, rows: _Rows, columns: dict[str, tuple[list[float], list[Any]]], remarks: Remarks) -> None:
        """Derived values from the columns as received, as in training."""
        if not self._derived:
            return
        received = [self._inputs[place].received(rows.inputs[place]) for place in self._wanted]
        inputs = list(zip(*received, strict=True)) if received else [()] * len(rows.times)
        for check, compute in zip(self._derived, self._expressions, strict=True):
            computed = [compute(row) for row in inputs]
            columns[check.name] = check.apply([NULL if math.isnan(value) else value for value in computed], remarks)

    def _look_up(
        self,
        rows: _Rows,
        columns: dict[str, tuple[list[float], list[Any]]],
        remarks: Remarks,
        features: FeatureLookup | None,
    ) -> list[list[bytes]]:
        """Checks stored features; the bytes of their ages."""
        if not self._stored:
            return []
        if features is None:
            raise SchemaMismatch(
                "The version reads stored features, and there is no online store.",
                field=self._stored[0].name,
                next_step="Materialize its views with `mlp features materialize`.",
            )
        if not rows.times:
            found: Any = ([[]] * len(self._stored), [[]] * len(self._stored))
        else:
            found = features.lookup(self.contract, partial(self._column, rows), rows.times)
        ages: list[list[bytes]] = []
        for check, values, events in zip(self._stored, *found, strict=True):
            columns[check.name] = check.apply(check.stored(values), remarks)
            ages.append([self._age(check, t, event) for t, event in zip(rows.times, events, strict=True)])
        return ages

    def _column(self, rows: _Rows, name: str) -> list[Any]:
        """A key or an input as received: the key of a stored view."""
        place = self._key_places.get(name)
        values = None if place is None else [*rows.keys, *rows.inputs][place]
        if values is None:
            raise SchemaMismatch(
                "A stored view has a key that does not come with the request.",
                field=name,
                next_step="Declare the key as a field of the request view.",
            )
        return [None if value is NULL else value.decode() if isinstance(value, bytes) else value for value in values]

    @staticmethod
    def _age(check: FieldCheck, t_us: int, event_us: int | None) -> bytes:
        if event_us is None:
            return _NULL
        if event_us > t_us:
            raise DataError(
                "A stored feature is younger than the request that uses it.",
                field=check.name,
                next_step="Publish the view again: this is a leak.",
            )
        return _I64(1, t_us - event_us)

    def _admitted(
        self,
        rows: _Rows,
        columns: dict[str, tuple[list[float], list[Any]]],
        ages: list[list[bytes]],
        remarks: Remarks,
        refused: dict[int, list[RefusedRow]],
    ) -> Admitted:
        ordered = [columns[check.name] for check in self._checks]
        if rows.times:
            matrix = np.array([values for values, _ in ordered]).T.astype(np.float32, order="C")
        else:
            matrix = np.empty((0, len(ordered)), np.float32)
        pieces: list[Any] = [[_SECTION + _I64(1, t) for t in rows.times], *rows.key_pieces]
        for numbers, start, end in self._runs:
            if numbers:  # as the model uses them: rounded
                pieces.append(number_pieces(matrix[:, start:end]))
            else:
                pieces += [texts for _, texts in ordered[start:end]]
        pieces += ages
        flags = self._flags(remarks)
        pieces.append([encode_value("texts", flags[r]) if r in flags else _NO_TEXTS for r in range(len(rows.times))])
        keys = rows.key_pieces
        return Admitted(
            requests=rows.requests,
            entity_keys=keys[0] if len(keys) == 1 else list(map(b"".join, zip(*keys, strict=True))),
            bodies=list(map(b"".join, zip(*pieces, strict=True))),
            matrix=matrix,
            flags=flags,
            refused=refused,
        )

    def _flags(self, remarks: Remarks) -> dict[int, tuple[str, ...]]:
        """Flags of a row in contract order, so that the bytes do not depend on the order of checks."""
        place = self._places
        return {
            row: tuple(f"{name}:{rule}" for name, rule in sorted(found, key=lambda flag: (place[flag[0]], flag[1])))
            for row, found in remarks.flags.items()
        }


def _runs(numbers: Sequence[bool]) -> list[tuple[bool, int, int]]:
    """Neighbours of the same kind: whether they are numbers, where they begin and end."""
    found, end = [], 0
    for kind, run in groupby(numbers):
        start, end = end, end + sum(1 for _ in run)
        found.append((kind, start, end))
    return found


def _columns(rows: Sequence[Sequence[Any]], width: int | None = None) -> list[list[Any]]:
    if not rows:
        return [[] for _ in range(width or 0)]
    return [list(column) for column in zip(*rows, strict=True)]
