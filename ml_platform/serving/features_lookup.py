"""How a router finds stored features: one look-up a view for a whole batch, values with the times they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ml_platform.core.contract import Contract
from ml_platform.core.errors import NotFound
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import FieldType, arrow_row_type, encode_row
from ml_platform.features import definitions
from ml_platform.features.online import OnlineStore
from ml_platform.features.views import FeatureView

__all__ = ["Column", "FeatureLookup", "StoredFeatures", "StoredValues"]

Column = Callable[[str], Sequence[Any]]
"""The values of an entity key or a request's input, one a row, as received: texts as str, null as None."""


class StoredValues(NamedTuple):
    """Of each stored field of the contract, in its order, one value a row.

    Attributes:
        values: [field][row]: numbers, texts or booleans as the view has them; None where null.
        event_us: [field][row]: the event time that they come from in microseconds UTC; None where there was nothing.
    """

    values: Sequence[Sequence[Any]]
    event_us: Sequence[Sequence[int | None]]


class FeatureLookup(Protocol):
    """What answers a router. Called once a batch and contract, from one thread at a time."""

    def lookup(self, contract: Contract, column: Column, times_us: Sequence[int]) -> StoredValues:
        """What held for each row at its request time, as the point-in-time join would say.

        Args:
            contract: ``contract.stored`` says which features, ``view@digest:feature``.
            column: the keys by which views are asked; a view may be about another entity than the model, such as the
                purpose of a loan, whose key comes with the request.
            times_us: T of each row, microseconds UTC.

        Raises:
            PlatformError: the store cannot answer; the requests are refused as unavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """One view of a contract: how its keys are encoded, and where its features go."""

    view: FeatureView
    keys: tuple[tuple[str, FieldType], ...]
    fields: tuple[tuple[int, int], ...]  # (place among the stored fields, place among the view's features)


class StoredFeatures:
    """Looks features up in an online store, by the definitions that a contract names.

    Args:
        objects: holds the definitions.
        store: was published to by ``mlp features materialize``.
    """

    def __init__(self, objects: ObjectStore, store: OnlineStore) -> None:
        self._objects = objects
        self._store = store
        self._asked: dict[str, list[_Asked]] = {}

    def lookup(self, contract: Contract, column: Column, times_us: Sequence[int]) -> StoredValues:
        """See ``FeatureLookup``.

        Raises:
            NotFound: a definition is gone, or its view was never published.
            StorageFailed: the store cannot be read.
        """
        asked = self._asked.get(contract.digest)
        if asked is None:
            asked = self._asked[contract.digest] = self._views(contract)
        values: list[Sequence[Any]] = [()] * len(contract.stored)
        events: list[Sequence[int | None]] = [()] * len(contract.stored)
        for one in asked:
            found = self._store.get(one.view, _keys(one, column), times_us)
            event_us = [item.event_us for item in found]
            for place, feature in one.fields:
                values[place] = [item.values[feature] for item in found]
                events[place] = event_us
        return StoredValues(values, events)

    def _views(self, contract: Contract) -> list[_Asked]:
        fields: dict[str, list[tuple[int, str]]] = {}
        for place, item in enumerate(contract.stored):
            reference, _, feature = item.reference.rpartition(":")
            fields.setdefault(reference, []).append((place, feature))
        found = []
        for reference, wanted in fields.items():
            view = definitions.load(self._objects, reference.partition("@")[2])
            if not isinstance(view, FeatureView):
                raise NotFound("The definition is no feature view.", field=reference, next_step="Register it again.")
            schema = view.history.arrow_schema()
            names = [feature.name for feature in view.features]
            keys = tuple((key, arrow_row_type(schema.field(key).type, field=key)) for key in view.entity.keys)
            found.append(_Asked(view, keys, tuple((place, names.index(name)) for place, name in wanted)))
        return found


def _keys(asked: _Asked, column: Column) -> list[bytes | None]:
    kinds = [kind for _, kind in asked.keys]
    columns = [column(name) for name, _ in asked.keys]
    return [
        None if any(value is None for value in values) else encode_row(list(zip(kinds, values, strict=True)))
        for values in zip(*columns, strict=True)
    ]
