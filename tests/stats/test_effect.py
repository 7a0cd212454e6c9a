import math

import numpy as np
import pytest

from autointerp.stats import cliffs_delta, cliffs_delta_interval, hedges_g, standardised_mean


def test_the_variance_of_delta_is_the_one_of_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 7).astype(float), rng.integers(1, 7, 9).astype(float)
    signs = np.sign(x[:, None] - y[None, :])
    d, n, m = signs.mean(), len(x), len(y)
    variance = (
        m**2 * ((signs.mean(1) - d) ** 2).sum()
        + n**2 * ((signs.mean(0) - d) ** 2).sum()
        - ((signs - d) ** 2).sum()
    ) / (n * m * (n - 1) * (m - 1))
    found = cliffs_delta_interval(x, y)
    assert found is not None
    t = 2.1447866879169273  # Student's quantile, 14 degrees of freedom
    reach = t * math.sqrt(variance)
    scale = 1 - d * d + reach * reach
    root = reach * math.sqrt((1 - d * d) ** 2 + reach * reach)
    assert (found.low, found.high) == pytest.approx(
        ((d - d**3 - root) / scale, (d - d**3 + root) / scale)
    )


def test_the_interval_of_delta_turns_with_the_groups_and_stays_in_range():
    a, b = [1.0, 2.0, 3.0, 4.0, 9.0], [0.5, 1.5, 2.5, 3.5]
    forth, back = cliffs_delta_interval(a, b), cliffs_delta_interval(b, a)
    assert forth is not None and back is not None
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert -1 <= forth.low <= (cliffs_delta(a, b) or 0) <= forth.high <= 1


def test_complete_separation_has_an_interval_of_some_width():
    found = cliffs_delta_interval([5.0, 6, 7, 8, 9, 10], [1.0, 2, 3, 4, 0])
    assert found is not None
    z2 = 1.959963984540054**2
    assert (found.low, found.high) == pytest.approx(((5 - z2) / (5 + z2), 1.0))
    assert cliffs_delta_interval([1.0], [2.0, 3.0]) is None


def test_standardised_differences_have_their_closed_forms():
    assert standardised_mean([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert standardised_mean([1.0, 1.0]) is None
    g = hedges_g([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    assert g == pytest.approx((1 - 3 / (4 * 6 - 9)) * 1.0)
    assert hedges_g([1.0, 1.0], [1.0, 1.0]) is None
