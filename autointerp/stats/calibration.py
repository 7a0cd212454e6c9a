"""Between raw activations and the levels that explainers and simulators speak.

    level(x) = min(K, floor(K · relu(x) / max)),   K = n_levels - 1

(Bills et al. 2023, "Explaining"), and back: a simulator's levels are mapped to activation units by
a line, by quantiles or by the best map that never falls, fitted on the `calibrate` split
("Simulating", calibration).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from autointerp.records import Status
from autointerp.stats.estimate import FloatArray, finite_vector, is_constant


def normalise_levels(
    activations: npt.ArrayLike, maximum: float, n_levels: int = 11
) -> npt.NDArray[np.int64]:
    """Levels from 0 to `n_levels` - 1 (equation above); all 0 where `maximum` is not positive.

    Args:
        activations: [n_tokens] raw activations.
        maximum: the activation that gets the highest level; anything above is clipped to it.
        n_levels: 11 for levels 0 to 10.

    Returns:
        [n_tokens] int64.

    Raises:
        ValueError: if an activation is NaN or infinite, or `n_levels` is below 2.
    """
    if n_levels < 2:
        raise ValueError(f"n_levels must be at least 2, got {n_levels}")
    x = finite_vector(activations, "activations")
    if maximum <= 0:
        return np.zeros(x.size, dtype=np.int64)
    top = n_levels - 1
    below = np.minimum(top, np.floor(top * np.clip(x, 0.0, maximum) / maximum))
    # K · max / max rounds to just under K for one maximum in fifty: without this the strongest
    # token of a unit would get level K - 1.
    return np.where(x >= maximum, top, below).astype(np.int64)


class Calibration(Protocol):
    """A fitted map from predicted levels to activation units."""

    @property
    def status(self) -> Status:
        """`ok`, or `constant_prediction` where the levels it was fitted on were all the same."""
        ...

    def __call__(self, levels: npt.ArrayLike) -> FloatArray:
        """Activations [n] for predicted levels [n]."""
        ...


@dataclass(frozen=True)
class LinearCalibration:
    """activation = slope · level + intercept."""

    slope: float
    """Activation units per level; below 0 where the simulator was anti-correlated."""

    intercept: float
    """Activation units at level 0."""

    status: Status
    """`constant_prediction` where all levels were the same: slope 0, intercept the mean truth."""

    def __call__(self, levels: npt.ArrayLike) -> FloatArray:
        """Activations [n] for predicted levels [n]."""
        return self.slope * finite_vector(levels, "levels") + self.intercept


@dataclass(frozen=True)
class PercentileCalibration:
    """The level of some quantile becomes the activation of the same quantile; clamped outside."""

    levels: FloatArray
    """[n_tokens] predicted levels, ascending."""

    activations: FloatArray
    """[n_tokens] true activations, ascending."""

    status: Status
    """`constant_prediction` where all levels were the same: the map is a step."""

    def __call__(self, levels: npt.ArrayLike) -> FloatArray:
        """Activations [n] for predicted levels [n]; at a tied level the highest of its activations.

        A simulator's many zeros are tied, and all become the largest activation among as many of
        the smallest: that is the original method, not a choice made here.
        """
        x = finite_vector(levels, "levels")
        after = np.searchsorted(self.levels, x, side="right")
        at_node = (after > 0) & (self.levels[np.maximum(after - 1, 0)] == x)
        between = np.interp(x, self.levels, self.activations)
        return np.where(at_node, self.activations[np.maximum(after - 1, 0)], between)


@dataclass(frozen=True)
class IsotonicCalibration:
    """The best map that never falls: a higher level is never a lower activation."""

    levels: FloatArray
    """[n] the levels that were seen, ascending, each once."""

    activations: FloatArray
    """[n] fitted activations, never falling."""

    status: Status
    """`constant_prediction` where all levels were the same: the map is their mean truth."""

    def __call__(self, levels: npt.ArrayLike) -> FloatArray:
        """Activations [n] for predicted levels [n]: linear in between, clamped outside."""
        return np.interp(finite_vector(levels, "levels"), self.levels, self.activations)


def fit_linear(levels: npt.ArrayLike, true: npt.ArrayLike) -> LinearCalibration | None:
    """Least squares true ~ slope · level + intercept.

    The correlation of calibrated predictions is unchanged for a positive slope, changes its sign
    for a negative one, and becomes undefined for slope 0.

    Args:
        levels: [n_tokens] predicted, of the `calibrate` split.
        true: [n_tokens] true activations of the same tokens.

    Returns:
        The fitted line, or `None` where there is no token to fit on.

    Raises:
        ValueError: if lengths differ or a value is NaN or infinite.
    """
    s, t = _fit_inputs(levels, true)
    if s.size == 0:
        return None
    if is_constant(s):
        return LinearCalibration(0.0, float(t.mean()), Status.CONSTANT_PREDICTION)
    deviation = s - s.mean()
    slope = float(np.dot(deviation, t - t.mean()) / np.dot(deviation, deviation))
    return LinearCalibration(slope, float(t.mean() - slope * s.mean()), Status.OK)


def fit_percentile(levels: npt.ArrayLike, true: npt.ArrayLike) -> PercentileCalibration | None:
    """Match sorted levels to sorted activations, linear in between.

    Args:
        levels: [n_tokens] predicted, of the `calibrate` split.
        true: [n_tokens] true activations of the same tokens.

    Returns:
        The fitted map, or `None` where there is no token to fit on.

    Raises:
        ValueError: if lengths differ or a value is NaN or infinite.
    """
    s, t = _fit_inputs(levels, true)
    if s.size == 0:
        return None
    status = Status.CONSTANT_PREDICTION if is_constant(s) else Status.OK
    return PercentileCalibration(np.sort(s), np.sort(t), status)


def fit_isotonic(levels: npt.ArrayLike, true: npt.ArrayLike) -> IsotonicCalibration | None:
    """Least squares over all maps that never fall (pool adjacent violators).

    Unlike a line it can change a correlation, and mends a simulator that is right in its order and
    wrong in its steps. A simulator that is wrong in its order gets a constant.

    Args:
        levels: [n_tokens] predicted, of the `calibrate` split.
        true: [n_tokens] true activations of the same tokens.

    Returns:
        The fitted map, or `None` where there is no token to fit on.

    Raises:
        ValueError: if lengths differ or a value is NaN or infinite.
    """
    from scipy.optimize import isotonic_regression

    s, t = _fit_inputs(levels, true)
    if s.size == 0:
        return None
    seen, group, counts = np.unique(s, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=t) / counts
    fitted = np.asarray(isotonic_regression(means, weights=counts).x, dtype=np.float64)
    status = Status.CONSTANT_PREDICTION if is_constant(s) else Status.OK
    return IsotonicCalibration(seen, fitted, status)


def fit_calibration(name: str, levels: npt.ArrayLike, true: npt.ArrayLike) -> Calibration | None:
    """Fit the calibration called `name`: `linear`, `percentile` or `isotonic`.

    Returns:
        The fitted map, or `None` where there is no token to fit on.

    Raises:
        ValueError: for another name; otherwise as the fits.
    """
    fits = {"linear": fit_linear, "percentile": fit_percentile, "isotonic": fit_isotonic}
    if name not in fits:
        raise ValueError(f"calibration must be one of {', '.join(fits)}, not {name!r}")
    return fits[name](levels, true)


def _fit_inputs(levels: npt.ArrayLike, true: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    s, t = finite_vector(levels, "levels"), finite_vector(true, "true")
    if s.size != t.size:
        raise ValueError(f"{s.size} levels, but {t.size} true activations")
    return s, t
