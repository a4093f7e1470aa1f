"""whylogs sketches of a window: mergeable quantiles, cardinalities and frequent items, in whylogs' own file format.

The sketches are built from what our exact profile has already counted, a whole column at a time: whylogs' own logger
looks at each value several times in Python. Categories go in under the names that our profile gives them, so no raw
text of a field that is not public ever gets in. A quantile sketch does hold single numbers, minimum and maximum among
them, and differs from run to run: it is evidence beside the exact profile, never what drift is computed from.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DataError
from ml_platform.profiles.profile import MIN_ROWS
from ml_platform.profiles.window import WindowCategory, WindowNumber

__all__ = ["Sketches", "why_absent"]

_LOG2_REGISTERS = 12  # whylogs' own default sizes
_LOG2_ITEMS = 10
_QUANTILE_K = 256


def why_absent() -> str | None:
    """Why there can be no sketches here; None where whylogs can be imported."""
    try:
        importlib.import_module("whylogs.core")
    except ImportError as error:
        return f"whylogs cannot be imported here ({type(error).__name__})."
    return None


class Sketches:
    """A dataset profile of whylogs; `Sketches.read` of its bytes gives one that says the same.

    Raises:
        ImportError: whylogs is not installed (extra: profiles).
    """

    def __init__(self, view: Any) -> None:
        self.view = view

    @classmethod
    def of(
        cls,
        numbers: Iterable[tuple[str, WindowNumber, npt.NDArray[np.float32]]],
        categories: Iterable[tuple[str, WindowCategory, WindowCategory]],
        at: datetime,
    ) -> Sketches:
        """Of counted columns.

        Args:
            numbers: name, exact profile, float32 values (NaN where null). A column of fewer than ten values gets its
                counts only: a sketch of so few would be a list of them.
            categories: name, all counts, and the counts whose categories may be named.
            at: the window's start.
        """
        from whylogs.core.view.dataset_profile_view import DatasetProfileView

        columns = {name: _number(found, values) for name, found, values in numbers}
        columns |= {name: _category(every, named) for name, every, named in categories}
        return cls(DatasetProfileView(columns=columns, dataset_timestamp=at, creation_timestamp=at))

    @classmethod
    def read(cls, raw: bytes) -> Sketches:
        """The sketches that `to_bytes` wrote.

        Raises:
            DataError: these bytes are no profile of whylogs.
        """
        from whylogs.core.view.dataset_profile_view import DatasetProfileView

        try:
            return cls(DatasetProfileView.deserialize(raw))
        except Exception as error:  # whatever its protobuf layer raises
            raise DataError(
                f"These bytes are no whylogs profile ({type(error).__name__}).",
                field="whylogs",
                next_step="Profile the window again.",
            ) from error

    def __add__(self, other: Sketches) -> Sketches:
        """The whole of two parts."""
        return Sketches(self.view.merge(other.view))

    def to_bytes(self) -> bytes:
        """The binary file of whylogs, as its own ``DatasetProfileView.read`` reads it."""
        raw: bytes = self.view.serialize()
        return raw

    def summary(self) -> dict[str, dict[str, Any]]:
        """The figures of whylogs by column."""
        return {name: dict(column.to_summary_dict()) for name, column in self.view.get_columns().items()}


def _number(found: WindowNumber, values: npt.NDArray[np.float32]) -> Any:
    import whylogs_sketching as sketching
    from whylogs.core.metrics.metric_components import FractionalComponent, HllComponent, KllComponent
    from whylogs.core.metrics.metrics import CardinalityMetric, DistributionMetric

    quantiles, distinct = sketching.kll_doubles_sketch(k=_QUANTILE_K), sketching.hll_sketch(_LOG2_REGISTERS)
    mean = squares = 0.0
    if found.values >= MIN_ROWS and found.moments is not None:
        present = (values[~np.isnan(values)] if found.nulls else values).astype(np.float64)
        quantiles.update(array=present)
        distinct.update_np(present)
        mean = found.moments.mean or 0.0
        squares = (found.moments.variance or 0.0) * (found.values - 1)
    more = {
        "distribution": DistributionMetric(
            kll=KllComponent(quantiles), mean=FractionalComponent(mean), m2=FractionalComponent(squares)
        ),
        "cardinality": CardinalityMetric(hll=HllComponent(distinct)),
    }
    return _column(found.rows, found.nulls, fractional=found.values, more=more)


def _category(every: WindowCategory, named: WindowCategory) -> Any:
    import whylogs_sketching as sketching
    from whylogs.core.metrics.metric_components import FrequentStringsComponent, HllComponent
    from whylogs.core.metrics.metrics import CardinalityMetric, FrequentItemsMetric

    distinct, frequent = sketching.hll_sketch(_LOG2_REGISTERS), sketching.frequent_strings_sketch(_LOG2_ITEMS)
    distinct.update_str_list(sorted(every.counts))
    for name, rows in sorted(named.counts.items()):
        if rows:
            frequent.update(name, rows)
    more = {
        "cardinality": CardinalityMetric(hll=HllComponent(distinct)),
        "frequent_items": FrequentItemsMetric(frequent_strings=FrequentStringsComponent(frequent)),
    }
    return _column(every.rows, every.nulls, text=every.rows - every.nulls, more=more)


def _column(rows: int, nulls: int, *, fractional: int = 0, text: int = 0, more: dict[str, Any]) -> Any:
    from whylogs.core.metrics.column_metrics import ColumnCountsMetric, TypeCountersMetric
    from whylogs.core.metrics.metric_components import IntegralComponent
    from whylogs.core.view.column_profile_view import ColumnProfileView

    zero = {name: IntegralComponent(0) for name in ("integral", "boolean", "object")}
    types = TypeCountersMetric(fractional=IntegralComponent(fractional), string=IntegralComponent(text), **zero)
    counts = ColumnCountsMetric(n=IntegralComponent(rows), null=IntegralComponent(nulls))
    return ColumnProfileView(metrics={"counts": counts, "types": types, **more}, success_count=rows)
