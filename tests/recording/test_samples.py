"""Sampling against what probability theory says, on activations made up here."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from autointerp.config import QuotaConfig
from autointerp.recording.activity import DenseActivity, SparseActivity, Tokens
from autointerp.recording.buffers import Buffers
from autointerp.recording.design import DEFAULT_QUOTAS, SILENT_SHARE, SamplingDesign
from autointerp.recording.finish import HARD_KINDS, STRATA, draw, samples_of_units
from autointerp.recording.hardness import TopTokenIndex
from autointerp.recording.samples import RANDOM, pair_keys, window_keys
from autointerp.recording.sampling import WindowFacts, add_batch
from autointerp.records import SPLITS, HardBy, Split, Strata

N_WINDOWS, LENGTH, VOCABULARY = 360, 4, 50
WINDOWS_A_SEQUENCE, WINDOWS_A_DOCUMENT = 3, 6
KINDS = ("rare", "dense", "few strong", "heavy tail", "faint", "clustered")


def made_up_activations() -> np.ndarray:
    """[N_WINDOWS, LENGTH, n_units] float32, one unit for every way to be hard to sample."""
    generator = np.random.default_rng(5)

    def tokens(share: float) -> np.ndarray:
        shape = (N_WINDOWS, LENGTH)
        return (generator.random(shape) < share) * generator.lognormal(0, 0.6, shape)

    units = {
        "rare": tokens(0.02),
        "dense": tokens(0.9),
        # A dozen windows of nearly the same maximum: most of a bucket are top windows.
        "few strong": np.zeros((N_WINDOWS, LENGTH)),
        "heavy tail": tokens(0.5) * np.exp(generator.normal(0, 3, (N_WINDOWS, 1))),
        "faint": tokens(0.9) * 1e-4 + tokens(0.01),
        "clustered": tokens(0.8),
    }
    strong = generator.permutation(N_WINDOWS)[:40]
    units["few strong"][strong, 1] = generator.uniform(1.0, 1.45, 40)
    units["few strong"][strong[:6], 2] = 0.02
    in_sequence = np.repeat(
        generator.random(N_WINDOWS // WINDOWS_A_SEQUENCE) < 0.2, WINDOWS_A_SEQUENCE
    )
    quiet = generator.random(N_WINDOWS) < 0.5
    units["clustered"] *= (in_sequence * np.where(quiet, 1e-3, 1.0))[:, None]
    return np.stack([units[kind] for kind in KINDS], axis=-1).astype(np.float32)


ACTIVATIONS = made_up_activations()
SPLIT_OF_WINDOW = np.asarray([0, 2, 0, 2, 1, 0, 2, 3])[
    np.arange(N_WINDOWS) // WINDOWS_A_DOCUMENT % 8
]


TOKEN_IDS = np.random.default_rng(1).integers(0, VOCABULARY, (N_WINDOWS, LENGTH)).astype(np.int32)
WINDOW_HASHES = np.random.default_rng(0).integers(0, 2**63, N_WINDOWS).astype(np.uint64)
UNIT_HASHES = np.random.default_rng(9).integers(0, 2**63, len(KINDS)).astype(np.uint64)
NEAREST = np.asarray([3, 0, 1, -1, 5, 2])
TOP_TOKENS = TopTokenIndex.of(
    np.asarray([[u, u + 7, -1 if u == 3 else u + 20] for u in range(len(KINDS))]), VOCABULARY
)
IS_PILOT = np.arange(N_WINDOWS) < 5 * WINDOWS_A_DOCUMENT


def facts(windows: np.ndarray) -> WindowFacts:
    windows = windows[np.argsort(SPLIT_OF_WINDOW[windows], kind="stable")]
    return WindowFacts(
        windows,
        WINDOW_HASHES[windows],
        (windows // WINDOWS_A_SEQUENCE).astype(np.int32),
        SPLIT_OF_WINDOW[windows].astype(np.int64),
        Tokens(TOKEN_IDS[windows], np.zeros((len(windows), LENGTH), bool)),
        IS_PILOT[windows],
    )


def add(buffers: Buffers, windows: np.ndarray, seed: int, *, sparse: bool = False) -> None:
    own = facts(windows)
    acts = ACTIVATIONS[own.numbers].reshape(-1, len(KINDS)).copy()
    if sparse:
        token, unit = np.nonzero(acts)
        shuffled = np.random.default_rng(0).permutation(len(token))
        token, unit = token[shuffled], unit[shuffled]
        activity = SparseActivity(token, unit, acts[token, unit], own.tokens.masked, len(KINDS))
    else:
        activity = DenseActivity(acts, own.tokens.masked, (1,))
    neighbour_active = (activity.maxima > 0)[:, NEAREST] & (NEAREST >= 0)
    add_batch(buffers, activity, own, neighbour_active, TOP_TOKENS, UNIT_HASHES, seed)


def recorded(
    design: SamplingDesign,
    shards: list[np.ndarray],
    *,
    early: bool = True,
    sparse: bool = False,
) -> Buffers:
    """`early`: into buffers that grow; else every shard alone, then merged."""
    buffers = Buffers.empty(len(KINDS), design, VOCABULARY)
    for windows in shards:
        into = buffers if early else Buffers.empty(len(KINDS), design, VOCABULARY)
        add(into, windows, design.seed, sparse=sparse)
        if early:
            for split in SPLITS:
                buffers.samples(split)
        else:
            buffers = buffers.merge(into)
    return buffers


def shards(size: int = 120) -> list[np.ndarray]:
    return [np.arange(i, min(i + size, N_WINDOWS)) for i in range(0, N_WINDOWS, size)]


def explain_maximum(unit: int) -> float:
    return float(ACTIVATIONS[SPLIT_OF_WINDOW == 0][..., unit].max())


def drawn(
    buffers: Buffers, design: SamplingDesign
) -> Iterator[tuple[int, Split, list[tuple[int, str, float, np.ndarray]]]]:
    """(unit, split, [(window, stratum, probability, activations)])."""
    for split, unit, rows in drawn_with_kinds(buffers, design):
        yield unit, split, [row[:4] for row in rows]


def drawn_with_kinds(buffers: Buffers, design: SamplingDesign) -> Iterator[Any]:
    """(split, unit, [(window, stratum, probability, activations, what makes it hard)])."""
    for split, part in buffers.splits.items():
        # Units one by one and all together give the same.
        samples = samples_of_units(buffers.samples(split), slice(0, len(KINDS)))
        found = draw(
            samples,
            part.group_counts,
            int(part.statistics.n_windows),
            buffers.largest_bucket,
            np.asarray([explain_maximum(unit) for unit in range(len(KINDS))]),
            UNIT_HASHES,
            WINDOW_HASHES[samples.window],
            design,
            split,
        )
        acts = samples.dense(LENGTH).astype(np.float64)
        for unit in range(len(KINDS)):
            own = np.flatnonzero(samples.unit[found.place] == unit)
            yield (
                split,
                unit,
                [
                    (
                        int(samples.window[found.place[i]]),
                        STRATA[found.stratum[i]],
                        float(found.probability[i]),
                        acts[found.place[i]],
                        None if found.hard_by[i] < 0 else HARD_KINDS[found.hard_by[i]],
                    )
                    for i in own
                ],
            )


def estimates(
    found: list[tuple[int, str, float, np.ndarray]], strata: set[str]
) -> tuple[float, float, float]:
    """Horvitz-Thompson: sum of activations, of active tokens, number of windows."""
    rows = [(acts.sum() / p, (acts > 0).sum() / p, 1 / p) for _, s, p, acts in found if s in strata]
    total = np.asarray(rows).reshape(-1, 3).sum(0)
    return float(total[0]), float(total[1]), float(total[2])


def truth(unit: int, split: Split) -> tuple[float, float, float]:
    acts = ACTIVATIONS[SPLITS.index(split) == SPLIT_OF_WINDOW][..., unit].astype(np.float64)
    return float(acts.sum()), float((acts > 0).sum()), float(len(acts))


PARTITION = set(Strata.ordered()) - {Strata.RANDOM}
QUOTAS = {
    **DEFAULT_QUOTAS,
    Split.EXPLAIN: DEFAULT_QUOTAS[Split.EXPLAIN].model_copy(update={"random": 5}),
}


def test_estimates_from_the_samples_are_unbiased():
    """Over 200 seeds: mean within 3 standard errors of the full count, in every unit and split."""
    values: dict[tuple[int, Split, str], list[tuple[float, float, float]]] = {}
    for seed in range(200):
        design = SamplingDesign("d", LENGTH, seed, QUOTAS)
        for unit, split, found in drawn(recorded(design, shards()), design):
            values.setdefault((unit, split, "partition"), []).append(estimates(found, PARTITION))
            random = estimates(found, {Strata.RANDOM})
            values.setdefault((unit, split, "random"), []).append(random)
    assert len(values) == len(KINDS) * 8
    deviations = []
    for (unit, split, kind), rows in values.items():
        mean, error = np.mean(rows, 0), np.std(rows, 0, ddof=1) / np.sqrt(len(rows))
        for column, name in enumerate(("activation", "density", "windows")):
            expected = truth(unit, split)[column]
            difference = abs(mean[column] - expected) - 1e-3 * expected  # float16
            deviation = max(0.0, difference) / max(error[column], 1e-12)
            deviations.append((deviation, KINDS[unit], split.value, kind, name))
    worst = max(deviations)
    assert worst[0] < 3.5, worst
    # Of so many comparisons a few lie beyond two standard errors, but no more than that.
    assert np.mean([d[0] > 2 for d in deviations]) < 0.08


def test_estimates_are_exact_where_everything_is_kept():
    quota = QuotaConfig(top=5, intervals=4000, hard=400, silent=400, random=400)
    design = SamplingDesign("all", LENGTH, 3, dict.fromkeys(SPLITS, quota))
    for unit, split, found in drawn(recorded(design, shards()), design):
        assert {p for _, _, p, _ in found} == {1.0}
        for strata in (PARTITION, {Strata.RANDOM}):
            windows = [w for w, s, _, _ in found if s in strata]
            assert (
                sorted(windows) == np.flatnonzero(SPLITS.index(split) == SPLIT_OF_WINDOW).tolist()
            )
            assert estimates(found, strata) == pytest.approx(truth(unit, split), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_every_window_lies_in_the_stratum_of_its_value(seed):
    design = SamplingDesign("d", LENGTH, seed, QUOTAS)
    for split, unit, rows in drawn_with_kinds(recorded(design, shards()), design):
        found = [row[:4] for row in rows]
        kinds = {row[0]: row[4] for row in rows if row[1] != Strata.RANDOM}
        top = explain_maximum(unit)
        maxima = ACTIVATIONS[..., unit].max(1)
        in_sequence = maxima.reshape(-1, WINDOWS_A_SEQUENCE).max(1).repeat(WINDOWS_A_SEQUENCE)
        own = np.flatnonzero(SPLITS.index(split) == SPLIT_OF_WINDOW)
        quota = design.quotas[split]
        largest = own[np.argsort(-maxima[own])][: quota.top]
        expected_top = {int(w) for w in largest if maxima[w] > SILENT_SHARE * top}
        assert {w for w, s, _, _ in found if s == Strata.TOP} == expected_top
        partition = [w for w, s, _, _ in found if s in PARTITION]
        assert len(set(partition)) == len(partition) <= quota.total - quota.random
        for window, stratum, probability, acts in found:
            assert window in own
            assert 0 < probability <= 1
            assert acts == pytest.approx(ACTIVATIONS[window, :, unit], rel=1e-3, abs=1e-7 * top)
            share = maxima[window] / top
            beside = in_sequence[window] > SILENT_SHARE * top
            neighbour = NEAREST[unit] >= 0 and ACTIVATIONS[window, :, NEAREST[unit]].max() > 0
            holds = bool(set(TOKEN_IDS[window].tolist()) & set(TOP_TOKENS.tokens[unit].tolist()))
            token = holds and not IS_PILOT[window]
            never = maxima[window] == 0 == in_sequence[window]
            if stratum == Strata.SILENT:
                assert share <= SILENT_SHARE
                assert not beside and not (never and (neighbour or token))
            elif stratum == Strata.HARD:
                assert share <= SILENT_SHARE
                expected = HardBy.NEIGHBOUR if neighbour else HardBy.TOP_TOKEN
                assert kinds[window] == (HardBy.BESIDE if beside else expected)
                assert beside or neighbour or token
            elif stratum.startswith("interval"):
                number = int(stratum[-2:])
                assert share > max(SILENT_SHARE, (number - 1) / 10)
                assert share <= number / 10 or number == 10


def test_an_empty_stratum_passes_its_share_down():
    """40 strong windows, all in intervals 7 to 10, and nothing between them and silence."""
    design = SamplingDesign("d", LENGTH, 0, QUOTAS)
    unit = KINDS.index("few strong")
    for found_unit, split, found in drawn(recorded(design, shards()), design):
        if (found_unit, split) != (unit, Split.EXPLAIN):
            continue
        quota, n = design.quotas[split], Counter(s for _, s, _, _ in found)
        active = sum(count for s, count in n.items() if Strata.is_active(s))
        assert n[Strata.TOP] == quota.top
        assert active < quota.top + quota.intervals
        assert n[Strata.HARD] + n[Strata.SILENT] > quota.hard + quota.silent
        total = quota.total - quota.random
        assert sum(count for s, count in n.items() if s != Strata.RANDOM) <= total


def same(a: Buffers, b: Buffers) -> None:
    assert np.array_equal(a.largest_bucket, b.largest_bucket)
    for split in SPLITS:
        x, y = a.splits[split], b.splits[split]
        assert np.array_equal(x.group_counts, y.group_counts)
        assert x.group_counts.sum() == int(x.statistics.n_windows) * len(x.group_counts)
        for name, array in vars(a.samples(split)).items():
            assert np.array_equal(array, getattr(b.samples(split), name)), (split, name)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("size", [360, 120, 60, 6])
def test_the_samples_do_not_depend_on_the_shards(size, early):
    design = SamplingDesign("d", LENGTH, 1, QUOTAS)
    whole = recorded(design, shards(360), early=False)
    same(recorded(design, shards(size), early=early), whole)
    order = np.random.default_rng(size).permutation(len(shards(size)))
    same(recorded(design, [shards(size)[i] for i in order], early=early), whole)


def test_two_halves_merge_into_the_whole():
    design = SamplingDesign("d", LENGTH, 1, QUOTAS)
    parts = shards(60)
    first, second = recorded(design, parts[:3]), recorded(design, parts[3:])
    whole = recorded(design, parts)
    same(first.merge(second), whole)
    same(second.merge(first), whole)
    same(whole.merge(Buffers.empty(len(KINDS), design, VOCABULARY)), whole)


def test_buffers_are_read_back_as_they_were_written(tmp_path):
    design = SamplingDesign("d", LENGTH, 1, QUOTAS)
    buffers = recorded(design, shards())
    buffers.save(tmp_path / "buffers.safetensors")
    back = Buffers.load(tmp_path / "buffers.safetensors")
    same(back, buffers)
    for split in SPLITS:
        own, read = buffers.splits[split].statistics, back.splits[split].statistics
        assert own.arrays().keys() == read.arrays().keys()
        for name, array in own.arrays().items():
            assert read.arrays()[name].shape == np.shape(array)
            assert read.arrays()[name].dtype == array.dtype
            assert np.array_equal(read.arrays()[name], array)
    assert list(tmp_path.iterdir()) == [tmp_path / "buffers.safetensors"]
    same(back.merge(buffers), buffers.merge(back))


def test_other_seeds_draw_other_windows():
    found = []
    for seed in (0, 0, 1):
        design = SamplingDesign("d", LENGTH, seed, QUOTAS)
        rows = drawn(recorded(design, shards()), design)
        found.append([(u, s, [r[:3] for r in windows]) for u, s, windows in rows])
    assert found[0] == found[1] != found[2]


def test_keys_are_uniform_and_the_random_samples_are_independent_of_the_partitions():
    generator = np.random.default_rng(0)
    units = generator.integers(0, 2**63, 3).astype(np.uint64)
    windows = generator.integers(0, 2**63, 40_000).astype(np.uint64)
    hashed = window_keys(units, windows, 11)
    # The partition takes the upper half of the hash, the random sample the lower.
    keys, other = (hashed >> np.uint64(32)) / 2**32, (hashed % np.uint64(2**32)) / 2**32
    pairs = pair_keys(units[[0, 2]], windows[[5, 7]], 11)
    assert pairs.tolist() == [hashed[5, 0], hashed[7, 2]]
    assert window_keys(units, windows, 12)[0, 0] != hashed[0, 0]
    for column in (keys[:, 0], keys[:, 1], other[:, 0], keys[:, 0] * 1000 % 1):
        counts = np.histogram(column, bins=50, range=(0, 1))[0]
        assert ((counts - 800) ** 2 / 800).sum() < 90  # chi squared, 49 degrees of freedom
    pairs = [(keys[:, 0], keys[:, 1]), (keys[:, 0], other[:, 0]), (keys[:-1, 0], keys[1:, 0])]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    # The smallest keys are what is kept: they say nothing about the other hash.
    smallest = np.argsort(keys[:, 0])[:400]
    assert abs(other[smallest, 0].mean() - 0.5) < 4 * (1 / 12 / 400) ** 0.5


@pytest.mark.parametrize("n", [0, 2])
def test_a_split_keeps_as_many_random_windows_as_its_quota_says(n: int):
    quota = DEFAULT_QUOTAS[Split.TEST].model_copy(update={"random": n})
    design = SamplingDesign("d", LENGTH, 0, dict.fromkeys(SPLITS, quota))
    buffers = recorded(design, shards())
    for split in SPLITS:
        samples = buffers.samples(split)
        per_unit = np.bincount(samples.unit[samples.group == RANDOM], minlength=6)
        assert per_unit.tolist() == [n] * 6


def test_sparse_and_dense_activities_are_recorded_alike():
    design = SamplingDesign("d", LENGTH, 1, QUOTAS)
    dense, sparse = recorded(design, shards()), recorded(design, shards(), sparse=True)
    same(dense, sparse)
    for split in SPLITS:
        a, b = (buffers.splits[split].statistics.arrays() for buffers in (dense, sparse))
        for name, array in a.items():
            if name in ("power_sums", "table.sums", "table.missed"):
                assert array == pytest.approx(b[name], rel=1e-5)
            else:
                assert np.array_equal(array, b[name]), name
