"""One request as tensors: which must be there, of which type and shape; its rows as plain values.

Tensors come by name, one value a row: entity keys, the request's time T (int64 microseconds UTC; absent: T is when we
decide), and the fields that come with the request, each with an optional companion ``<field>.null``. Or the one tensor
``row`` comes, with the whole row as a JSON object (see ``online_row``). What is wrong with a request is said by field,
rule and kind of value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from struct import Struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_platform.core.contract import Contract, Refusal
from ml_platform.core.errors import DeclarationError
from ml_platform.core.rows import encode_value
from ml_platform.serving.online_fields import NULL, text_fault
from ml_platform.serving.online_row import MISSING, ROW, Faulty, RowField, RowReader, safe_name

__all__ = ["NULL_SUFFIX", "Gathered", "Request", "RequestReader"]

Request = Mapping[str, npt.NDArray[Any]]
NULL_SUFFIX: Final = ".null"
_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "float64": np.dtype(np.float64),
    "int64": np.dtype(np.int64),
    "string": np.dtype(object),
    "bool": np.dtype(np.bool_),
}
_BOOL: Final = np.dtype(np.bool_)
_OBJECT: Final = np.dtype(object)
_I64: Final = Struct("<Bq").pack
_NULL: Final = b"\x00"

Refused = list[tuple[bytes, tuple[Refusal, ...]]]
"""Of each refused row its key, null where it was no value, and why."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The rows of a whole request, each: typed keys and their bytes, T, and the values of the contract's inputs."""

    keys: list[tuple[Any, ...]]
    key_pieces: list[tuple[bytes, ...]]
    times: list[int]
    inputs: list[Sequence[Any]]

    @property
    def entity_keys(self) -> list[bytes]:
        return [b"".join(pieces) for pieces in self.key_pieces]


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: np.dtype[Any]
    null: Any = None  # what stands for null; keys and T have none
    nullable: bool = False


class RequestReader:
    """Reads the requests of one contract.

    Raises:
        DeclarationError: an entity key is neither int64 nor string.
    """

    def __init__(self, contract: Contract, *, also: frozenset[str], longest_text: int) -> None:
        self._longest = longest_text
        self._time = _Tensor(contract.time, _DTYPES["int64"])
        self._keys = [_Tensor(name, _key_dtype(name, kind)) for name, kind in contract.entity_keys]
        self._inputs = [
            _Tensor(item.name, _DTYPES[item.type], None if item.kind == "category" else NULL, nullable=True)
            for item in contract.inputs
        ]
        every = (*self._keys, *self._inputs)
        self._dtypes = [tensor.dtype for tensor in every]
        self._take = _taker([tensor.name for tensor in every])
        self._nulls = [
            (len(self._keys) + place, tensor.name + NULL_SUFFIX, tensor.null)
            for place, tensor in enumerate(self._inputs)
        ]
        names = {tensor.name for tensor in every} | {name for _, name, _ in self._nulls} | {contract.time}
        self._known = frozenset(names) | also
        self._whole = None if ROW in self._known else self._row_reader(contract)

    def _row_reader(self, contract: Contract) -> RowReader:
        kinds = {**dict(contract.entity_keys), **{item.name: item.type for item in contract.inputs}}
        fields = [RowField(one.name, kinds[one.name], one.null, one.nullable) for one in (*self._keys, *self._inputs)]
        names = frozenset(name for name in self._known if not name.endswith(NULL_SUFFIX))
        return RowReader(fields, RowField(self._time.name, "int64"), also=names)

    def read(self, request: Request, decided_at_us: int | None) -> Gathered | Refused:
        """The rows of a request, or why it is refused.

        Args:
            request: name → array with one value a row.
            decided_at_us: T where the request says none, and the latest T that is taken; None: any is.
        """
        try:
            if self._whole is not None and ROW in request:
                rows = self._whole_rows(self._whole, request)
            else:
                values = self._one_row(request)
                rows = [values] if values is not None else self._any_rows(request)
        except Faulty as fault:
            return [(self._lenient_key(request), (Refusal(0, *fault.args),))]
        refused: Refused = []
        result = Gathered([], [], [], [])
        width = len(self._keys)
        for row in rows:
            t_us = row.pop()
            t_us = (decided_at_us or 0) if t_us is None else t_us
            refusals: list[Refusal] = []
            keys = row[:width]
            pieces = tuple(map(self._key_piece, self._keys, keys, [refusals] * width))
            if decided_at_us is not None and t_us > decided_at_us:
                refusals.append(Refusal(0, self._time.name, "future", "a time after the platform's clock"))
            if refusals:
                refused.append((b"".join(pieces) + _I64(1, t_us), tuple(refusals)))
            result.keys.append(tuple(keys))
            result.key_pieces.append(pieces)
            result.times.append(t_us)
            result.inputs.append(row[width:])
        return refused or result

    @staticmethod
    def _whole_rows(reader: RowReader, request: Request) -> list[list[Any]]:
        """Rows of a request that brings each as one JSON object."""
        if len(request) > 1:
            raise Faulty(ROW, "exclusive", "tensors of fields beside the whole row")
        rows = _values(ROW, request[ROW], _OBJECT)
        if not rows:
            raise Faulty(ROW, "shape", "no row")
        return [reader.read(row) for row in rows]

    def _one_row(self, request: Request) -> list[Any] | None:
        """Keys, inputs and T of a request with one row and nothing unusual; None: look closer."""
        try:
            arrays = self._take(request)
            if [array.dtype for array in arrays] != self._dtypes:
                return None
            values: list[Any] = [array.item() for array in arrays]
            more = len(request) - len(values)
            time = request.get(self._time.name) if more else None
            if time is None:
                t_us = None
            elif time.dtype is self._time.dtype:
                t_us, more = time.item(), more - 1
            else:
                return None
            if more:
                more -= self._one_null(request, values)
        except (KeyError, ValueError, AttributeError):
            return None
        if more and not request.keys() <= self._known:
            return None
        values.append(t_us)
        return values

    def _one_null(self, request: Request, values: list[Any]) -> int:
        """Puts nulls where companions say so; how many companions there are."""
        get = request.get
        found = 0
        for place, name, null in self._nulls:
            mask = get(name)
            if mask is not None:
                if mask.dtype is not _BOOL:
                    raise ValueError
                if mask.item():
                    values[place] = null
                found += 1
        return found

    def _any_rows(self, request: Request) -> list[list[Any]]:
        """Rows of any request: keys, inputs and T of each."""
        undeclared = [name for name in request if name not in self._known]
        if undeclared:
            raise Faulty(safe_name(undeclared[0]), "undeclared", "a tensor that the contract does not name")
        columns = [self._column(request, tensor) for tensor in (*self._keys, *self._inputs)]
        rows = len(columns[0])
        if request.get(self._time.name) is None:
            columns.append([None] * rows)
        else:
            columns.append(self._column(request, self._time))
        tensors = (*self._keys, *self._inputs, self._time)
        for tensor, column in zip(tensors, columns, strict=True):
            if len(column) != rows:
                raise Faulty(tensor.name, "shape", "another number of rows than the first key")
        if not rows:
            raise Faulty(self._keys[0].name, "shape", "no row")
        return [list(row) for row in zip(*columns, strict=True)]

    def _column(self, request: Request, tensor: _Tensor) -> list[Any]:
        mask = request.get(tensor.name + NULL_SUFFIX) if tensor.nullable else None
        nulls = None if mask is None else _values(tensor.name + NULL_SUFFIX, mask, _BOOL)
        array = request.get(tensor.name)
        if array is None:
            if nulls is not None and all(nulls):
                return [tensor.null] * len(nulls)
            raise Faulty(tensor.name, "missing", "no tensor")
        values = _values(tensor.name, array, tensor.dtype)
        if nulls is None:
            return values
        if len(nulls) != len(values):
            raise Faulty(tensor.name + NULL_SUFFIX, "shape", "another number of rows than its field")
        return [tensor.null if null else value for value, null in zip(values, nulls, strict=True)]

    def _key_piece(self, tensor: _Tensor, value: Any, refusals: list[Refusal]) -> bytes:
        if tensor.dtype is not _OBJECT:
            return _I64(1, value)
        fault = text_fault(value, self._longest)
        if fault is not None:
            refusals.append(Refusal(0, tensor.name, *fault))
            return _NULL
        return encode_value("text", value.decode() if isinstance(value, bytes) else value)

    def _lenient_key(self, request: Request) -> bytes:
        """The row key of a broken request with one row, null where there is no value: so that it is found again."""
        tensors = (*self._keys, self._time)
        if self._whole is not None and ROW in request:
            values = self._whole_key(self._whole, request, [one.name for one in tensors])
        else:
            values = [_lenient_value(request, one) for one in tensors]
        return b"".join(
            _NULL if value is MISSING else self._key_piece(tensor, value, [])
            for tensor, value in zip(tensors, values, strict=True)
        )

    @staticmethod
    def _whole_key(reader: RowReader, request: Request, names: list[str]) -> list[Any]:
        try:
            (row,) = _values(ROW, request[ROW], _OBJECT)
        except (ValueError, Faulty):
            return [MISSING] * len(names)
        return reader.key_values(row, names)


def _lenient_value(request: Request, tensor: _Tensor) -> Any:
    try:
        (value,) = _values(tensor.name, request[tensor.name], tensor.dtype)
    except (KeyError, ValueError, Faulty):
        return MISSING
    return value


def _taker(names: Sequence[str]) -> Callable[[Request], Sequence[Any]]:
    """Gets the tensors of these names from a request; raises ``KeyError`` where one is missing."""
    if len(names) == 1:
        return lambda request: (request[names[0]],)
    return itemgetter(*names)


def _key_dtype(name: str, kind: str) -> np.dtype[Any]:
    if kind not in ("int64", "string"):
        raise DeclarationError(
            f"An entity key of type {kind} cannot be asked for online.",
            field=name,
            next_step="Use keys of type int64 or string.",
        )
    return _DTYPES[kind]


def _values(name: str, array: Any, dtype: np.dtype[Any]) -> list[Any]:
    """One value a row: shape [n], or [n, 1]."""
    if not isinstance(array, np.ndarray):
        raise Faulty(name, "type", "no tensor")
    if array.dtype != dtype:
        raise Faulty(name, "type", f"a tensor of {array.dtype.name}")
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        raise Faulty(name, "shape", f"a tensor of {array.ndim} dimensions, not one value a row")
    values: list[Any] = array.reshape(-1).tolist()
    return values
