"""How a router finds stored features: one look-up for all rows of a batch, values with the times they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ml_platform.core.contract import Contract

__all__ = ["FeatureLookup", "StoredValues"]


class StoredValues(NamedTuple):
    """Of each stored field of the contract, in its order, one value a row.

    Attributes:
        values: [field][row]: numbers, texts or booleans as the view has them; None where null.
        event_us: [field][row]: the event time of the value in microseconds UTC; None where there was no value.
    """

    values: Sequence[Sequence[Any]]
    event_us: Sequence[Sequence[int | None]]


class FeatureLookup(Protocol):
    """What the online store answers a router. Called once a batch and contract, from one thread at a time."""

    def lookup(self, contract: Contract, keys: Sequence[tuple[Any, ...]], times_us: Sequence[int]) -> StoredValues:
        """What held for each entity key at its request time, as the point-in-time join would say.

        Args:
            contract: ``contract.stored`` says which features, ``view@digest:feature``.
            keys: entity keys, typed, in the order of ``contract.entity_keys``.
            times_us: T of each row, microseconds UTC.

        Raises:
            PlatformError: the store cannot answer; the requests are refused as unavailable.
        """
        ...
