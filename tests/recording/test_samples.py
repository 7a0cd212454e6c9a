"""Sampling against what probability theory says, on activations made up here."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from autointerp.config import QuotaConfig
from autointerp.recording.buffers import Buffers
from autointerp.recording.design import DEFAULT_QUOTAS, SILENT_SHARE, SamplingDesign
from autointerp.recording.finish import draw
from autointerp.recording.recorder import _sample_shard, _WindowFacts
from autointerp.recording.samples import RANDOM, window_keys
from autointerp.records import SPLITS, Split, Strata, UnitId

N_WINDOWS, LENGTH, VOCABULARY = 360, 4, 50
WINDOWS_A_SEQUENCE, WINDOWS_A_DOCUMENT = 3, 6
KINDS = ("rare", "dense", "few strong", "heavy tail", "faint", "clustered")


class Units:
    """A source that is never asked to encode."""

    name, subject, read_at, write_at, polarities = "made_up", "none", "none", None, (1,)
    n_units = len(KINDS)


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


def facts(windows: np.ndarray) -> _WindowFacts:
    hashes = np.random.default_rng(0).integers(0, 2**63, N_WINDOWS).astype(np.uint64)
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (N_WINDOWS, LENGTH)).astype(np.int32)
    return _WindowFacts(
        windows,
        hashes[windows],
        (windows // WINDOWS_A_SEQUENCE).astype(np.int32),
        (windows // WINDOWS_A_DOCUMENT).astype(np.int64),
        SPLIT_OF_WINDOW[windows].astype(np.int64),
        tokens[windows],
        np.zeros((len(windows), LENGTH), bool),
    )


def recorded(design: SamplingDesign, shards: list[np.ndarray], *, early: bool = True) -> Buffers:
    buffers = Buffers.empty(len(KINDS), LENGTH, VOCABULARY)
    for windows in shards:
        acts = torch.from_numpy(ACTIVATIONS[windows].copy())
        so_far = buffers if early else None
        shard = _sample_shard(acts, facts(windows), Units, design, VOCABULARY, so_far)
        buffers = buffers.merge(shard, design)
    return buffers


def shards(size: int = 120) -> list[np.ndarray]:
    return [np.arange(i, min(i + size, N_WINDOWS)) for i in range(0, N_WINDOWS, size)]


def explain_maximum(unit: int) -> float:
    return float(ACTIVATIONS[SPLIT_OF_WINDOW == 0][..., unit].max())


def drawn(
    buffers: Buffers, design: SamplingDesign
) -> Iterator[tuple[int, Split, list[tuple[int, str, float, np.ndarray]]]]:
    """(unit, split, [(window, stratum, probability, activations)])."""
    for unit in range(len(KINDS)):
        for split, part in buffers.splits.items():
            samples = part.samples.take(part.samples.unit == unit)
            found = draw(
                samples,
                part.group_counts[unit],
                int(part.statistics.n_windows),
                int(buffers.largest_bucket[unit]),
                explain_maximum(unit),
                design,
                split,
                UnitId("made_up", unit),
            )
            yield (
                unit,
                split,
                [
                    (
                        int(samples.window[place]),
                        stratum,
                        probability,
                        samples.maximum[place] * samples.activations[place].astype(np.float64),
                    )
                    for place, stratum, probability in found
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
            if design.quotas[split].random:
                random = estimates(found, {Strata.RANDOM})
                values.setdefault((unit, split, "random"), []).append(random)
    assert len(values) == len(KINDS) * 6
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
    for unit, split, found in drawn(recorded(design, shards()), design):
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
            if stratum == Strata.SILENT:
                assert in_sequence[window] <= SILENT_SHARE * top
            elif stratum == Strata.HARD:
                assert share <= SILENT_SHARE < in_sequence[window] / top
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
        for name, array in vars(x.samples).items():
            assert np.array_equal(array, getattr(y.samples, name)), (split, name)


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
    same(first.merge(second, design), whole)
    same(second.merge(first, design), whole)
    same(whole.merge(Buffers.empty(len(KINDS), LENGTH, VOCABULARY), design), whole)


def test_buffers_are_read_back_as_they_were_written(tmp_path):
    design = SamplingDesign("d", LENGTH, 1, QUOTAS)
    buffers = recorded(design, shards())
    buffers.save(tmp_path / "buffers.safetensors")
    back = Buffers.load(tmp_path / "buffers.safetensors")
    same(back, buffers)
    vocabulary = [str(i) for i in range(VOCABULARY)]
    for split in SPLITS:
        own, read = buffers.splits[split].statistics, back.splits[split].statistics
        assert own.arrays().keys() == read.arrays().keys()
        for name, array in own.arrays().items():
            assert read.arrays()[name].shape == np.shape(array)
            assert read.arrays()[name].dtype == array.dtype
        assert all(own.of_unit(u, vocabulary) == read.of_unit(u, vocabulary) for u in range(6))
    assert list(tmp_path.iterdir()) == [tmp_path / "buffers.safetensors"]
    same(back.merge(buffers, design), buffers.merge(back, design))


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
    keys, other = window_keys(units, windows, 11), window_keys(units, windows, 12)
    for column in (keys[:, 0], keys[:, 1], other[:, 0], keys[:, 0] * 1000 % 1):
        counts = np.histogram(column, bins=50, range=(0, 1))[0]
        assert ((counts - 800) ** 2 / 800).sum() < 90  # chi squared, 49 degrees of freedom
    pairs = [(keys[:, 0], keys[:, 1]), (keys[:, 0], other[:, 0]), (keys[:-1, 0], keys[1:, 0])]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    # The smallest keys are what is kept: they say nothing about the other hash.
    smallest = np.argsort(keys[:, 0])[:400]
    assert abs(other[smallest, 0].mean() - 0.5) < 4 * (1 / 12 / 400) ** 0.5


def test_a_split_without_a_random_quota_keeps_no_random_windows():
    design = SamplingDesign("d", LENGTH, 0, DEFAULT_QUOTAS)
    buffers = recorded(design, shards())
    for split, part in buffers.splits.items():
        per_unit = np.bincount(part.samples.unit[part.samples.group == RANDOM], minlength=6)
        assert per_unit.tolist() == [design.quotas[split].random] * 6
