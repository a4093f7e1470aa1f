"""Request views: what arrives with the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from ml_platform.core.errors import DeclarationError
from ml_platform.core.fields import Field, check_name, number
from ml_platform.features.declaration import Declaration, check_known, check_unique
from ml_platform.features.entity import Entity
from ml_platform.features.expressions import Expression, parse
from ml_platform.features.source import Source

__all__ = ["Lineage", "RequestView", "check_fields"]

_TYPES_OF_KIND: Final = {"number": ("float64", "int64", "bool"), "category": ("string", "int64", "bool")}

Lineage = dict[str, list[tuple[str, str]]]


def check_fields(fields: tuple[Field, ...], columns: Mapping[str, str]) -> None:
    """Refuses a field whose column is missing or of a type that its kind cannot be read from."""
    for declared in fields:
        check_known(declared.name, columns, field=declared.name)
        kind = columns[declared.name]
        if kind not in _TYPES_OF_KIND[declared.kind]:
            raise DeclarationError(
                f"A {declared.kind} cannot be read from a column of type {kind}.",
                field=declared.name,
                next_step=f"A {declared.kind} is {', '.join(_TYPES_OF_KIND[declared.kind])} in the source.",
            )


@dataclass(frozen=True, eq=False)
class RequestView(Declaration):
    """What arrives with the request; in training it is read from ``source``.

    ``time`` is the request time T: stored features are those known at T, and ages count from T. A derived feature is
    an expression over the view's own columns, null where its inputs are (see ``expressions``). Features stand in the
    order of their names, whatever the order of declaration: equal digest means equal matrix.

    Raises:
        DeclarationError: names the field and the choices.
    """

    name: str
    entity: Entity
    source: Source
    time: str
    columns: tuple[Field, ...]
    derived: Mapping[str, str | Expression] = field(default_factory=dict, hash=False)

    kind: ClassVar[str] = "request_view"

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        object.__setattr__(self, "columns", tuple(sorted(self.columns, key=lambda column: column.name)))
        kinds = {column.name: column.kind for column in self.columns}
        parsed = {
            name: text if isinstance(text, Expression) else parse(text, kinds, field=name)
            for name, text in sorted(self.derived.items())
        }
        object.__setattr__(self, "derived", parsed)
        for key in self.entity.keys:
            check_known(key, self.source.columns, field="entity")
        times = [name for name, kind in self.source.columns.items() if kind == "timestamp"]
        check_known(self.time, times, field="time", what="timestamp column")
        check_fields(self.columns, self.source.columns)
        check_unique([field.name for field in self.features], field="columns")
        taken = {*self.entity.keys, self.time} & set(parsed)
        if taken:
            raise DeclarationError(
                "A derived feature has the name of a key or of the time.",
                field=", ".join(sorted(taken)),
                next_step="Give it another name.",
            )
        if not self.features:
            raise DeclarationError("A view needs features.", field="columns", next_step="Declare a column.")

    @property
    def expressions(self) -> dict[str, Expression]:
        """The derived features, parsed, in the order of their names."""
        return {name: value for name, value in self.derived.items() if isinstance(value, Expression)}

    @property
    def features(self) -> tuple[Field, ...]:
        """The columns, then the derived features (numbers that may be null), each in the order of their names."""
        return (*self.columns, *(number(check_name(name, field="derived"), nullable=True) for name in self.derived))

    def lineage(self) -> Lineage:
        """Of each feature, the (source, column) pairs that it is computed from."""
        origin = self.source.lineage()
        own = {column.name: origin[column.name] for column in self.columns}
        derived = {
            name: sorted({pair for column in expression.columns() for pair in own[column]})
            for name, expression in self.expressions.items()
        }
        return {**own, **derived}

    def document(self) -> dict[str, Any]:
        return {
            "entity": self.entity.spec(),
            "source": self.source.spec(),
            "time": self.time,
            "columns": {column.name: column.spec() for column in self.columns},
            "derived": {name: expression.spec() for name, expression in self.expressions.items()},
        }
