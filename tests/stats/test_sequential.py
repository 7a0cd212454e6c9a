"""Confidence sequences: valid whenever one looks, and narrow enough to be worth it."""

import math
from itertools import pairwise

import numpy as np
import pytest

from autointerp.stats import bootstrap_mean
from autointerp.stats.sequential import ConfidenceSequence, looks, stopped_at

from .score_populations import lifts


def test_before_the_first_unit_everything_is_possible():
    sequence = ConfidenceSequence((-1, 1), half_width=0.1)
    assert (sequence.interval.low, sequence.interval.high) == (-1, 1)
    assert sequence.mean is None


def test_of_all_units_the_mean_is_known():
    values = lifts(np.random.default_rng(0), 60)
    sequence = ConfidenceSequence((-1, 1), half_width=0.01, n_total=60)
    sequence.add(np.clip(values, -1, 1))
    assert sequence.interval.low == pytest.approx(values.mean(), abs=1e-3)
    assert sequence.interval.high == pytest.approx(values.mean(), abs=1e-3)
    assert sequence.mean == pytest.approx(values.mean())


def test_what_is_left_bounds_the_mean_without_any_bet():
    sequence = ConfidenceSequence((0, 1), half_width=0.5, n_total=10, level=1 - 1e-9)
    sequence.add([1.0] * 6)
    assert sequence.interval.low == pytest.approx(0.6, abs=1e-3)


def test_one_bet_is_the_published_product():
    # One unit, bounds [0, 1], no N: K+ = 1 + λ (x - m), rejected where it reaches 2 / α.
    sequence = ConfidenceSequence((0, 1), half_width=1.0, level=0.01, guess=(0.5, 0.0))
    sequence.add([1.0])
    # λ = min(1, 0.9 / m): 2 / 0.99 = 1 + min(1, 0.9 / m) (1 - m) has its root under 0.
    assert sequence.interval.low == 0
    for _ in range(3):
        sequence.add([1.0])
    m = sequence.interval.low

    def fortune(mean: float) -> float:
        total, seen, squares, weight = 1.0, 4 * 0.5, 0.0, 4.0
        for _ in range(4):
            stake = min(1 / (squares / weight + 1), 0.9 / mean)
            total *= 1 + stake * (1 - mean)
            seen, weight = seen + 1, weight + 1
            squares += (1 - seen / weight) ** 2
        return total

    assert fortune(m - 2e-3) > 2 / 0.99 * 0.99
    assert fortune(m + 1e-2) < 2 / 0.99


def test_the_interval_never_grows():
    values = np.random.default_rng(0).uniform(-1, 1, 200)
    sequence = ConfidenceSequence((-1, 1), half_width=0.1)
    low, high = -1.0, 1.0
    for value in values:
        sequence.add([value])
        assert sequence.interval.low >= low - 1e-12 and sequence.interval.high <= high + 1e-12
        low, high = sequence.interval.low, sequence.interval.high


def test_units_outside_the_bounds_or_too_many_are_refused():
    sequence = ConfidenceSequence((-1, 1), half_width=0.1, n_total=2)
    with pytest.raises(ValueError, match="must lie in"):
        sequence.add([1.5])
    with pytest.raises(ValueError, match="3 units seen, but there are 2"):
        sequence.add([0, 0, 0])
    with pytest.raises(ValueError, match="finite and ascending"):
        ConfidenceSequence((-1, math.inf), half_width=0.1)


def test_looks_grow_by_a_tenth_and_end_with_all():
    found = looks(500, 16)
    assert found[0] == 16 and found[-1] == 500
    assert all(b - a >= min(16, 500 - a) for a, b in pairwise(found))
    assert looks(5, 16) == [5]


def test_the_mean_is_covered_at_all_looks_together():
    rng = np.random.default_rng(0)
    n, missed = 100, 0
    for _ in range(n):
        values = np.clip(lifts(rng, 150), -1, 1)
        truth = values.mean()
        sequence = ConfidenceSequence((-1, 1), half_width=0.08, n_total=150)
        ever = False
        for value in values[:120]:
            sequence.add([value])
            ever |= not sequence.interval.low <= truth <= sequence.interval.high
        missed += ever
    assert missed / n <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / n)


def test_an_ordinary_interval_is_not_valid_under_the_same_peeking():
    # Why a sequence is needed: at each of the looks 95 %, at all of them together far less.
    rng = np.random.default_rng(0)
    truth, missed = float(lifts(rng, 400_000).mean()), 0
    for _ in range(60):
        values = lifts(rng, 200)
        intervals = [bootstrap_mean(values[:n], n_replicates=100, seed=rng) for n in looks(200, 8)]
        missed += any(i is None or not i.low <= truth <= i.high for i in intervals)
    assert missed / 60 > 0.1


def test_stopping_saves_most_of_a_large_dictionary():
    rng = np.random.default_rng(0)
    values = np.clip(lifts(rng, 2000), -1, 1)
    n, interval = stopped_at(values, (-1, 1), half_width=0.05, n_total=2000)
    assert n < 300
    assert (interval.high - interval.low) / 2 <= 0.05
    assert interval.low <= values.mean() <= interval.high
