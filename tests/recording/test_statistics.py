import numpy as np
import pytest
import torch

from autointerp.recording.statistics import (
    N_BUCKETS,
    TRACKED_TOKENS,
    SplitAccumulator,
    bucket_edges,
    bucket_of,
)

VOCABULARY = 400


def shard(seed: int, n: int = 500, n_units: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Zipf tokens, and activations that depend on the token, sparse, over several magnitudes."""
    generator = np.random.default_rng(seed)
    tokens = np.minimum(generator.zipf(1.2, n) - 1, VOCABULARY - 1)
    liking = np.random.default_rng(0).lognormal(0, 1.5, (VOCABULARY, n_units))
    fired = generator.random((n, n_units)) < np.linspace(0.02, 0.9, n_units)
    acts = liking[tokens] * generator.lognormal(0, 0.7, (n, n_units)) * fired
    return torch.from_numpy(tokens), torch.from_numpy(acts.astype(np.float32))


def accumulator(tokens: torch.Tensor, acts: torch.Tensor) -> SplitAccumulator:
    documents = torch.arange(len(tokens)) // 50
    return SplitAccumulator.of_shard(tokens, acts, documents, len(tokens) // 10, VOCABULARY)


def test_buckets_are_half_octaves():
    edges = bucket_edges()
    assert edges[64] == 1.0 and edges[65] == 1.5 and edges[66] == 2.0
    values = torch.from_numpy(np.random.default_rng(0).lognormal(0, 4, 5000).astype(np.float32))
    expected = np.searchsorted(edges, values.numpy(), side="right") - 1
    assert np.array_equal(bucket_of(values).numpy(), expected)
    extremes = torch.tensor([0.0, -1.0, 1e-30, 1e30, float(edges[1]), 1.0])
    assert bucket_of(extremes).tolist() == [0, 0, 0, N_BUCKETS - 1, 1, 64]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 1, 4, 0, 2]])
def test_merged_statistics_are_those_of_a_full_count(order):
    shards = [shard(seed) for seed in range(5)]
    merged = SplitAccumulator.empty(7, VOCABULARY)
    for number in order:
        merged = merged.merge(accumulator(*shards[number]))
    tokens = torch.cat([t for t, _ in shards]).numpy()
    acts = torch.cat([a for _, a in shards]).numpy().astype(np.float64)
    vocabulary = [str(i) for i in range(VOCABULARY)]
    for unit in range(7):
        found, x = merged.of_unit(unit, vocabulary), acts[:, unit]
        assert (found.n_tokens, found.n_active) == (2500, int((x > 0).sum()))
        assert found.density == (x > 0).mean()
        assert found.n_documents == 50
        assert found.n_active_documents == int((x.reshape(50, 50).max(1) > 0).sum())
        assert found.maximum == x.max()
        expected = [(x**power).mean() for power in (1, 2, 3, 4)]
        assert found.moments == pytest.approx(expected, rel=1e-5)
        place = np.searchsorted(bucket_edges(), x[x > 0], side="right") - 1
        assert list(found.histogram) == np.bincount(place, minlength=N_BUCKETS).tolist()

        counts = np.bincount(tokens, minlength=VOCABULARY)
        sums = np.bincount(tokens, x, minlength=VOCABULARY)
        true_mean = sums / np.maximum(counts, 1)
        tracked = {int(top.token): top for top in found.top_tokens}
        for token, top in tracked.items():
            assert top.count == counts[token]
            assert top.maximum == x[tokens == token].max()
            assert top.mean <= true_mean[token] * (1 + 1e-5)
            assert true_mean[token] <= top.mean_upper * (1 + 1e-5)
        floor = min(top.maximum for top in tracked.values())
        outside = [t for t in range(VOCABULARY) if t not in tracked]
        assert (true_mean[outside] <= floor).all()
        if len(tracked) < TRACKED_TOKENS:
            assert (sums[outside] == 0).all()
            assert all(
                top.mean == pytest.approx(true_mean[token], rel=1e-5)
                and top.mean_upper == pytest.approx(top.mean)
                for token, top in tracked.items()
            )
        means = [top.mean for top in found.top_tokens]
        assert means == sorted(means, reverse=True)


def test_one_shard_misses_nothing():
    tokens, acts = shard(0)
    found = accumulator(tokens, acts).of_unit(5, [str(i) for i in range(VOCABULARY)])
    assert all(top.mean == top.mean_upper for top in found.top_tokens)


def test_tokens_that_are_all_masked_count_for_nothing_but_windows():
    nothing = SplitAccumulator.of_shard(
        torch.zeros(0, dtype=torch.long), torch.zeros(0, 3), torch.zeros(0), 4, VOCABULARY
    )
    assert (int(nothing.n_tokens), int(nothing.n_documents), int(nothing.n_windows)) == (0, 0, 4)
    found = nothing.of_unit(0, [])
    assert found.moments == (0, 0, 0, 0) and found.density == 0 and found.top_tokens == ()
