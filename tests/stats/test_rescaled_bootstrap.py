import math

import numpy as np
import pytest

from autointerp.stats import (
    bootstrap_lift,
    bootstrap_pooled_pearson,
    fisher_z_interval,
    lift,
    pearson_from_moments,
    pooled_pearson,
    rao_wu_resamples,
    stratified_bootstrap,
    window_moments,
)

from .zero_inflated import draw, estimands

SMALL_DESIGN = [2, 2, 2, 2, 2, 2]
DESIGN = [2] * 10 + [10]


def test_replicate_variance_of_a_mean_is_the_stratified_one():
    rng = np.random.default_rng(0)
    sizes = [2, 3, 5, 8]
    values = rng.normal(size=sum(sizes)) + np.repeat([0.0, 5.0, -3.0, 9.0], sizes)
    strata = np.repeat(range(4), sizes).tolist()
    resamples = rao_wu_resamples(strata, range(values.size), n_replicates=40_000, seed=1)
    assert resamples is not None
    totals = resamples.multipliers @ values
    groups = np.split(values, np.cumsum(sizes)[:-1])
    expected = sum(n * group.var(ddof=1) for n, group in zip(sizes, groups, strict=True))
    assert totals.var() == pytest.approx(expected, rel=0.03)
    assert totals.mean() == pytest.approx(values.sum(), abs=4 * math.sqrt(expected / 40_000))


def test_multipliers_of_a_stratum_always_sum_to_its_size():
    resamples = rao_wu_resamples([0, 0, 0, 1, 1], list("abcde"), n_replicates=50, seed=0)
    assert resamples is not None
    assert np.allclose(resamples.multipliers[:, :3].sum(axis=1), 3)
    assert np.allclose(resamples.multipliers[:, 3:].sum(axis=1), 2)
    assert resamples.degrees_of_freedom == 3


def test_given_probabilities_the_variance_is_that_of_drawing_without_replacement():
    rng = np.random.default_rng(0)
    sizes, shares = [3, 5, 8], [0.5, 0.2, 0.9]
    values = rng.normal(size=sum(sizes))
    strata, f = np.repeat(range(3), sizes).tolist(), np.repeat(shares, sizes)
    resamples = rao_wu_resamples(
        strata, range(values.size), probabilities=f, n_replicates=40_000, seed=1
    )
    assert resamples is not None
    groups = np.split(values, np.cumsum(sizes)[:-1])
    expected = sum(
        (1 - share) * n * group.var(ddof=1)
        for n, share, group in zip(sizes, shares, groups, strict=True)
    )
    assert (resamples.multipliers @ values).var() == pytest.approx(expected, rel=0.03)


def test_windows_taken_for_certain_are_in_every_replicate():
    resamples = rao_wu_resamples(
        ["top", "top", "low", "low", "low"],
        list("abacd"),
        probabilities=[1, 1, 0.1, 0.1, 0.1],
        n_replicates=200,
        seed=0,
    )
    assert resamples is not None
    assert (resamples.multipliers[:, :2] == 1).all()
    assert (resamples.multipliers[:, 2] != 1).any()  # its document is drawn, elsewhere
    assert resamples.degrees_of_freedom == 3 - 1


def test_where_every_window_was_taken_nothing_is_open():
    true, expected = [[0.0, 1, 2], [3, 1, 0]], [[0.0, 1, 1], [2, 1, 0]]
    given = {"probabilities": [1.0, 1.0], "seed": 0}
    assert bootstrap_pooled_pearson(true, expected, [0, 0], ["a", "b"], **given) is None


def test_probabilities_of_zero_change_nothing_at_all():
    sample = draw(np.random.default_rng(0), DESIGN, ["patchy"])
    arguments = (sample.true, sample.expected[0], sample.strata, sample.clusters)
    zeros = np.zeros(len(sample.true))
    plain = bootstrap_pooled_pearson(*arguments, seed=7)
    assert bootstrap_pooled_pearson(*arguments, probabilities=zeros, seed=7) == plain


def test_an_interval_of_the_corpus_is_narrower_than_one_of_text_like_it():
    sample = draw(np.random.default_rng(0), DESIGN, ["good", "unrelated"])
    arguments = (sample.true, *sample.expected[:1], sample.strata, sample.clusters)
    half = np.full(len(sample.true), 0.5)
    text = bootstrap_pooled_pearson(*arguments, seed=7)
    corpus = bootstrap_pooled_pearson(*arguments, probabilities=half, seed=7)
    assert text and corpus
    ratio = math.atanh(corpus.high) - math.atanh(corpus.low)
    ratio /= math.atanh(text.high) - math.atanh(text.low)
    assert ratio == pytest.approx(math.sqrt(0.5), rel=0.1)


def test_windows_of_one_document_are_drawn_together_even_across_strata():
    resamples = rao_wu_resamples(
        ["top", "top", "low", "low", "low"], list("abacd"), n_replicates=200, seed=0
    )
    assert resamples is not None
    assert np.array_equal(resamples.multipliers[:, 0], resamples.multipliers[:, 2])


def test_a_lone_stratum_joins_the_next_one_and_the_last_one_the_one_before():
    resamples = rao_wu_resamples([0, 1, 1, 2, 2, 3], list("abcdef"), n_replicates=50, seed=0)
    assert resamples is not None
    assert resamples.degrees_of_freedom == 6 - 2
    assert np.allclose(resamples.multipliers[:, :3].sum(axis=1), 3)
    assert np.allclose(resamples.multipliers[:, 3:].sum(axis=1), 3)


def test_one_document_gives_no_interval():
    true, expected = [[0.0, 1, 2], [3, 1, 0]], [[0.0, 1, 1], [2, 1, 0]]
    assert bootstrap_pooled_pearson(true, expected, [0, 1], ["a", "a"], seed=0) is None
    assert bootstrap_lift(true, expected, [expected], [0, 1], ["a", "a"], seed=0) is None
    assert bootstrap_pooled_pearson([], [], [], [], seed=0) is None


def test_constant_truth_or_prediction_gives_no_interval_of_r():
    varying, constant = [[0.0, 1, 2], [3, 1, 0]], [[2.0, 2, 2], [2, 2, 2]]
    assert bootstrap_pooled_pearson(constant, varying, [0, 0], ["a", "b"], seed=0) is None
    assert bootstrap_pooled_pearson(varying, constant, [0, 0], ["a", "b"], seed=0) is None


def test_moments_give_the_pooled_correlation_of_any_weights():
    rng = np.random.default_rng(0)
    sample = draw(rng, DESIGN, ["patchy"])
    moments = window_moments(sample.true, sample.expected[0])
    weights = rng.uniform(0.5, 3, size=(20, len(sample.true)))
    r, defined = pearson_from_moments(weights @ moments)
    assert defined.all()
    for row, value in zip(weights, r, strict=True):
        exact = pooled_pearson(sample.true, sample.expected[0], weights=row).value
        assert value == pytest.approx(exact, abs=1e-12)


def test_moments_survive_a_large_common_offset():
    rng = np.random.default_rng(0)
    t = [1e4 + rng.normal(size=50) for _ in range(4)]
    s = [x + rng.normal(size=50) for x in t]
    r, _ = pearson_from_moments(window_moments(t, s).sum(axis=0))
    assert float(r) == pytest.approx(np.corrcoef(np.concatenate(t), np.concatenate(s))[0, 1])


def test_moments_say_where_the_truth_is_constant():
    t = [np.zeros(5), np.arange(5.0)]
    correlations = pearson_from_moments(window_moments(t, [np.arange(5.0)] * 2))
    assert correlations.defined.tolist() == [False, True]
    assert correlations.values.tolist() == [0.0, pytest.approx(1.0)]


def test_interval_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone():
    sample = draw(np.random.default_rng(0), DESIGN, ["patchy"])
    arguments = (sample.true, sample.expected[0], sample.strata, sample.clusters)
    state = np.random.get_state()[1].tolist()
    first = bootstrap_pooled_pearson(*arguments, seed=7)
    assert first == bootstrap_pooled_pearson(*arguments, seed=np.random.default_rng(7))
    assert first != bootstrap_pooled_pearson(*arguments, seed=8)
    assert state == np.random.get_state()[1].tolist()


def test_interval_of_r_is_unchanged_by_scale_and_mirrored_by_sign():
    sample = draw(np.random.default_rng(0), DESIGN, ["patchy"])
    t, s = sample.true, sample.expected[0]
    plain = bootstrap_pooled_pearson(t, s, sample.strata, sample.clusters, seed=1)
    scaled = bootstrap_pooled_pearson(
        t, [3 * x + 2 for x in s], sample.strata, sample.clusters, seed=1
    )
    mirrored = bootstrap_pooled_pearson(t, [-x for x in s], sample.strata, sample.clusters, seed=1)
    assert plain and scaled and mirrored
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high))
    assert (mirrored.low, mirrored.high) == pytest.approx((-plain.high, -plain.low))


def test_for_many_independent_normal_windows_it_is_the_fisher_interval():
    rng = np.random.default_rng(0)
    t = rng.normal(size=(3000, 1))
    s = 0.6 * t + 0.8 * rng.normal(size=t.shape)
    r = pooled_pearson(t, s).value
    assert r is not None
    ours = bootstrap_pooled_pearson(t, s, [0] * 3000, range(3000), seed=0)
    fisher = fisher_z_interval(r, 3000)
    assert ours and fisher
    assert (ours.low, ours.high) == pytest.approx((fisher.low, fisher.high), abs=0.004)


def test_documents_of_copied_windows_widen_the_interval():
    sample = draw(np.random.default_rng(0), [20, 1], ["patchy"])
    true, expected = sample.true[:20] * 4, sample.expected[0][:20] * 4
    documents = list(range(20)) * 4
    clustered = bootstrap_pooled_pearson(true, expected, [0] * 80, documents, seed=0)
    naive = bootstrap_pooled_pearson(true, expected, [0] * 80, range(80), seed=0)
    assert clustered and naive
    assert clustered.high - clustered.low > 1.5 * (naive.high - naive.low)


def test_lift_of_a_donor_identical_to_the_own_explanation_holds_zero():
    sample = draw(np.random.default_rng(0), DESIGN, ["good"])
    own = sample.expected[0]
    interval = bootstrap_lift(sample.true, own, [own], sample.strata, sample.clusters, seed=0)
    assert interval is not None
    assert interval.low <= 0 <= interval.high
    assert lift(sample.true, own, [own]).value == 0


def test_lift_counts_constant_predictions_as_zero():
    sample = draw(np.random.default_rng(0), DESIGN, ["good"])
    own, nothing = sample.expected[0], [np.full(32, 0.3) for _ in sample.true]
    r = bootstrap_pooled_pearson(sample.true, own, sample.strata, sample.clusters, seed=0)
    gain = bootstrap_lift(sample.true, own, [nothing], sample.strata, sample.clusters, seed=0)
    loss = bootstrap_lift(sample.true, nothing, [own], sample.strata, sample.clusters, seed=0)
    assert r and gain and loss
    value = pooled_pearson(sample.true, own).value
    assert value is not None
    assert gain.low < value < gain.high
    assert loss.low < -value < loss.high
    assert gain.low <= r.low and gain.high >= r.high


def test_lift_without_donors_is_refused():
    with pytest.raises(ValueError, match="at least one donor"):
        bootstrap_lift([[0.0, 1]], [[0.0, 1]], [], [0], ["a"], seed=0)


def test_generic_interval_agrees_with_student_for_a_mean():
    values = np.random.default_rng(0).normal(size=400)
    interval = stratified_bootstrap(
        lambda w: (w @ values) / w.sum(axis=1), [0] * 400, range(400), n_replicates=5000, seed=0
    )
    assert interval is not None
    half = 1.966 * values.std(ddof=1) / 20
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.05 * half
    )


def test_generic_interval_refuses_a_statistic_that_is_nan():
    with pytest.raises(ValueError, match="NaN or infinite"):
        stratified_bootstrap(lambda w: np.full(len(w), np.nan), [0, 0], "ab", seed=0)


def test_generic_interval_is_none_where_nothing_varies():
    assert stratified_bootstrap(lambda w: np.ones(len(w)), [0, 0], "ab", seed=0) is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"strata": [0]}, "2 windows, 1 strata, 2 clusters"),
        ({"weights": [1.0, -1.0]}, "weights must be positive"),
        ({"weights": [1.0]}, "1 weights for 2 windows"),
        ({"level": 95}, "between 0 and 1"),
        ({"probabilities": [0.5]}, "1 probabilities for 2 windows"),
        ({"probabilities": [0.5, 1.5]}, "between 0 and 1, got 0.5 to 1.5"),
        ({"n_replicates": 1}, "at least 2"),
    ],
)
def test_unusable_arguments_are_refused_with_their_value(kwargs, message):
    arguments = {"strata": [0, 0], "clusters": ["a", "b"], "seed": 0} | kwargs
    with pytest.raises(ValueError, match=message):
        bootstrap_pooled_pearson([[0.0, 1], [1, 2]], [[0.0, 1], [2, 2]], **arguments)


@pytest.mark.parametrize(
    ("allocation", "kind", "lowest", "highest"),
    [
        (SMALL_DESIGN, "good", 0.92, 0.98),
        (SMALL_DESIGN, "patchy", 0.89, 0.97),
        (SMALL_DESIGN, "unrelated", 0.95, 1.0),
        (DESIGN, "good", 0.92, 0.98),
        (DESIGN, "patchy", 0.92, 0.98),
        (DESIGN, "bursts", 0.95, 1.0),
    ],
)
def test_coverage_of_the_interval_of_r(allocation, kind, lowest, highest):
    (truth,) = estimands(allocation, [kind])
    rng = np.random.default_rng(20230509)
    covered = 0
    for _ in range(300):
        sample = draw(rng, allocation, [kind])
        interval = bootstrap_pooled_pearson(
            sample.true,
            sample.expected[0],
            sample.strata,
            sample.clusters,
            n_replicates=200,
            seed=rng,
        )
        covered += interval is not None and interval.low <= truth <= interval.high
    assert lowest <= covered / 300 <= highest


@pytest.mark.parametrize("kind", ["good", "patchy", "unrelated"])
def test_coverage_of_the_interval_of_lift(kind):
    kinds = [kind, "unrelated", "bursts", "bursts"]
    own, *donors = estimands(DESIGN, kinds)
    truth = own - np.mean(donors)
    rng = np.random.default_rng(20230509)
    covered = 0
    for _ in range(150):
        sample = draw(rng, DESIGN, kinds)
        interval = bootstrap_lift(
            sample.true,
            sample.expected[0],
            sample.expected[1:],
            sample.strata,
            sample.clusters,
            n_replicates=200,
            seed=rng,
        )
        covered += interval is not None and interval.low <= truth <= interval.high
    assert covered / 150 >= 0.91
