"""Scores, intervals and comparisons: pure functions of arrays.

A number that cannot be had is `None` with a status (or `None` alone for an interval), never NaN
and never 0. Randomness comes from an explicit seed or generator.
"""

from autointerp.stats.calibration import (
    Calibration,
    IsotonicCalibration,
    LinearCalibration,
    PercentileCalibration,
    fit_calibration,
    fit_isotonic,
    fit_linear,
    fit_percentile,
    normalise_levels,
)
from autointerp.stats.cascade import Thresholds, thresholds
from autointerp.stats.classification import (
    ClassificationEstimate,
    auprc,
    auroc,
    balanced_accuracy,
    f1,
    weighted_auprc,
)
from autointerp.stats.comparison import CommonSupport, benjamini_hochberg, common_support
from autointerp.stats.correlation import (
    SimulationScore,
    lift,
    pooled_pearson,
    pooled_spearman,
    score_simulation,
)
from autointerp.stats.effect import (
    cliffs_delta,
    cliffs_delta_interval,
    hedges_g,
    standardised_mean,
)
from autointerp.stats.estimate import Estimate
from autointerp.stats.expected_value import ExpectedLevel, expected_value_from_logprobs
from autointerp.stats.intervals import (
    BinomialResult,
    Interval,
    Seed,
    bootstrap_difference,
    bootstrap_mean,
    exact_binomial,
    fisher_z_interval,
    share_interval,
)
from autointerp.stats.permutation import permutation_test, sign_flip_test
from autointerp.stats.prediction_powered import (
    Population,
    PredictionPoweredMean,
    prediction_powered_mean,
)
from autointerp.stats.rescaled_bootstrap import (
    Correlations,
    Resamples,
    bootstrap_lift,
    bootstrap_pooled_pearson,
    pearson_from_moments,
    rao_wu_resamples,
    stratified_bootstrap,
    window_moments,
)
from autointerp.stats.sequential import ConfidenceSequence

__all__ = [
    "BinomialResult",
    "Calibration",
    "ClassificationEstimate",
    "CommonSupport",
    "ConfidenceSequence",
    "Correlations",
    "Estimate",
    "ExpectedLevel",
    "Interval",
    "IsotonicCalibration",
    "LinearCalibration",
    "PercentileCalibration",
    "Population",
    "PredictionPoweredMean",
    "Resamples",
    "Seed",
    "SimulationScore",
    "Thresholds",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "benjamini_hochberg",
    "bootstrap_difference",
    "bootstrap_lift",
    "bootstrap_mean",
    "bootstrap_pooled_pearson",
    "cliffs_delta",
    "cliffs_delta_interval",
    "common_support",
    "exact_binomial",
    "expected_value_from_logprobs",
    "f1",
    "fisher_z_interval",
    "fit_calibration",
    "fit_isotonic",
    "fit_linear",
    "fit_percentile",
    "hedges_g",
    "lift",
    "normalise_levels",
    "pearson_from_moments",
    "permutation_test",
    "pooled_pearson",
    "pooled_spearman",
    "prediction_powered_mean",
    "rao_wu_resamples",
    "score_simulation",
    "share_interval",
    "sign_flip_test",
    "standardised_mean",
    "stratified_bootstrap",
    "thresholds",
    "weighted_auprc",
    "window_moments",
]
