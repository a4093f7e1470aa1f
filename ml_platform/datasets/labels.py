"""Labels: what is predicted, how long it takes to be known, and the outcomes that are old enough to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, Self, get_args

from ml_platform.core.digests import document_digest
from ml_platform.core.durations import Duration
from ml_platform.core.errors import DeclarationError
from ml_platform.datasets.label_sql import MaturedQuery
from ml_platform.features.declaration import DEFINITION_FORMAT, check_known
from ml_platform.features.definitions import rebuild
from ml_platform.features.source import INGESTED_COLUMN, Source
from ml_platform.features.views import RequestView

__all__ = ["MATURED_AT", "SPLIT", "Label", "LabelKind"]

LabelKind = Literal["event_within", "value"]
MATURED_AT: Final = "matured_at"
SPLIT: Final = "split"
_NUMERIC: Final = ("bool", "int64", "float64")
_UNITS: Final = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}


@dataclass(frozen=True, eq=False)
class Label:
    """What is predicted for each request, and when it counts.

    A label is *mature* at start + horizon + lag, start being the request's time. Before that the row counts nowhere
    (training, evaluation, features made of outcomes), even if its outcome is known: the outcomes that are known early
    are the bad ones. Its value is what was known at maturity, later corrections notwithstanding: of the outcome's rows
    with the request's entity key, known from the start to maturity, a correction (same key and event time, known later)
    replaces what it corrects, withdrawn facts are gone, and the last event counts.

    - ``event_within``: 1 if the column is true or nonzero, 0 if it is false, null or nothing is known (int64).
    - ``value``: the column as float64; unknown at maturity is an error when the rows are labelled.

    Args:
        rows: the request view whose rows are labelled; start and grouping columns come from it.
        outcome: the source of outcomes; joined on the entity's keys, which it must have.
        column: the outcome's column: bool, int64 or float64.
        kind: ``event_within`` or ``value``.
        horizon: how long after the start the event counts: ``12mo``, ``360d``. A ``value`` may have ``0d`` where it
            exists at once but is reported late; a label with neither horizon nor lag would be a feature.
        lag: how long after the horizon the outcome may still be on its way to us.

    Raises:
        DeclarationError: names the field and the choices.
    """

    rows: RequestView
    outcome: Source
    column: str
    horizon: str
    kind: LabelKind = "event_within"
    lag: str = "0d"

    def __post_init__(self) -> None:
        if self.kind not in get_args(LabelKind):
            raise DeclarationError(
                "This is no kind of label.", field="kind", next_step=f"Choose one of {', '.join(get_args(LabelKind))}."
            )
        horizon, lag = self.horizon_duration, self.lag_duration
        if horizon.is_zero and (self.kind == "event_within" or lag.is_zero):
            raise DeclarationError(
                "The label has no time in which to become known.",
                field="horizon",
                next_step='Give a horizon such as "12mo"; what is known at the request is a feature.',
            )
        self._check_sources()
        self._check_names()

    def _check_sources(self) -> None:
        if self.rows.time != self.rows.source.event_time:
            raise DeclarationError(
                "The request's time is not the event time of its source.",
                field="rows",
                next_step="Labels start at the event time: declare one column as both.",
            )
        for key in self.rows.entity.keys:
            check_known(key, self.outcome.columns, field="outcome")
            if self.outcome.columns[key] != self.rows.source.columns[key]:
                raise DeclarationError(
                    "The key has another type in the outcome.", field=key, next_step="Declare one type for both."
                )
        numeric = [name for name, kind in self.outcome.columns.items() if kind in _NUMERIC]
        check_known(self.column, numeric, field="column", what=f"column of type {', '.join(_NUMERIC)}")

    def _check_names(self) -> None:
        if self.rows.source.name == self.outcome.name:
            raise DeclarationError(
                "Requests and outcomes are the same source.",
                field="outcome",
                next_step="Declare the outcomes apart: they become known later than the request.",
            )
        taken = {*self.rows.source.stored_columns, *(field.name for field in self.rows.features)}
        reserved = {self.column, MATURED_AT, SPLIT} & taken
        if reserved or self.column in {MATURED_AT, SPLIT}:
            raise DeclarationError(
                f"The request has a column with the name of the label, {MATURED_AT} or {SPLIT}.",
                field=", ".join(sorted(reserved)) or self.column,
                next_step="Leave it out of the request's source: what is predicted is never a feature.",
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def horizon_duration(self) -> Duration:
        return Duration.parse(self.horizon, field="horizon")

    @property
    def lag_duration(self) -> Duration:
        return Duration.parse(self.lag, field="lag")

    @property
    def name(self) -> str:
        """``<request source>.<column>``; with ``.matured`` the name of the source of mature outcomes."""
        return f"{self.rows.source.name}.{self.column}"

    @cached_property
    def matured(self) -> Source:
        """The mature outcomes as a plain source, so that features can be made of them.

        One row a request, at event time = known time = maturity: the entity's keys, the request's time, every column
        that a window may group by (all but float64), the label and ``matured_at``. A request that was withdrawn or not
        yet known at its maturity is not in it, nor is a ``value`` that is unknown.
        """
        source = self.rows.source
        first = dict.fromkeys((*self.rows.entity.keys, self.rows.time))
        grouping = [
            name
            for name, kind in source.columns.items()
            if kind != "float64" and name not in {*first, source.deleted, INGESTED_COLUMN}
        ]
        kept = (*first, *grouping)
        query = MaturedQuery(
            rows=source,
            outcome=self.outcome,
            keys=self.rows.entity.keys,
            time=self.rows.time,
            column=self.column,
            is_event=self.kind == "event_within",
            horizon=self.horizon_duration,
            lag=self.lag_duration,
            kept=kept,
        )
        label_type = "int64" if self.kind == "event_within" else "float64"
        columns = {name: source.columns[name] for name in kept}
        return Source(
            f"{self.name}.matured",
            columns={**columns, self.column: label_type, MATURED_AT: "timestamp"},
            keys=self.rows.entity.keys,
            event_time=MATURED_AT,
            known_time=MATURED_AT,
            tie_break=(self.rows.time,),  # two requests of one subject may mature at once: months are clamped
            sql=query.text(),
            inputs=(source, self.outcome),
        )

    def spec(self) -> dict[str, Any]:
        """The canonical form (``ml-platform/definition/1``); the outcome's known time, or why it has none, is in it."""
        return {
            "format": DEFINITION_FORMAT,
            "kind": "label",
            "name": self.name,
            "rows": self.rows.spec(),
            "outcome": self.outcome.spec(),
            "column": self.column,
            "value": self.kind,
            "horizon": _canonical(self.horizon_duration),
            "lag": _canonical(self.lag_duration),
        }

    @cached_property
    def digest(self) -> str:
        return document_digest("definition", self.spec())

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """The label of a canonical form, for versions that were declared by older Python.

        Raises:
            DeclarationError: the format or kind is unknown.
        """
        if spec.get("format") != DEFINITION_FORMAT or spec.get("kind") != "label":
            raise DeclarationError(
                "The definition is no label.", field="kind", next_step=f"Expected a label in {DEFINITION_FORMAT}."
            )
        rows, outcome = rebuild(spec["rows"]), rebuild(spec["outcome"])
        if not isinstance(rows, RequestView) or not isinstance(outcome, Source):
            raise DeclarationError(
                "The parts of the label are of the wrong kind.", field="rows", next_step="Restore the definition."
            )
        return cls(
            rows=rows,
            outcome=outcome,
            column=spec["column"],
            horizon=_text(**spec["horizon"]),
            kind=spec["value"],
            lag=_text(**spec["lag"]),
        )


def _canonical(duration: Duration) -> dict[str, int]:
    # "24h" and "1d" are the same horizon.
    return {"months": duration.months, "microseconds": duration.microseconds}


def _text(months: int, microseconds: int) -> str:
    if months:
        return f"{months}mo"
    for unit, size in _UNITS.items():
        if microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    raise DeclarationError("A duration is whole seconds.", field="horizon", next_step="Restore the definition.")
