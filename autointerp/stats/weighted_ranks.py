"""Spearman correlation of weighted items, for many sets of weights at once."""

import numpy as np
import numpy.typing as npt

from autointerp.stats.estimate import FloatArray, finite_vector


def weighted_spearman(
    weights: npt.ArrayLike, true: npt.ArrayLike, predicted: npt.ArrayLike
) -> FloatArray:
    """Pearson correlation of weighted mid-ranks.

    R(x_i) = Σ_j w_j [x_j < x_i] + Σ_j w_j [x_j = x_i] / 2, and the correlation weighted by w too: a
    weight of 2 is two copies. With equal weights it is Spearman's coefficient with ties.

    Args:
        weights: [n_replicates, n_items] >= 0.
        true: [n_items].
        predicted: [n_items].

    Returns:
        [n_replicates]; 0 where either does not vary among items with weight.

    Raises:
        ValueError: if lengths differ or a value is NaN or infinite.
    """
    t, s = finite_vector(true, "true"), finite_vector(predicted, "predicted")
    w = np.atleast_2d(np.asarray(weights, np.float64))
    if not t.size == s.size == w.shape[1]:
        raise ValueError(f"{t.size} true values, {s.size} predicted ones, {w.shape[1]} weights")
    total = w.sum(1, keepdims=True)
    shares = np.divide(w, total, out=np.zeros_like(w), where=total > 0)
    x, y = _mid_ranks(shares, t) - 0.5, _mid_ranks(shares, s) - 0.5
    # Mid-ranks of shares have mean 1/2 whatever the weights.
    product = (shares * x * y).sum(1)
    scale = np.sqrt((shares * x * x).sum(1) * (shares * y * y).sum(1))
    found = np.divide(product, scale, out=np.zeros_like(product), where=scale > 1e-12)
    return np.clip(found, -1.0, 1.0)


def _mid_ranks(shares: FloatArray, values: FloatArray) -> FloatArray:
    """[n_replicates, n_items] share of the weight below each item, and half of that tied to it."""
    _, group = np.unique(values, return_inverse=True)
    n_groups = int(group.max()) + 1
    masses = np.stack([np.bincount(group, weights=row, minlength=n_groups) for row in shares])
    below = np.cumsum(masses, axis=1) - masses
    return (below + masses / 2)[:, group]
