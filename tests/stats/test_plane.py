"""Rows on a plane, against scikit-learn's principal components."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from autointerp.stats import plane
from autointerp.stats.plane import principal_plane


def rows_of(n: int, d: int) -> np.ndarray:
    generator = np.random.default_rng(n)
    return generator.normal(size=(n, d)) * np.linspace(5, 1, d) + 3


@pytest.mark.parametrize(("n", "d"), [(60, 9), (7, 30), (2, 5)])
def test_places_are_scikit_learns_up_to_the_sign_of_an_axis(n: int, d: int) -> None:
    rows = rows_of(n, d)
    places, share = principal_plane(rows)
    theirs = PCA(2).fit(rows)
    np.testing.assert_allclose(np.abs(places), np.abs(theirs.transform(rows)), atol=1e-7)
    assert share == pytest.approx(theirs.explained_variance_ratio_.sum())


def test_the_largest_entry_of_an_axis_is_positive() -> None:
    rows = np.outer([-1.0, 0.0, 1.0], [0.1, -3.0, 1.0])
    places, share = principal_plane(rows)
    # The axis is (-0.1, 3, -1) / its length: the first row lies at its positive end.
    np.testing.assert_allclose(places[:, 0], np.hypot(np.hypot(0.1, 3), 1) * np.array([1, 0, -1]))
    assert share == pytest.approx(1)


def test_components_that_there_are_not_give_zeros() -> None:
    places, share = principal_plane(np.array([[1.0], [2.0], [6.0]]))
    np.testing.assert_allclose(places, [[-2, 0], [-1, 0], [3, 0]])
    assert share == 1
    places, share = principal_plane(np.ones((4, 3)))
    assert places.shape == (4, 2) and not places.any() and share == 0


def test_of_many_rows_evenly_spread_ones_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(300, 6)
    whole, _ = principal_plane(rows)
    monkeypatch.setattr(plane, "MOST_FITTED", 100)
    some, _ = principal_plane(rows)
    fitted = PCA(2).fit(rows[::3])
    np.testing.assert_allclose(np.abs(some), np.abs(fitted.transform(rows)), atol=1e-7)
    assert np.corrcoef(np.abs(some[:, 0]), np.abs(whole[:, 0]))[0, 1] > 0.9
