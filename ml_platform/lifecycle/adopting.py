"""Adopting: a model that a company has, and a table of its past requests, become a governed model's declaration.

What is written is an ordinary declaration beside the model's file: the team keeps and edits it. Everything after it is
the way of every model: land, request, training set, "training" (which takes the file), evaluation, gates, registry.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.core.errors import Conflict, DataError, SchemaMismatch
from ml_platform.core.fields import check_name
from ml_platform.core.files import write_atomically
from ml_platform.features import Source
from ml_platform.lifecycle.sources import Landed, land_source, read_table
from ml_platform.platform import Platform

__all__ = ["Adoption", "adopt_files", "declaration", "land_adopted"]

_KINDS: Final = ((pa.types.is_boolean, "bool"), (pa.types.is_integer, "int64"), (pa.types.is_floating, "float64"))


@dataclass(frozen=True)
class Adoption:
    """What a table of past requests means: which columns are what; all others are features, in the file's order.

    Args:
        name: the model's name; its declaration is ``<name>.py``.
        keys: the columns that say whom or what a row is about.
        time: when it was asked.
        label: 0 or 1: what the model predicts.
        known_time: when that was known.
        horizon: within which it counts.
        owner: ``team:x`` or an e-mail address.
    """

    name: str
    keys: Sequence[str]
    time: str
    label: str
    known_time: str
    horizon: str
    owner: str

    def __post_init__(self) -> None:
        check_name(self.name, field="name")

    def features(self, schema: pa.Schema) -> dict[str, str]:
        """Feature columns and their types.

        Raises:
            SchemaMismatch: a named column is missing, or there is no feature.
            DataError: a feature is no number.
        """
        named = [*self.keys, self.time, self.label, self.known_time]
        missing = [name for name in named if name not in schema.names]
        if missing:
            raise SchemaMismatch(
                "The table lacks columns.",
                field=", ".join(missing),
                next_step=f"It has {', '.join(schema.names)}; name them with --key, --time, --label, --known-time.",
            )
        found = {name: _type(schema, name) for name in schema.names if name not in named}
        words = [name for name, kind in found.items() if kind not in {"int64", "float64", "bool"}]
        if words:
            raise DataError(
                "An adopted model takes numbers only.",
                field=", ".join(words),
                next_step="Leave the column out of the table, or encode it as the file was trained with.",
            )
        if not found:
            raise SchemaMismatch("No column is left as a feature.", field="features", next_step="Deliver the inputs.")
        return {name: "int64" if kind == "int64" else "float64" for name, kind in found.items()}


def _type(schema: pa.Schema, name: str) -> str:
    kind = schema.field(name).type
    return next((word for holds, word in _KINDS if holds(kind)), "string")


_TEXT: Final = Template('''"""$name: a model that was trained elsewhere and adopted as a file."""

from pathlib import Path

from ml_platform import Entity, Label, Model, Onnx, RequestView, SameAsEvent, Source, TimeSplit, at_least, number

$name_requests = Source(
    "$name_requests",
    columns=$request_columns,
    keys=$keys,
    event_time="$time",
    known_time=SameAsEvent(reason="A request is known when it is made."),
)
$name_outcomes = Source(
    "$name_outcomes",
    columns=$outcome_columns,
    keys=$keys,
    event_time="$time",
    known_time="$known_time",
)
$name_entity = Entity("$name_entity", keys=$keys, personal=True)
$name_request = RequestView(
    "$name_request",
    entity=$name_entity,
    source=$name_requests,
    time="$time",
    columns=[
$fields
    ],
)
$name = Model(
    name="$name",
    entity=$name_entity,
    owners=["$owner"],
    features=[$name_request],
    label=Label(rows=$name_request, outcome=$name_outcomes, column="$label", horizon="$horizon"),
    split=TimeSplit(test=0.5),
    trainer=Onnx(
        Path(__file__).with_name("$file"),
        columns=[
$columns
        ],
    ),
    gates=[at_least("auc", 0.5)],
)
''')


def declaration(adoption: Adoption, rows: pa.Table, file: str) -> str:
    """The text of the declaration, about forty lines of Python.

    Args:
        adoption: what the columns mean.
        rows: past requests; only names, types and whether there are nulls are read.
        file: the name of the model's file beside the declaration.
    """
    features = adoption.features(rows.schema)
    keys = {name: _type(rows.schema, name) for name in adoption.keys}
    requests = {**keys, adoption.time: "timestamp", **features}
    outcomes = {**keys, adoption.time: "timestamp", adoption.label: "int64", adoption.known_time: "timestamp"}
    nullable = {name: bool(rows.column(name).null_count) for name in features}
    return _TEXT.substitute(
        name=adoption.name,
        name_requests=f"{adoption.name}_requests",
        name_outcomes=f"{adoption.name}_outcomes",
        name_entity=f"{adoption.name}_entity",
        name_request=f"{adoption.name}_request",
        time=adoption.time,
        known_time=adoption.known_time,
        label=adoption.label,
        horizon=adoption.horizon,
        owner=adoption.owner,
        file=file,
        keys=_tuple(adoption.keys),
        request_columns=_mapping(requests),
        outcome_columns=_mapping(outcomes),
        fields="\n".join(
            f'        number("{name}"{", nullable=True" if nullable[name] else ""}),' for name in sorted(features)
        ),
        columns="\n".join(f'            "{name}",' for name in features),
    )


def _tuple(names: Sequence[str]) -> str:
    return f"({', '.join(repr(name) for name in names)}{',' if len(names) == 1 else ''})".replace("'", '"')


def _mapping(columns: Mapping[str, str]) -> str:
    lines = "\n".join(f'        "{name}": "{kind}",' for name, kind in columns.items())
    return f"{{\n{lines}\n    }}"


def adopt_files(adoption: Adoption, model: Path, rows: Path, folder: Path) -> Path:
    """Writes the declaration and a copy of the model's file into a folder of the code location.

    The same adoption again changes nothing.

    Raises:
        Conflict: the folder holds another declaration or file of that name.
        SchemaMismatch, DataError: the table is not usable; names the column.
        NotFound: a file is missing.
    """
    file = f"{adoption.name}.onnx"
    text = declaration(adoption, read_table(rows, times=(adoption.time, adoption.known_time)), file).encode()
    raw = model.read_bytes() if model.is_file() else b""
    for path, content in ((folder / f"{adoption.name}.py", text), (folder / file, raw)):
        if path.exists() and path.read_bytes() != content:
            raise Conflict(
                "The folder holds another one of that name.",
                field=path.name,
                next_step="Edit that declaration, or adopt under another name.",
            )
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "__init__.py").exists():
        write_atomically(folder / "__init__.py", b'"""What model teams write."""\n')
    if model.resolve() != (folder / file).resolve():
        shutil.copyfile(model, folder / file)
    write_atomically(folder / f"{adoption.name}.py", text)
    return folder / f"{adoption.name}.py"


def land_adopted(platform: Platform, rows: Path, sources: Sequence[Source]) -> list[Landed]:
    """Lands the columns of each source from one table of past requests, at most once."""
    table = read_table(rows, times=tuple({source.event_time for source in sources}))
    landed: list[Landed] = []
    scratch = platform.root / "scratch" / "adopt"
    scratch.mkdir(parents=True, exist_ok=True)
    for source in sources:
        part = scratch / f"{source.name}.parquet"
        columns: dict[str, Any] = {
            name: table.column(name).cast(_CASTS.get(kind) or table.schema.field(name).type)
            for name, kind in source.columns.items()
        }
        pq.write_table(pa.table(columns), part)
        try:
            landed.append(land_source(platform, source, part))
        finally:
            part.unlink(missing_ok=True)
    return landed


_CASTS: Final[dict[str, pa.DataType]] = {"int64": pa.int64(), "float64": pa.float64()}
