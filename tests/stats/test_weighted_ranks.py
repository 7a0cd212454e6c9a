import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp.stats.weighted_ranks import weighted_spearman

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30)


@given(PAIRS)
def test_with_equal_weights_it_is_spearman_with_ties(pairs):
    t, s = np.array(pairs, float).T
    found = weighted_spearman(np.full((1, len(t)), 3.0), t, s)[0]
    if len(set(t)) == 1 or len(set(s)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(t, s).statistic, abs=1e-9)


@given(PAIRS, st.data())
def test_a_weight_is_worth_as_many_copies(pairs, data):
    t, s = np.array(pairs, float).T
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(t), max_size=len(t)))
    copies = np.repeat(np.arange(len(t)), counts)
    found = weighted_spearman(np.array([counts], float), t, s)[0]
    if not copies.size or len(set(t[copies])) == 1 or len(set(s[copies])) == 1:
        assert found == 0
    else:
        expected = stats.spearmanr(t[copies], s[copies]).statistic
        assert found == pytest.approx(expected, abs=1e-9)


def test_every_row_of_weights_has_its_own_value():
    t, s = np.array([0.0, 1, 2, 3]), np.array([0.0, 1, 3, 2])
    rows = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    assert weighted_spearman(rows, t, s) == pytest.approx([1, -1, 0.8])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="3 weights"):
        weighted_spearman([[1.0, 1, 1]], [1, 2], [1, 2])
