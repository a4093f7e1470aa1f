"""What the edge lets through, said slowly: Python's own JSON reader, then the rules one by one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

BYTES_OF = {
    "BOOL": 1, "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8, "UINT8": 1,
    "UINT16": 2, "UINT32": 4, "UINT64": 8, "BYTES": 0,
}  # fmt: skip
CLOSED = {"shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"}


class Wrong(Exception):
    """The request is refused."""


class Whole(str):
    """An integer as it is written."""

    __slots__ = ()


class Fraction(str):
    """Another number as it is written."""

    __slots__ = ()


def need(true: object) -> None:
    if not true:
        raise Wrong


def acceptable(body: bytes, length: str | None = None) -> bool:
    """Whether Triton may read a request: body and the header Inference-Header-Content-Length."""
    try:
        _check(body, length)
    except (Wrong, ValueError, RecursionError):
        return False
    return True


def _check(body: bytes, length: str | None) -> None:
    header = body
    if length is not None:
        need(re.fullmatch(r"[0-9]{1,11}", length) and 0 < int(length) <= len(body))
        header = body[: int(length)]
    document = json.loads(
        header.decode("latin-1"), parse_int=_whole, parse_float=_fraction, parse_constant=_none, object_pairs_hook=_once
    )
    need(isinstance(document, dict))
    _texts(document)
    need(isinstance(document.get("inputs"), list) and 0 < len(document["inputs"]) <= 4096)
    need(isinstance(document.get("id", ""), str) and not isinstance(document.get("id", ""), (Whole, Fraction)))
    _parameters(document.get("parameters", {}), bools={"binary_data_output", "sequence_start", "sequence_end"})
    for name in ("priority", "timeout"):
        if name in document.get("parameters", {}):
            _natural(document["parameters"][name])
    identity = document.get("parameters", {}).get("sequence_id")
    if identity is not None and not _is_text(identity):
        _natural(identity)
    need(sum(_tensor(one) for one in document["inputs"]) == len(body) - len(header))
    outputs = document.get("outputs", [])
    need(isinstance(outputs, list) and len(outputs) <= 4096)
    for one in outputs:
        need(isinstance(one, dict) and _is_text(one.get("name")))
        _parameters(one.get("parameters", {}), bools={"binary_data"}, closed=CLOSED | {"classification"})
        need(all(_depth(value) <= 13 for name, value in one.items() if name not in ("name", "parameters")))
    known = {"inputs", "outputs", "id", "parameters"}
    need(all(_depth(value) <= 15 for name, value in document.items() if name not in known))


def _tensor(one: Any) -> int:
    """How many bytes of the binary part are its own."""
    need(isinstance(one, dict) and _is_text(one.get("name")) and _is_text(one.get("datatype")))
    need(one["datatype"] in BYTES_OF and isinstance(one.get("shape"), list) and len(one["shape"]) <= 8)
    product = 1
    for size in one["shape"]:
        need(_natural(size) <= 2**24)
        product *= int(size)
        need(product <= 2**24)
    _parameters(one.get("parameters", {}), closed=CLOSED)
    known = {"name", "datatype", "shape", "data", "parameters"}
    need(all(_depth(value) <= 13 for name, value in one.items() if name not in known))
    size = one.get("parameters", {}).get("binary_data_size")
    need((size is None) != ("data" not in one))
    each = BYTES_OF[one["datatype"]]
    if size is not None:
        need(_natural(size) == product * each if each else _natural(size) >= 4 * product)
        return int(size)
    need(isinstance(one["data"], list) and _depth(one["data"], lists_only=True) <= 12)
    values = list(_flat(one["data"]))
    need(len(values) == product)
    for value in values:
        need(_is_a(value, one["datatype"]))
    need(one["datatype"] not in ("FP16", "BF16"))
    return 0


def _is_a(value: Any, datatype: str) -> bool:
    if datatype == "BOOL":
        return isinstance(value, bool)
    if datatype == "BYTES":
        return _is_text(value)
    if datatype in ("FP32", "FP64"):
        return isinstance(value, (Whole, Fraction))
    if not isinstance(value, Whole):
        return False
    bits = 8 * BYTES_OF[datatype]
    low, high = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return low <= int(value) <= high


def _parameters(value: Any, bools: set[str] = frozenset(), closed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    need(isinstance(value, dict) and not closed & set(value))
    for name, one in value.items():
        need(one is not None and not isinstance(one, (dict, list)))
        need(name not in bools or isinstance(one, bool))


def _natural(value: Any) -> int:
    need(isinstance(value, Whole) and not value.startswith("-"))
    return int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, (Whole, Fraction))


def _flat(values: Any) -> Iterator[Any]:
    if isinstance(values, list):
        for one in values:
            yield from _flat(one)
    else:
        need(not isinstance(values, dict))
        yield values


def _depth(value: Any, *, lists_only: bool = False) -> int:
    if isinstance(value, dict):
        need(not lists_only)
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(one, lists_only=lists_only) for one in value), default=0)
    return 0


def _texts(value: Any) -> None:
    """Halves of characters are in no text."""
    if isinstance(value, dict):
        for name, one in value.items():
            name.encode()
            _texts(one)
    elif isinstance(value, list):
        for one in value:
            _texts(one)
    elif isinstance(value, str):
        value.encode()


def _whole(token: str) -> Whole:
    need(len(token.lstrip("-")) <= 308)
    return Whole(token)


def _fraction(token: str) -> Fraction:
    mantissa, _, power = token.lower().partition("e")
    whole = len(mantissa.lstrip("-").split(".")[0])
    need(whole <= 308 and (not power or power.startswith("-") or whole + int(power) <= 308))
    assert not math.isinf(float(token))
    return Fraction(token)


def _none(_: str) -> None:
    raise Wrong


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    need(len({name for name, _ in pairs}) == len(pairs))
    return dict(pairs)
