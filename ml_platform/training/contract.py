"""From declarations and the training part to the contract of a version, and from a table to the model's matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.core.columns import category_texts
from ml_platform.core.contract import Contract, Flag, Origin, Output, Refusal, ResolvedField
from ml_platform.core.errors import DeclarationError, NotEnoughData, SchemaMismatch
from ml_platform.core.fields import Field
from ml_platform.features import FeatureView, RequestView

__all__ = ["Prepared", "ResolvedInput", "build", "prepare", "resolve"]

_ORIGINS: Final[tuple[Origin, ...]] = ("input", "derived", "stored")


@dataclass(frozen=True)
class ResolvedInput:
    """A declared field and where it comes from.

    ``reference`` is ``view@sha256:…:feature``; ``type`` is the column's type in its source (``float64`` for derived
    fields and aggregations); ``expression`` is the normalised tree of a derived field.
    """

    declared: Field
    reference: str
    origin: Origin
    type: str
    expression: dict[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Prepared:
    """A table as the model sees it.

    Attributes:
        matrix: float32 [n, fields], contract order, missing is NaN; refused rows have no meaning.
        accepted: bool [n].
        refusals: why rows were refused; field, rule and kind, never a value.
        flags: remarks on rows that were let through.
    """

    matrix: npt.NDArray[np.float32]
    accepted: npt.NDArray[np.bool_]
    refusals: tuple[Refusal, ...]
    flags: tuple[Flag, ...]

    def refused_by_rule(self) -> dict[str, int]:
        """How many refusals each ``field:rule`` made (a row may have several)."""
        return dict(sorted(Counter(f"{item.field}:{item.rule}" for item in self.refusals).items()))


def resolve(views: Iterable[RequestView | FeatureView]) -> tuple[ResolvedInput, ...]:
    """The fields of a model's views: view by view as listed, each view's features in its own order (of names)."""
    resolved: list[ResolvedInput] = []
    for view in views:
        if isinstance(view, RequestView):
            resolved += _request_inputs(view)
        else:
            resolved += _stored_inputs(view)
    return tuple(resolved)


def _request_inputs(view: RequestView) -> list[ResolvedInput]:
    expressions = view.expressions
    inputs = []
    for item in view.features:
        reference = f"{view.reference}:{item.name}"
        if item.name in expressions:
            inputs.append(ResolvedInput(item, reference, "derived", "float64", expressions[item.name].spec()))
        else:
            inputs.append(ResolvedInput(item, reference, "input", view.source.columns[item.name]))
    return inputs


def _stored_inputs(view: FeatureView) -> list[ResolvedInput]:
    types = dict(view.history.columns) if view.columns else {}
    return [
        ResolvedInput(item, f"{view.reference}:{item.name}", "stored", types.get(item.name, "float64"))
        for item in view.features
    ]


def build(
    inputs: Sequence[ResolvedInput],
    training_part: pa.Table,
    *,
    entity_keys: Sequence[tuple[str, str]],
    time: str,
    outputs: Sequence[Output] = (Output("score", "float32"),),
) -> Contract:
    """The contract of a version.

    Types, kinds and nullability are those declared; ranges only where declared (learned ones would refuse good rows);
    categories, unless declared, are those of the training part, sorted.

    Args:
        inputs: the model's fields, in model order.
        training_part: the training rows, one column a field.
        entity_keys: (name, type) of the entity's keys.
        time: the name of the request time.
        outputs: named output tensors.

    Raises:
        DeclarationError: two features have one name, or a feature has the name of a key or of the time.
        SchemaMismatch: the training part lacks a column.
        NotEnoughData: a category column of the training part has no values.
    """
    _check_names([item.declared.name for item in inputs], reserved=[time, *(name for name, _ in entity_keys)])
    _check_present([item.declared.name for item in inputs], training_part)
    fields = tuple(_resolved(item, training_part) for item in inputs)
    return Contract(tuple((name, kind) for name, kind in entity_keys), time, fields, tuple(outputs))


def _check_names(names: Sequence[str], reserved: Sequence[str]) -> None:
    doubled = sorted(name for name, times in Counter(names).items() if times > 1 or name in reserved)
    if doubled:
        raise DeclarationError(
            "Two features have the same name, or one has the name of a key or of the time.",
            field=", ".join(doubled),
            next_step="Short feature names are unique within a model: rename one.",
        )


def _check_present(names: Iterable[str], table: pa.Table) -> None:
    present = set(table.column_names)
    missing = [name for name in names if name not in present]
    if missing:
        raise SchemaMismatch("Features are missing.", field=", ".join(missing), next_step="Compute them first.")


def _resolved(item: ResolvedInput, table: pa.Table) -> ResolvedField:
    declared = item.declared
    categories = None
    if declared.kind == "category":
        categories = declared.categories or _observed(declared.name, table)
    return ResolvedField(
        name=declared.name,
        reference=item.reference,
        origin=item.origin,
        kind=declared.kind,
        type=item.type,
        nullable=declared.nullable,
        range=declared.range,
        categories=None if categories is None else tuple(sorted(categories)),
        on_unknown=declared.on_unknown,
        on_null=declared.on_null,
        on_range=declared.on_range,
        default=declared.default,
        public=declared.public,
        expression=item.expression,
    )


def _observed(name: str, table: pa.Table) -> tuple[str, ...]:
    values = pc.unique(category_texts(table.column(name))).drop_null().to_pylist()
    if not values:
        raise NotEnoughData(
            "The category has no value in the training part.",
            field=name,
            next_step="Declare its categories, or leave the feature out.",
        )
    return tuple(str(value) for value in values)


def prepare(contract: Contract, table: pa.Table) -> Prepared:
    """Applies the contract to a table of features, derived and stored ones too, and encodes it for the model.

    Raises:
        SchemaMismatch: a field of the contract has no column.
    """
    _check_present(contract.names, table)
    fields = tuple(_as_stored(item, table.schema.field(item.name).type) for item in contract.fields)
    admission = replace(contract, fields=fields).admit(table, origins=_ORIGINS)
    return Prepared(contract.encode(admission.columns), admission.accepted, admission.refusals, admission.flags)


def _as_stored(item: ResolvedField, kind: pa.DataType) -> ResolvedField:
    """A snapshot holds numbers already rounded to float32, so its rows are held against bounds rounded likewise."""
    if item.range is None or not pa.types.is_float32(kind):
        return item
    low, high = (None if bound is None else float(np.float32(bound)) for bound in item.range)
    return replace(item, range=(low, high))
