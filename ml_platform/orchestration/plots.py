"""Pictures of an evaluation, small enough to stay in Dagster's database: PNG of at most 50 kB each.

The only module that imports matplotlib, and only when something is drawn.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import numpy as np
import numpy.typing as npt

from ml_platform.core.errors import DataError
from ml_platform.stats import reliability, roc_curve, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MAX_PNG_BYTES", "as_markdown", "bins_png", "calibration_png", "psi_png", "roc_png", "scores_png"]

MAX_PNG_BYTES: Final = 50_000
MAX_BARS: Final = 20
MAX_NAME: Final = 28
MAX_POINTS: Final = 400
_DPI: Final = 90
_BLUE: Final = "#2a6f97"
_RED: Final = "#b23a48"
_GREY: Final = "#8d99ae"
Floats = npt.NDArray[np.float64]


def as_markdown(png: bytes, title: str) -> dg.MetadataValue[Any]:
    """A picture as Dagster can show it: Markdown with a data URI."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def roc_png(scores: npt.ArrayLike, labels: npt.ArrayLike, *, auc: float, low: float, high: float) -> bytes:
    """The ROC curve, the interval of the area under it in the title."""
    false, true, _ = roc_curve(scores, labels)
    keep = np.unique(np.linspace(0, len(false) - 1, MAX_POINTS).astype(int))
    figure, axes = _canvas(f"ROC: AUC {auc:.3f} (95 % interval {low:.3f} to {high:.3f})")
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
    axes.plot(false[keep], true[keep], color=_BLUE, linewidth=1.5)
    _label(axes, "false positive rate", "true positive rate")
    return _png(figure)


def calibration_png(scores: npt.ArrayLike, labels: npt.ArrayLike) -> bytes:
    """Observed rate against mean score in bins of equal mass, with Wilson intervals."""
    table = reliability(scores, labels)
    columns = zip(table.mean_probability, table.observed, table.count, strict=True)
    names = ("mean_probability", "observed", "rows")
    bins = [dict(zip(names, column, strict=True)) for column in columns]
    return bins_png(bins, "Calibration: bins of equal mass, 95 % intervals")


def bins_png(bins: Sequence[Mapping[str, float]], title: str) -> bytes:
    """Measured calibration: bins with ``mean_probability``, ``observed`` and ``rows``, with Wilson intervals."""
    mean, observed = (np.array([one[name] for one in bins]) for name in ("mean_probability", "observed"))
    bounds = [wilson(round(one["observed"] * one["rows"]), int(one["rows"])) for one in bins]
    below = np.maximum(observed - np.array([bound.low for bound in bounds]), 0)
    above = np.maximum(np.array([bound.high for bound in bounds]) - observed, 0)
    figure, axes = _canvas(title)
    top = float(max(mean.max(), (observed + above).max())) * 1.05
    axes.plot([0, top], [0, top], color=_GREY, linewidth=1, linestyle="--")
    axes.errorbar(mean, observed, yerr=np.vstack([below, above]), fmt="o", color=_BLUE, markersize=4, capsize=2)
    _label(axes, "mean score", "observed rate")
    return _png(figure)


def scores_png(scores: npt.ArrayLike, labels: npt.ArrayLike, *, limit: float | None = None) -> bytes:
    """How the scores of both classes are distributed; a line at the decision's limit."""
    values, positive = np.asarray(scores, np.float64), np.asarray(labels) == 1
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high if high > low else low + 1.0, 41).tolist()
    figure, axes = _canvas("Scores of both classes")
    for chosen, colour, name in ((~positive, _BLUE, "0"), (positive, _RED, "1")):
        if chosen.any():
            axes.hist(values[chosen], bins=edges, density=True, alpha=0.55, color=colour, label=f"label {name}")
    if limit is not None:
        axes.axvline(limit, color="black", linewidth=1, linestyle=":", label=f"limit {limit:g}")
    axes.legend(frameon=False, fontsize=8)
    _label(axes, "score", "density")
    return _png(figure)


def psi_png(
    psi: Mapping[str, float], *, limit: float = 0.2, title: str = "PSI of the test part against the training part"
) -> bytes:
    """The features' population stability index, the largest first; a line at the limit of a drift."""
    ordered = sorted(psi.items(), key=lambda item: (-item[1], item[0]))[:MAX_BARS][::-1]
    figure, axes = _canvas(title)
    places = range(len(ordered))
    axes.barh(places, [value for _, value in ordered], color=_BLUE)
    axes.set_yticks(places, [name[:MAX_NAME] for name, _ in ordered])
    axes.axvline(limit, color=_RED, linewidth=1, linestyle=":")
    axes.tick_params(axis="y", labelsize=7)
    _label(axes, "PSI", "")
    return _png(figure)


def _canvas(title: str) -> tuple[Figure, Axes]:
    # Figure with its own Agg canvas: no global state of pyplot, safe in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    return figure, axes


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _png(figure: Figure) -> bytes:
    # Without a software tag the same numbers give the same bytes.
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    raw = buffer.getvalue()
    if len(raw) > MAX_PNG_BYTES:
        raise DataError(
            f"A picture has {len(raw)} bytes; {MAX_PNG_BYTES} are allowed.",
            field="plots",
            next_step="Draw fewer points: what is in Dagster's metadata stays in its database for ever.",
        )
    return raw
