"""Comparing two groups of units: like with like, and with multiplicity in mind.

Features and neurons fire at different rates, and rate alone moves scores. Groups are therefore
compared where their firing rates overlap, and the share of units that overlap is reported.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.stats.estimate import FloatArray, finite_vector

IndexArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CommonSupport:
    """Units of two groups in the bins of log firing rate where both groups have some."""

    index_a: IndexArray
    """[n_matched_a] positions in group a of matched units, ascending."""

    index_b: IndexArray
    """[n_matched_b] positions in group b of matched units, ascending."""

    weights_a: FloatArray
    """[n_matched_a] min(n_a, n_b) / n_a of the unit's bin; weighted, both groups have the same
    distribution over bins."""

    weights_b: FloatArray
    """[n_matched_b] min(n_a, n_b) / n_b of the unit's bin."""

    bins_a: IndexArray
    """[n_matched_a] bin of each matched unit: floor(log10(rate) · bins per decade)."""

    bins_b: IndexArray
    """[n_matched_b] as `bins_a`."""

    share_a: float
    """Share in [0, 1] of all units of group a, dead ones included, that are matched."""

    share_b: float
    """Share in [0, 1] of all units of group b that are matched."""

    @property
    def share(self) -> float:
        """The smaller of the two shares: what a verdict about both groups can rest on."""
        return min(self.share_a, self.share_b)


def common_support(
    rate_a: npt.ArrayLike, rate_b: npt.ArrayLike, *, bins_per_decade: int = 4
) -> CommonSupport:
    """Match two groups of units on log firing rate, by bins with shared edges.

    A unit is matched where the other group has a unit in its bin. Bin edges are powers
    10^(k / bins_per_decade), so that they do not depend on the data. A rate of 0 is in no bin.

    Args:
        rate_a: [n_a] share of tokens on which each unit of group a fires.
        rate_b: [n_b] the same for group b.
        bins_per_decade: bins in a factor of ten.

    Raises:
        ValueError: if a rate is not in [0, 1], or `bins_per_decade` is below 1.
    """
    if bins_per_decade < 1:
        raise ValueError(f"bins_per_decade must be at least 1, got {bins_per_decade}")
    alive_a, bins_a = _rate_bins(finite_vector(rate_a, "rate_a"), "rate_a", bins_per_decade)
    alive_b, bins_b = _rate_bins(finite_vector(rate_b, "rate_b"), "rate_b", bins_per_decade)
    shared = np.intersect1d(bins_a, bins_b)
    counts_a = np.array([(bins_a == k).sum() for k in shared])
    counts_b = np.array([(bins_b == k).sum() for k in shared])
    smaller = np.minimum(counts_a, counts_b)
    keep_a, keep_b = np.isin(bins_a, shared), np.isin(bins_b, shared)
    place_a = np.searchsorted(shared, bins_a[keep_a])
    place_b = np.searchsorted(shared, bins_b[keep_b])
    return CommonSupport(
        index_a=alive_a[keep_a],
        index_b=alive_b[keep_b],
        weights_a=(smaller / counts_a)[place_a],
        weights_b=(smaller / counts_b)[place_b],
        bins_a=bins_a[keep_a],
        bins_b=bins_b[keep_b],
        share_a=_share(keep_a, np.size(rate_a)),
        share_b=_share(keep_b, np.size(rate_b)),
    )


def benjamini_hochberg(p_values: npt.ArrayLike) -> FloatArray:
    """Adjusted p-values (Benjamini & Hochberg 1995): min over j >= i of p_(j) n / j, at most 1.

    Calling those below q discoveries keeps the expected share of false ones below q.

    Args:
        p_values: [n_tests]; tests that were not run must be left out by the caller.

    Returns:
        [n_tests] in the order given.

    Raises:
        ValueError: if a p-value is not in [0, 1].
    """
    p = finite_vector(p_values, "p_values")
    if p.size == 0:
        return p
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"p-values must lie in [0, 1], got {p.min()} to {p.max()}")
    return np.asarray(stats.false_discovery_control(p, method="bh"), dtype=np.float64)


def _rate_bins(rates: FloatArray, name: str, bins_per_decade: int) -> tuple[IndexArray, IndexArray]:
    """Positions of units that fire at all, and their bins."""
    if rates.size and (rates.min() < 0 or rates.max() > 1):
        raise ValueError(f"{name} must lie in [0, 1], got {rates.min()} to {rates.max()}")
    alive = np.flatnonzero(rates > 0)
    return alive, np.floor(np.log10(rates[alive]) * bins_per_decade).astype(np.int64)


def _share(keep: npt.NDArray[np.bool_], n_units: int) -> float:
    return float(keep.sum()) / n_units if n_units else 0.0
