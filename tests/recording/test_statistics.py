import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.recording.activity import Activity, DenseActivity, SparseActivity, Tokens
from autointerp.recording.statistics import (
    N_BUCKETS,
    TRACKED_TOKENS,
    SplitAccumulator,
    TokenTable,
    bucket_edges,
    bucket_of,
)
from autointerp.recording.tables import float32_bounds

VOCABULARY = 400


WINDOW = 10


def shard(seed: int, n: int = 500, n_units: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Zipf tokens, and activations that depend on the token, sparse, over several magnitudes."""
    generator = np.random.default_rng(seed)
    tokens = np.minimum(generator.zipf(1.2, n) - 1, VOCABULARY - 1)
    liking = np.random.default_rng(0).lognormal(0, 1.5, (VOCABULARY, n_units))
    fired = generator.random((n, n_units)) < np.linspace(0.02, 0.9, n_units)
    acts = liking[tokens] * generator.lognormal(0, 0.7, (n, n_units)) * fired
    return tokens.astype(np.int32), acts.astype(np.float32)


def add(into: SplitAccumulator, tokens: np.ndarray, acts: np.ndarray, *, sparse: bool) -> None:
    """Documents of 50 tokens, windows of 10."""
    ids = tokens.reshape(-1, WINDOW)
    masked = np.zeros(ids.shape, bool)
    if sparse:
        place, unit = np.nonzero(acts)
        activity: Activity = SparseActivity(place, unit, acts[place, unit], masked, acts.shape[1])
    else:
        activity = DenseActivity(acts.copy(), masked, (1,))
    activity.add_to(into, slice(0, len(ids)), Tokens(ids, masked))
    into.maxima = np.maximum(into.maxima, activity.maxima.max(0))
    into.add_tokens(tokens, len(ids))
    for active in acts.reshape(-1, 50, acts.shape[1]).max(1) > 0:
        into.add_document(active)


def accumulator(tokens: np.ndarray, acts: np.ndarray, *, sparse: bool) -> SplitAccumulator:
    found = SplitAccumulator.empty(acts.shape[1], VOCABULARY)
    add(found, tokens, acts, sparse=sparse)
    return found


def test_buckets_are_half_octaves():
    edges = bucket_edges()
    assert edges[64] == 1.0 and edges[65] == 1.5 and edges[66] == 2.0
    values = np.random.default_rng(0).lognormal(0, 4, 5000).astype(np.float32)
    expected = np.searchsorted(edges, values, side="right") - 1
    assert np.array_equal(bucket_of(values), expected)
    extremes = np.asarray([0.0, -1.0, 1e-30, 1e30, float(edges[1]), 1.0], np.float32)
    assert bucket_of(extremes).tolist() == [0, 0, 0, N_BUCKETS - 1, 1, 64]


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("way", ["streamed", "merged", "merged backwards"])
def test_statistics_are_those_of_a_full_count(way, sparse):
    """Means within the stated bounds; exact where a token never left the table."""
    shards = [shard(seed) for seed in range(5)]
    found = SplitAccumulator.empty(7, VOCABULARY)
    for tokens, acts in reversed(shards) if way == "merged backwards" else shards:
        if way == "streamed":
            add(found, tokens, acts, sparse=sparse)
        else:
            found = found.merge(accumulator(tokens, acts, sparse=sparse))
    tokens = np.concatenate([t for t, _ in shards])
    acts = np.concatenate([a for _, a in shards]).astype(np.float64)
    assert (int(found.n_tokens), int(found.n_documents), int(found.n_windows)) == (2500, 50, 250)
    top = found.top_tokens(slice(0, 7))
    for unit in range(7):
        x = acts[:, unit]
        assert found.n_active[unit] == int((x > 0).sum())
        active_documents = int((x.reshape(50, 50).max(1) > 0).sum())
        assert found.n_active_documents[unit] == active_documents
        assert found.maxima[unit] == np.float32(x.max())
        expected = [(x**power).sum() for power in (1, 2, 3, 4)]
        assert found.power_sums[:, unit].tolist() == pytest.approx(expected, rel=1e-5)
        place = np.searchsorted(bucket_edges(), x[x > 0], side="right") - 1
        assert found.histogram[unit].tolist() == np.bincount(place, minlength=N_BUCKETS).tolist()

        counts = np.bincount(tokens, minlength=VOCABULARY)
        sums = np.bincount(tokens, x, minlength=VOCABULARY)
        true_mean = sums / np.maximum(counts, 1)
        own = top.of(top.unit == unit)
        for row, token in enumerate(own.token.tolist()):
            assert own.count[row] == counts[token]
            assert own.maximum[row] == np.float32(x[tokens == token].max())
            assert own.mean[row] <= true_mean[token] * (1 + 1e-5)
            assert true_mean[token] <= own.mean_upper[row] * (1 + 1e-5)
        floor = own.maximum.min()
        outside = [t for t in range(VOCABULARY) if t not in own.token]
        assert (true_mean[outside] <= floor).all()
        if len(own.token) < TRACKED_TOKENS:
            assert (sums[outside] == 0).all()
            assert own.mean == pytest.approx(true_mean[own.token], rel=1e-5)
            assert own.mean_upper == pytest.approx(own.mean)
        assert own.mean.tolist() == sorted(own.mean, reverse=True)
        assert own.rank.tolist() == list(range(len(own.token)))


@pytest.mark.parametrize("sparse", [True, False])
def test_one_batch_misses_nothing(sparse):
    tokens, acts = shard(0)
    top = accumulator(tokens, acts, sparse=sparse).top_tokens(slice(0, 7))
    assert np.array_equal(top.mean, top.mean_upper)


def test_the_true_top_token_is_found_wherever_its_mean_stands_out():
    """The stated error: a token outside the table has a mean of at most its smallest maximum."""
    shards = [shard(seed, n=5000, n_units=4) for seed in range(10)]
    found = SplitAccumulator.empty(4, VOCABULARY)
    for tokens, acts in shards:
        add(found, tokens, acts, sparse=True)
    tokens = np.concatenate([t for t, _ in shards])
    acts = np.concatenate([a for _, a in shards]).astype(np.float64)
    counts = np.bincount(tokens, minlength=VOCABULARY)
    top = found.top_tokens(slice(0, 4))
    for unit in range(4):
        means = np.bincount(tokens, acts[:, unit], minlength=VOCABULARY) / np.maximum(counts, 1)
        own = top.of(top.unit == unit)
        standing_out = np.flatnonzero(means > own.maximum.min())
        assert set(standing_out.tolist()) <= set(own.token.tolist())


def test_tokens_that_are_all_masked_count_for_nothing_but_windows():
    nothing = SplitAccumulator.empty(3, VOCABULARY)
    masked = np.ones((4, WINDOW), bool)
    ids = np.zeros((4, WINDOW), np.int32)
    for activity in (
        DenseActivity(np.ones((40, 3), np.float32), masked, (1,)),
        SparseActivity(np.arange(3), np.arange(3), np.ones(3, np.float32), masked, 3),
    ):
        assert not activity.maxima.any()
        activity.add_to(nothing, slice(0, 4), Tokens(ids, masked))
    nothing.add_tokens(ids[~masked], 4)
    assert (int(nothing.n_tokens), int(nothing.n_documents), int(nothing.n_windows)) == (0, 0, 4)
    assert not nothing.power_sums.any() and not nothing.n_active.any()
    assert not len(nothing.top_tokens(slice(0, 3)).unit)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_table_holds_the_largest_maxima_each_token_once_ties_and_all(seed):
    generator = np.random.default_rng(seed)
    table, true = TokenTable.empty(3), np.zeros((3, 120), np.float32)
    for _ in range(5):
        # Few different values: many ties.
        found = generator.integers(0, 9, true.shape) * (generator.random(true.shape) < 0.3)
        unit, token = np.nonzero(found)
        values = found[unit, token].astype(np.float32)
        counts = np.zeros(120, np.int64)
        table.update(unit, token.astype(np.int32), values.astype(np.float64), values, counts)
        true = np.maximum(true, found.astype(np.float32))
        for row, (tokens, maxima) in enumerate(zip(table.tokens, table.maxima, strict=True)):
            largest = np.sort(true[row])[::-1][:TRACKED_TOKENS]
            assert np.sort(maxima)[::-1].tolist() == largest.tolist()
            held = tokens[tokens >= 0]
            assert len(set(held.tolist())) == len(held)
            assert maxima[tokens >= 0].tolist() == true[row, held].tolist()
            assert (tokens[maxima > 0] >= 0).all()


def test_bounds_of_means_still_enclose_after_they_are_rounded_to_float32() -> None:
    generator = np.random.default_rng(0)
    lower = generator.random(1000)
    upper = lower + np.where(np.arange(1000) % 2, 0.0, 10.0 ** -generator.integers(1, 12, 1000))
    low, high = float32_bounds(lower, upper)
    assert low.dtype == high.dtype == np.float32
    apart = lower < upper
    assert (low[apart] <= lower[apart]).all() and (high[apart] >= upper[apart]).all()
    assert (low[~apart] == high[~apart]).all()
    assert low == pytest.approx(lower, rel=2e-7)
    assert high[~apart] == pytest.approx(upper[~apart], rel=2e-7)
    assert high[apart] == pytest.approx(upper[apart], rel=2**-11)
    # A number and its successor, at the seam of two powers of two.
    seam = float(np.nextafter(np.float32(2), np.float32(0)))
    assert float32_bounds(np.array([seam]), np.array([2.0]))[1].tolist() == [2.0]
