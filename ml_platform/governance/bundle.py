"""What a rebuild is given and what it gives back: a folder that holds the record and everything that it names.

``rebuild.json`` (``ml-platform/rebuild/1``), ``record.json``, ``spec.json``, ``definitions/<hex>.json``,
``manifest.json``, ``data.parquet``; afterwards ``result.json`` and ``artifact/<part>``. A rebuild reads nothing else:
no store, no registry, no seeds. An auditor can keep the folder and run it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DeclarationError, NotFound

__all__ = [
    "ARTIFACT",
    "DATA",
    "DEFINITIONS",
    "MANIFEST",
    "ORDER",
    "ORDER_FORMAT",
    "RECORD",
    "RESULT",
    "RESULT_FORMAT",
    "SPEC",
    "Difference",
    "differences_of",
    "read_document",
    "write_document",
]

ORDER_FORMAT: Final = "ml-platform/rebuild/1"
RESULT_FORMAT: Final = "ml-platform/rebuild-result/1"
ORDER: Final = "rebuild.json"
RECORD: Final = "record.json"
SPEC: Final = "spec.json"
DEFINITIONS: Final = "definitions"
MANIFEST: Final = "manifest.json"
DATA: Final = "data.parquet"
RESULT: Final = "result.json"
ARTIFACT: Final = "artifact"
ABSENT: Final = "absent"


@dataclass(frozen=True)
class Difference:
    """An input that is not as recorded.

    Args:
        input: its path in the run record, such as ``packages.numpy`` or ``training_set.rows.17``.
        recorded: what the record says.
        found: what is there now.
    """

    input: str
    recorded: str
    found: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def differences_of(where: str, recorded: object, found: object) -> Iterator[Difference]:
    """Every leaf in which two JSON values differ, in the order of names."""
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for name in sorted({*recorded, *found}):
            yield from differences_of(f"{where}.{name}", recorded.get(name, ABSENT), found.get(name, ABSENT))
    elif recorded != found:
        yield Difference(where, _text(recorded), _text(found))


def _text(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value).decode()


def write_document(folder: Path, name: str, document: Mapping[str, Any]) -> None:
    """A canonical document of the bundle."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(dict(document)))


def read_document(folder: Path, name: str, expected: str | None = None) -> dict[str, Any]:
    """A document of the bundle.

    Raises:
        NotFound: it is not there.
        DeclarationError: it is not canonical, or of another format than expected.
    """
    try:
        document = parse_canonical((folder / name).read_bytes())
    except FileNotFoundError as error:
        raise NotFound("The bundle lacks a document.", field=name, next_step="Make it with `mlp reproduce`.") from error
    if not isinstance(document, dict) or (expected is not None and document.get("format") != expected):
        raise DeclarationError("The document has another format.", field=name, next_step=f"Expected {expected}.")
    return document
