"""How far a window is from what its version was trained on: pure, from two exact profiles.

A number is judged twice: against its limit, and against what two samples of these sizes would show without any shift.
A fixed limit alone pages for nothing: an unshifted column of 5,000 categories has a PSI of 0.21 at 100,000 rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ml_platform.core.contract import Contract
from ml_platform.core.errors import NotEnoughData
from ml_platform.profiles import (
    CategoryProfile,
    NumberProfile,
    ReferenceProfile,
    WindowCategory,
    WindowNumber,
    WindowProfile,
    hashed_category,
)
from ml_platform.stats import Interval, js_divergence, kl_divergence, psi, psi_noise, rate_difference
from ml_platform.stats.interval import two_sided_z

__all__ = ["DriftReport", "FieldDrift", "Limits", "NullRate", "SchemaFinding", "ScoreDrift", "Shift", "measure_drift"]

SCHEMA_RULES: Final = ("missing", "extra", "unexpected", "type", "shape", "schema")


@dataclass(frozen=True)
class Limits:
    """When a number means something.

    Args:
        psi: above it a distribution has moved (the model's `Monitor.psi_limit`).
        noise_level: and above the PSI that unshifted samples stay below with this probability.
        null_effect: Cohen's h of a rise of the null rate (0 to 2 % is 0.28, 60 to 75 % 0.32).
        least_rows: rows that must show it: nulls, a category that the version has never seen, refusals for a shape.
        schema_share: of the requests, refused because a field is missing, unknown or of another type.
    """

    psi: float = 0.2
    noise_level: float = 0.999
    null_effect: float = 0.3
    least_rows: int = 10
    schema_share: float = 0.01


@dataclass(frozen=True)
class Shift:
    """How a distribution moved, over the reference's bins with one for nulls; KL is of the reference from the window.

    ``noise``: what the PSI stays below without a shift. ``moved``: above limit and noise.
    """

    psi: float
    noise: float
    js: float
    kl: float
    moved: bool


@dataclass(frozen=True)
class NullRate:
    """Rows without a value, rows refused because of that among them. ``spike``: a large rise beyond noise."""

    reference: float
    window: float
    change: Interval
    effect: float
    spike: bool


@dataclass(frozen=True)
class FieldDrift:
    """One feature.

    Attributes:
        name: of the feature.
        kind: ``number`` or ``category``.
        critical: as declared.
        shift: see ``Shift``.
        nulls: see ``NullRate``.
        mean_shift: of a number, in standard deviations of the reference; None where one side has no spread to tell.
        mean_shift_noise: what that stays below (in size) without a shift, at the noise level.
        variance_ratio: window over reference.
        new: rows a category that the version was not trained on, by the name that the profile gives it.
        new_rows: rows of all of them, those too rare to be named included.
        missing: categories of the reference that no row has, where by chance one would.
    """

    name: str
    kind: str
    critical: bool
    shift: Shift
    nulls: NullRate
    mean_shift: float | None = None
    mean_shift_noise: float | None = None
    variance_ratio: float | None = None
    new: tuple[tuple[str, int], ...] = ()
    new_rows: int = 0
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "nulls": asdict(self.nulls) | {"change": self.nulls.change.to_json()},
            "new": dict(self.new),
            "missing": list(self.missing),
        }


@dataclass(frozen=True)
class ScoreDrift:
    """The predictions: their distribution, and the share of each decision."""

    shift: Shift | None
    mean_shift: float | None
    decisions: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "shift": None if self.shift is None else asdict(self.shift),
            "mean_shift": self.mean_shift,
            "decisions": dict(self.decisions),
        }


@dataclass(frozen=True)
class SchemaFinding:
    """Data that has another shape than the version's contract: which field, which rule, how many rows."""

    field: str
    rule: str
    rows: int


@dataclass(frozen=True)
class DriftReport:
    """One window against one version's reference."""

    rows: int
    fields: tuple[FieldDrift, ...]
    score: ScoreDrift
    schema: tuple[SchemaFinding, ...]
    refused: Mapping[str, int]

    def field(self, name: str) -> FieldDrift:
        return next(one for one in self.fields if one.name == name)

    @property
    def psi(self) -> dict[str, float]:
        """PSI by feature."""
        return {one.name: one.shift.psi for one in self.fields}

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "fields": {one.name: one.to_json() for one in self.fields},
            "score": self.score.to_json(),
            "schema": [asdict(one) for one in self.schema],
            "refused": dict(self.refused),
        }


def measure_drift(
    reference: ReferenceProfile,
    window: WindowProfile,
    contract: Contract,
    *,
    critical: Sequence[str] = (),
    limits: Limits | None = None,
    refused: Mapping[str, int] | None = None,
    seed: int = 0,
) -> DriftReport:
    """Measures every feature and the score.

    Args:
        reference: of the version's training part.
        window: profile of its decisions, over the reference's bins.
        contract: of the version; it knows all categories of the training part.
        critical: features whose drift matters most.
        limits: when a number means something.
        refused: requests that the contract refused in the window, by ``field:rule``.
        seed: of the draws behind noise of rare bins; from a digest of the inputs.

    Raises:
        NotEnoughData: the window has no rows.
    """
    if window.rows == 0:
        raise NotEnoughData("The window has no decisions.", field="window", next_step="Choose a window with decisions.")
    judge = _Judge(limits or Limits(), dict(refused or {}), seed)
    fields = [
        judge.field(reference, contract, name, window, critical=name in critical)
        for name in reference.fields
        if name in window.fields
    ]
    schema = [SchemaFinding(name, "missing", window.rows) for name in window.missing]
    schema += [
        SchemaFinding(*_field_and_rule(key), rows)
        for key, rows in sorted(judge.refused.items())
        if _field_and_rule(key)[1] in SCHEMA_RULES
    ]
    return DriftReport(
        window.rows, tuple(fields), judge.score(reference, window), tuple(schema), dict(sorted(judge.refused.items()))
    )


def _field_and_rule(key: str) -> tuple[str, str]:
    field, _, rule = key.rpartition(":")
    return field, rule


@dataclass(frozen=True)
class _Judge:
    limits: Limits
    refused: Mapping[str, int]
    seed: int

    def field(
        self, reference: ReferenceProfile, contract: Contract, name: str, window: WindowProfile, *, critical: bool
    ) -> FieldDrift:
        known, found = reference.fields[name], window.fields[name]
        nulls = self._nulls(known.nulls, known.rows, found.nulls + self.refused.get(f"{name}:null", 0), found, name)
        if isinstance(known, NumberProfile) and isinstance(found, WindowNumber):
            expected, actual = [*known.counts, known.nulls], [*found.counts, found.nulls]
            moved = _mean_shift(known, found, self.limits.noise_level)
            return FieldDrift(name, "number", critical, self.shift(expected, actual), nulls, *moved)
        if isinstance(known, CategoryProfile) and isinstance(found, WindowCategory):
            expected, actual = _aligned(known, found)
            new, missing = _new(reference, contract, name, found), _missing(known, found)
            shift = self.shift(expected, actual)
            # Where the reference has no rare categories, whatever the window leaves unnamed is new.
            rows = sum(rows for _, rows in new) + (0 if known.other else found.other)
            return FieldDrift(name, "category", critical, shift, nulls, new=new, new_rows=rows, missing=missing)
        raise NotEnoughData("The window was profiled as another kind.", field=name, next_step="Profile it again.")

    def shift(self, expected: Sequence[int], actual: Sequence[int]) -> Shift:
        held = [(e, a) for e, a in zip(expected, actual, strict=True) if e or a]
        e, a = [pair[0] for pair in held], [pair[1] for pair in held]
        if not sum(e) or not sum(a):
            return Shift(0.0, 0.0, 0.0, 0.0, moved=False)
        found = psi(e, a)
        noise = psi_noise(e, a, level=self.limits.noise_level, seed=self.seed)
        moved = found > self.limits.psi and found > noise
        return Shift(found, noise, js_divergence(e, a), kl_divergence(a, e), moved)

    def _nulls(
        self, nulls: int, rows: int, nulls_now: int, found: WindowNumber | WindowCategory, name: str
    ) -> NullRate:
        rows_now = found.rows + self.refused.get(f"{name}:null", 0)
        if not rows or not rows_now:
            raise NotEnoughData("A profile has no rows.", field=name, next_step="Use a window that has decisions.")
        change = rate_difference(nulls_now, rows_now, nulls, rows, level=self.limits.noise_level)
        before, now = nulls / rows, nulls_now / rows_now
        effect = 2 * math.asin(math.sqrt(now)) - 2 * math.asin(math.sqrt(before))
        spike = effect >= self.limits.null_effect and change.low > 0 and nulls_now >= self.limits.least_rows
        return NullRate(before, now, change, effect, spike)

    def score(self, reference: ReferenceProfile, window: WindowProfile) -> ScoreDrift:
        made = sum(window.decisions.values())
        decisions = tuple((name, rows / made) for name, rows in sorted(window.decisions.items())) if made else ()
        if reference.score is None or window.score is None:
            return ScoreDrift(None, None, decisions)
        shift = self.shift(reference.score.counts, window.score.counts)
        return ScoreDrift(shift, _mean_shift(reference.score, window.score, self.limits.noise_level)[0], decisions)


def _aligned(known: CategoryProfile, found: WindowCategory) -> tuple[list[int], list[int]]:
    """Counts over the reference's categories, its rare and the window's unnamed ones together, and nulls."""
    names = sorted(known.counts)
    other = found.other + sum(rows for name, rows in found.counts.items() if name not in known.counts)
    expected = [*(known.counts[name] for name in names), known.other, known.nulls]
    return expected, [*(found.counts.get(name, 0) for name in names), other, found.nulls]


def _new(
    reference: ReferenceProfile, contract: Contract, name: str, found: WindowCategory
) -> tuple[tuple[str, int], ...]:
    trained = contract.field(name).categories or ()
    known = {text if found.public else hashed_category(reference.inputs_digest, name, text) for text in trained}
    return tuple((one, rows) for one, rows in sorted(found.counts.items()) if rows and one not in known)


def _missing(known: CategoryProfile, found: WindowCategory) -> tuple[str, ...]:
    """Categories that nobody has, though with the reference's share less than one window in a thousand had none."""
    present = found.rows - found.nulls
    return tuple(
        name
        for name, rows in sorted(known.counts.items())
        if not found.counts.get(name, 0) and (1 - rows / known.rows) ** present < 0.001
    )


def _mean_shift(
    known: NumberProfile, found: WindowNumber, level: float
) -> tuple[float | None, float | None, float | None]:
    """(shift of the mean in the reference's standard deviations, its noise, ratio of the variances)."""
    moments = found.moments
    if moments is None or known.mean is None or moments.mean is None or not known.variance:
        return None, None, None
    shift = (moments.mean - known.mean) / math.sqrt(known.variance)
    if moments.variance is None:
        return shift, None, None
    ratio = moments.variance / known.variance
    # Welch's standard error, in the same unit.
    noise = two_sided_z(level) * math.sqrt(1 / (known.rows - known.nulls) + ratio / moments.n)
    return shift, noise, ratio
