"""How well predicted activations follow the true ones.

    ev_correlation_score         = pearson(t, s)
    rsquared_score               = 1 - mean((t - s)^2) / mean(t^2)
    absolute_dev_explained_score = 1 - mean(|t - s|)   / mean(|t|)

over all tokens of all sequences together, never a mean over sequences (Bills et al. 2023,
"Scoring"; t true and not clipped, s predicted). The last two have uncentred denominators and
compare units: without calibration (0 to 10 against raw activations) they mean little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.records import Simulation, Status
from autointerp.stats.estimate import (
    Estimate,
    FloatArray,
    is_constant,
    paired_sequences,
    window_weights,
)


@dataclass(frozen=True)
class SimulationScore:
    """The three scores of one simulation, over all tokens of all its sequences."""

    ev_correlation_score: float | None
    """Pearson correlation in [-1, 1]; `None` unless `status` is `ok`."""

    rsquared_score: float | None
    """1 - mean squared error / mean square of the truth; `None` where the truth is all zero."""

    absolute_dev_explained_score: float | None
    """1 - mean absolute error / mean magnitude of the truth; `None` where the truth is all zero."""

    status: Status
    """`undefined_truth` (constant or empty truth), `constant_prediction` or `ok`."""

    n_unknown: int = 0
    """Tokens left out because a simulator did not know them."""


def score_simulation(
    true: Sequence[npt.ArrayLike], expected: Sequence[npt.ArrayLike | Simulation]
) -> SimulationScore:
    """Score predicted against true activations (Bills et al. 2023; equations above).

    Args:
        true: one vector [n_tokens_i] of true activations per sequence, raw.
        expected: one vector [n_tokens_i] of predicted activations per sequence, or what a simulator
            said of it: tokens that it did not know are then left out.

    Raises:
        ValueError: if lengths differ in a sequence, or a value is NaN or infinite.
    """
    known = [one.known if isinstance(one, Simulation) else None for one in expected]
    levels = [one.expected if isinstance(one, Simulation) else one for one in expected]
    truths, predictions = paired_sequences(true, levels)
    t, s = _pool(_where(known, truths), _where(known, predictions))
    correlation = _pearson(t, s, np.ones(t.size))
    return SimulationScore(
        ev_correlation_score=correlation.value,
        rsquared_score=_one_minus_ratio((t - s) ** 2, t**2),
        absolute_dev_explained_score=_one_minus_ratio(np.abs(t - s), np.abs(t)),
        status=correlation.status,
        n_unknown=sum(int((~mask).sum()) for mask in known if mask is not None),
    )


def _where(
    known: Sequence[npt.NDArray[np.bool_] | None], values: Sequence[FloatArray]
) -> list[FloatArray]:
    return [v if mask is None else v[mask] for mask, v in zip(known, values, strict=True)]


def pooled_pearson(
    true: Sequence[npt.ArrayLike],
    expected: Sequence[npt.ArrayLike],
    *,
    weights: npt.ArrayLike | None = None,
) -> Estimate:
    """Pearson correlation over all tokens of all sequences (Bills et al. 2023, "Scoring").

    r = sum_i w_i (t_i - mean_w t)(s_i - mean_w s) / sqrt(sum_i w_i (t_i - mean_w t)^2 ·
    sum_i w_i (s_i - mean_w s)^2), i over tokens, w_i the weight of the token's sequence.

    Args:
        true: one vector [n_tokens_i] per sequence.
        expected: one vector [n_tokens_i] per sequence.
        weights: [n_sequences] design weights (1 / inclusion probability); all 1 where `None`.

    Returns:
        r in [-1, 1], or `None` with `undefined_truth` (constant or empty) or
        `constant_prediction`.

    Raises:
        ValueError: if lengths differ in a sequence, or a value is NaN or infinite.
    """
    t, s = _pool(true, expected)
    per_sequence = window_weights(weights, len(true))
    lengths = [np.size(sequence) for sequence in true]
    return _pearson(t, s, np.repeat(per_sequence, lengths))


def pooled_spearman(
    true: Sequence[npt.ArrayLike],
    expected: Sequence[npt.ArrayLike],
    *,
    active_only: bool = False,
) -> Estimate:
    """Spearman correlation over all tokens: the Pearson correlation of mid-ranks.

    Args:
        true: one vector [n_tokens_i] per sequence.
        expected: one vector [n_tokens_i] per sequence.
        active_only: keep only tokens with a positive true activation. Over all tokens a sparse
            unit's correlation is mostly on against off; this asks about intensity.

    Returns:
        rho in [-1, 1], or `None` with `undefined_truth` or `constant_prediction`.

    Raises:
        ValueError: if lengths differ in a sequence, or a value is NaN or infinite.
    """
    t, s = _pool(true, expected)
    if active_only:
        t, s = t[t > 0], s[t > 0]
    status = _status(t, s)
    if status is not Status.OK:
        return Estimate(None, status)
    return _pearson(stats.rankdata(t), stats.rankdata(s), np.ones(t.size))


def lift(
    true: Sequence[npt.ArrayLike],
    expected_own: Sequence[npt.ArrayLike],
    expected_donors: Sequence[Sequence[npt.ArrayLike]],
    *,
    weights: npt.ArrayLike | None = None,
) -> Estimate:
    """r(own explanation) - mean over donors of r(donor's explanation), on the same unit.

    r is `pooled_pearson`; a constant prediction counts 0, so that an explanation which predicts
    nothing neither wins nor is left out.

    Args:
        true: one vector [n_tokens_i] per sequence.
        expected_own: predictions under the unit's own explanation, as `true`.
        expected_donors: per donor, predictions under another unit's explanation, as `true`.
        weights: [n_sequences] design weights; all 1 where `None`.

    Returns:
        The lift in [-2, 2], flagged `constant_prediction` where the own prediction is constant;
        `None` with `undefined_truth` where the truth is.

    Raises:
        ValueError: if there is no donor, lengths differ, or a value is NaN or infinite.
    """
    if not expected_donors:
        raise ValueError("lift needs the predictions of at least one donor, got none")
    own = pooled_pearson(true, expected_own, weights=weights)
    if own.status is Status.UNDEFINED_TRUTH:
        return own
    donors = [
        pooled_pearson(true, donor, weights=weights).value or 0.0 for donor in expected_donors
    ]
    return Estimate((own.value or 0.0) - sum(donors) / len(donors), own.status)


def _pool(
    true: Sequence[npt.ArrayLike], expected: Sequence[npt.ArrayLike]
) -> tuple[FloatArray, FloatArray]:
    truths, predictions = paired_sequences(true, expected)
    if not truths:
        return np.empty(0), np.empty(0)
    return np.concatenate(truths), np.concatenate(predictions)


def _status(t: FloatArray, s: FloatArray) -> Status:
    if is_constant(t):
        return Status.UNDEFINED_TRUTH
    if is_constant(s):
        return Status.CONSTANT_PREDICTION
    return Status.OK


def _pearson(t: FloatArray, s: FloatArray, w: FloatArray) -> Estimate:
    status = _status(t, s)
    if status is not Status.OK:
        return Estimate(None, status)
    dt, ds = _standard_scale(t, w), _standard_scale(s, w)
    r = np.dot(w, dt * ds) / math.sqrt(np.dot(w, dt * dt) * np.dot(w, ds * ds))
    return Estimate(float(np.clip(r, -1.0, 1.0)), status)


def _standard_scale(x: FloatArray, w: FloatArray) -> FloatArray:
    """Deviations from the mean over the largest: their squares neither overflow nor underflow."""
    x = x / np.abs(x).max()
    deviation = x - np.average(x, weights=w)
    return deviation / np.abs(deviation).max()


def _one_minus_ratio(error: FloatArray, truth: FloatArray) -> float | None:
    if not truth.any():
        return None
    ratio = float(error.mean()) / float(truth.mean())
    return 1.0 - ratio if math.isfinite(ratio) else None
