"""Reason codes: what spoke against a person, in the declared words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ml_platform.core.errors import DataError
from ml_platform.training.trainer import Scores

__all__ = ["MOST_REASONS", "reason_codes", "reason_sums"]

MOST_REASONS: Final = 4  # Regulation B, 12 CFR 1002.9, commentary 9(b)(2): more than four are not likely to help


def reason_sums(
    contributions: Scores, features: Sequence[str], reasons: Mapping[str, str]
) -> tuple[tuple[str, ...], Scores]:
    """The distinct reasons, in the order of the features, and each row's contribution of each: float64 [n, r].

    Args:
        contributions: float64 [n, f + 1] towards the adverse outcome; the last column, the baseline, explains nobody.
        features: names of the f features in contract order.
        reasons: the text of each feature.

    Raises:
        DataError: the columns are not those of the features.
    """
    if contributions.ndim != 2 or contributions.shape[1] != len(features) + 1:
        raise DataError(
            "Contributions are not one column a feature and the baseline.",
            field="contributions",
            next_step="Explain the rows with the version that decided.",
        )
    texts = tuple(dict.fromkeys(reasons[name] for name in features))
    place = {text: index for index, text in enumerate(texts)}
    sums = np.zeros((contributions.shape[0], len(texts)))
    for column, name in enumerate(features):  # one by one, so that the order of addition is fixed
        sums[:, place[reasons[name]]] += contributions[:, column]
    return texts, sums


def reason_codes(
    contributions: Scores, features: Sequence[str], reasons: Mapping[str, str], *, most: int = MOST_REASONS
) -> list[tuple[str, ...]]:
    """At most ``most`` reasons of each row, the strongest first; only those that speak against the row.

    Contributions of features that share a text are added first. Equal sums stand in the order of the model's features.

    Raises:
        DataError: the columns are not those of the features.
    """
    texts, sums = reason_sums(contributions, features, reasons)
    order = np.argsort(-sums, axis=1, kind="stable")[:, :most]
    strongest = np.take_along_axis(sums, order, axis=1)
    counts = np.count_nonzero(strongest > 0, axis=1)
    return [
        tuple(texts[index] for index in row[:count]) for row, count in zip(order.tolist(), counts.tolist(), strict=True)
    ]
