import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from autointerp.records import Simulation, Status
from autointerp.stats import lift, pooled_pearson, pooled_spearman, score_simulation

SCORES = ("ev_correlation_score", "rsquared_score", "absolute_dev_explained_score")

# Multiples of 1/64: no two values differ by mere rounding.
vectors = arrays(
    np.float64, st.integers(3, 40), elements=st.integers(-640, 640).map(lambda k: k / 64)
)


def assert_matches(ours, theirs):
    for name in SCORES:
        value = theirs[name]
        if value is None or isinstance(value, str):
            assert getattr(ours, name) is None, name
        else:
            assert getattr(ours, name) == pytest.approx(value, abs=1e-9), name


def test_every_score_of_the_original_code_is_reproduced(reference):
    assert len(reference["scoring"]) == 14
    for entry in reference["scoring"]:
        sequences = entry["sequences"]
        true = [sequence["true"] for sequence in sequences]
        expected = [sequence["expected"] for sequence in sequences]
        assert_matches(score_simulation(true, expected), entry["aggregate"])
        for t, s, theirs in zip(true, expected, entry["per_sequence"], strict=True):
            assert_matches(score_simulation([t], [s]), theirs)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("constant_zero_simulation", Status.CONSTANT_PREDICTION),
        ("constant_nonzero_simulation", Status.CONSTANT_PREDICTION),
        ("all_zero_truth", Status.UNDEFINED_TRUTH),
        ("all_zero_truth_and_simulation", Status.UNDEFINED_TRUTH),
        ("no_sequences", Status.UNDEFINED_TRUTH),
        ("ragged_lengths", Status.OK),
        ("pooled_sign_differs_from_mean", Status.OK),
    ],
)
def test_degenerate_simulations_have_the_status_that_says_why(reference, name, status):
    (entry,) = [e for e in reference["scoring"] if e["name"] == name]
    true = [sequence["true"] for sequence in entry["sequences"]]
    expected = [sequence["expected"] for sequence in entry["sequences"]]
    assert score_simulation(true, expected).status is status


def test_pooling_is_not_averaging(reference):
    (entry,) = [e for e in reference["scoring"] if e["name"] == "pooled_sign_differs_from_mean"]
    true = [sequence["true"] for sequence in entry["sequences"]]
    expected = [sequence["expected"] for sequence in entry["sequences"]]
    singles = [pooled_pearson([t], [s]).value for t, s in zip(true, expected, strict=True)]
    assert singles == pytest.approx([-1, -1, -1])
    assert pooled_pearson(true, expected).value == pytest.approx(0.9758602836327124, abs=1e-9)


def test_constant_truth_is_undefined_not_zero():
    estimate = pooled_pearson([[2.0, 2.0], [2.0]], [[1.0, 2.0], [3.0]])
    assert estimate.value is None
    assert estimate.status is Status.UNDEFINED_TRUTH


def test_constant_prediction_keeps_the_scores_that_are_defined():
    score = score_simulation([[0.0, 1.0, 2.0]], [[1.0, 1.0, 1.0]])
    assert score.status is Status.CONSTANT_PREDICTION
    assert score.ev_correlation_score is None
    assert score.rsquared_score == pytest.approx(1 - 2 / 5)
    assert score.absolute_dev_explained_score == pytest.approx(1 - 2 / 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [0.1, 1 / 3, 7.3, 1e6])
def test_rounding_noise_around_a_constant_is_not_a_signal(dtype, level):
    rng = np.random.default_rng(0)
    noise = rng.choice([-1, 0, 1], 50) * np.finfo(dtype).eps
    nearly_constant = (dtype(level) * (1 + noise.astype(dtype))).astype(dtype)
    varying = rng.normal(size=50)
    assert pooled_pearson([nearly_constant], [varying]).status is Status.UNDEFINED_TRUTH
    assert pooled_pearson([varying], [nearly_constant]).status is Status.CONSTANT_PREDICTION
    assert pooled_spearman([varying], [nearly_constant]).status is Status.CONSTANT_PREDICTION


def test_small_but_real_variation_is_a_signal():
    t = np.arange(10.0)
    assert pooled_pearson([t], [5 + 1e-4 * t]).value == pytest.approx(1)
    assert pooled_pearson([1e-200 * t], [1e200 * t]).value == pytest.approx(1)


def test_lengths_that_differ_are_refused_with_the_sequence():
    with pytest.raises(ValueError, match="sequence 1 has 3 true activations, but 2 predicted"):
        score_simulation([[1.0], [1.0, 2.0, 3.0]], [[1.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="2 true sequences, but 1 predicted"):
        score_simulation([[1.0], [2.0]], [[1.0]])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_with_their_place(bad):
    with pytest.raises(ValueError, match=r"expected sequence 1 holds .* at position 2"):
        score_simulation([[1.0], [1.0, 2.0, 3.0]], [[1.0], [1.0, 2.0, bad]])
    with pytest.raises(ValueError, match=r"true sequence 0 holds .* at position 0"):
        pooled_spearman([[bad, 1.0]], [[1.0, 2.0]])


@pytest.mark.parametrize("snr", [0.1, 0.5, 1.0, 3.0])
def test_a_noisy_oracle_scores_what_its_noise_allows(snr):
    rng = np.random.default_rng(0)
    t = rng.gamma(0.5, size=(200, 1000))
    s = snr * (t - t.mean()) / t.std() + rng.normal(size=t.shape)
    r = pooled_pearson(list(t), list(s)).value
    assert r == pytest.approx(snr / math.sqrt(1 + snr**2), abs=0.01)


def test_shuffled_predictions_score_near_zero():
    rng = np.random.default_rng(0)
    t = rng.gamma(0.5, size=10_000)
    r = pooled_pearson([t], [rng.permutation(t)]).value
    assert r is not None
    assert abs(r) < 4 / math.sqrt(t.size)


def test_integer_weights_are_repetitions():
    rng = np.random.default_rng(0)
    t, s = list(rng.normal(size=(3, 8))), list(rng.normal(size=(3, 8)))
    weighted = pooled_pearson(t, s, weights=[1, 3, 2]).value
    repeated = pooled_pearson(
        [t[i] for i in (0, 1, 1, 1, 2, 2)], [s[i] for i in (0, 1, 1, 1, 2, 2)]
    )
    assert weighted == pytest.approx(repeated.value)


@given(vectors, st.data())
def test_pearson_and_spearman_agree_with_scipy(t, data):
    s = data.draw(arrays(np.float64, t.size, elements=st.integers(-9, 9).map(float)))
    assume(np.ptp(t) > 0 and np.ptp(s) > 0)
    assert pooled_pearson([t], [s]).value == pytest.approx(stats.pearsonr(t, s)[0], abs=1e-9)
    assert pooled_spearman([t], [s]).value == pytest.approx(stats.spearmanr(t, s)[0], abs=1e-9)


@given(vectors, st.data(), st.floats(0.01, 100), st.floats(-10, 10))
def test_correlation_is_unchanged_by_scale_and_shift_and_turned_by_sign(t, data, scale, shift):
    s = data.draw(arrays(np.float64, t.size, elements=st.integers(-9, 9).map(float)))
    assume(np.ptp(t) > 0 and np.ptp(s) > 0)
    r = pooled_pearson([t], [s]).value
    assert pooled_pearson([t], [scale * s + shift]).value == pytest.approx(r, abs=1e-9)
    assert pooled_pearson([t], [-s]).value == pytest.approx(-r, abs=1e-9)
    assert pooled_pearson([s], [t]).value == pytest.approx(r, abs=1e-9)


@given(vectors, st.data(), st.randoms(use_true_random=False))
def test_scores_depend_on_pairs_not_on_their_order_or_sequence(t, data, random):
    s = data.draw(arrays(np.float64, t.size, elements=st.integers(-9, 9).map(float)))
    order = list(range(t.size))
    random.shuffle(order)
    cut = random.randrange(t.size + 1)
    whole = score_simulation([t], [s])
    parts = score_simulation(
        [t[order][:cut], t[order][cut:]],
        [s[order][:cut], s[order][cut:]],
    )
    assert parts.status is whole.status
    for name in SCORES:
        assert getattr(parts, name) == (
            None if getattr(whole, name) is None else pytest.approx(getattr(whole, name), abs=1e-9)
        )


def test_an_affine_simulator_keeps_its_correlation_and_loses_r_squared():
    t = np.arange(20.0)
    score = score_simulation([t], [2 * t + 10])
    assert score.ev_correlation_score == pytest.approx(1)
    assert score.rsquared_score is not None
    assert score.rsquared_score < 0


def test_active_only_spearman_ignores_the_silent_tokens():
    true, expected = [[0.0, 0, 0, 1, 2, 3]], [[0.0, 0, 0, 3, 2, 1]]
    assert pooled_spearman(true, expected).value > 0.5
    assert pooled_spearman(true, expected, active_only=True).value == pytest.approx(-1)
    silent = pooled_spearman([[0.0, 0.0]], [[1.0, 2.0]], active_only=True)
    assert silent.status is Status.UNDEFINED_TRUTH


def test_lift_is_own_less_the_mean_of_donors_with_constants_counted_zero():
    t = [np.arange(6.0)]
    donors = [[-np.arange(6.0)], [np.ones(6)], [np.arange(6.0)]]
    assert lift(t, t, donors).value == pytest.approx(1)
    assert lift(t, t, donors[:2]).value == pytest.approx(1.5)
    assert lift(t, t, donors[:2]).status is Status.OK
    flagged = lift(t, [np.ones(6)], [t])
    assert flagged.value == pytest.approx(-1)
    assert flagged.status is Status.CONSTANT_PREDICTION
    assert lift([np.zeros(6)], t, [t]).status is Status.UNDEFINED_TRUTH
    assert lift([np.zeros(6)], t, [t]).value is None


def test_what_a_simulator_did_not_know_is_left_out():
    known = np.array([True, False, True, True])
    told = Simulation(np.array([1.0, 9.0, 2.0, 4.0], np.float32), known, np.ones(4, np.float32))
    found = score_simulation([[0.0, 0.0, 1.0, 2.0]], [told])
    assert found.n_unknown == 1
    plain = score_simulation([[0.0, 1.0, 2.0]], [[1.0, 2.0, 4.0]])
    assert found.ev_correlation_score == pytest.approx(plain.ev_correlation_score)
    with pytest.raises(ValueError, match="3 true activations, but 4"):
        score_simulation([[0.0, 1.0, 2.0]], [told])
    with pytest.raises(ValueError, match="put a single sequence into a list"):
        score_simulation([0.0, 1.0], [1.0, 2.0])
