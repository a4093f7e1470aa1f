"""Statistics with stated uncertainty: pure functions over numpy arrays, deterministic for a given seed."""

from __future__ import annotations

from ml_platform.stats.auc import auc, auc_interval, paired_auc_difference
from ml_platform.stats.bootstrap import bootstrap_interval
from ml_platform.stats.brier import brier, brier_skill, brier_skill_interval
from ml_platform.stats.calibration import Reliability, ece_interval, equal_mass_ece, reliability
from ml_platform.stats.chi_square import chi_square_quantile
from ml_platform.stats.differences import interval_difference, interval_ratio
from ml_platform.stats.divergence import (
    BinCounts,
    bin_counts,
    js_divergence,
    kl_divergence,
    psi,
    psi_noise,
    quantile_edges,
)
from ml_platform.stats.interval import Interval, normal_quantile, wilson
from ml_platform.stats.quantiles import quantile_interval
from ml_platform.stats.rates import rate_difference, rate_ratio
from ml_platform.stats.recalibration import calibration_intercept, calibration_slope
from ml_platform.stats.roc import roc_curve

__all__ = [
    "BinCounts",
    "Interval",
    "Reliability",
    "auc",
    "auc_interval",
    "bin_counts",
    "bootstrap_interval",
    "brier",
    "brier_skill",
    "brier_skill_interval",
    "calibration_intercept",
    "calibration_slope",
    "chi_square_quantile",
    "ece_interval",
    "equal_mass_ece",
    "interval_difference",
    "interval_ratio",
    "js_divergence",
    "kl_divergence",
    "normal_quantile",
    "paired_auc_difference",
    "psi",
    "psi_noise",
    "quantile_edges",
    "quantile_interval",
    "rate_difference",
    "rate_ratio",
    "reliability",
    "roc_curve",
    "wilson",
]
