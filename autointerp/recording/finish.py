"""From what recording has kept to unit records: the second phase of sampling, and the rows.

All units are worked on together, a few thousand at a time: a dictionary has more records than a
loop over them has time for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autointerp.recording.design import SILENT_SHARE, SamplingDesign
from autointerp.recording.samples import (
    N_GROUPS,
    NEIGHBOUR,
    RANDOM,
    TOKENS,
    TOP,
    Samples,
    lowered,
    ordered_by,
    pair_keys,
)
from autointerp.recording.statistics import N_BUCKETS
from autointerp.records import HardBy, Split, Strata, derived_seed

STRATA: tuple[str, ...] = Strata.ordered()
"""Strata by the number that stands for them in `Drawn.stratum`."""

HARD_KINDS: tuple[HardBy, ...] = tuple(HardBy)
"""Kinds of hard windows by the number that stands for them in `Drawn.hard_by`."""

_HARD, _SILENT = STRATA.index(Strata.HARD), STRATA.index(Strata.SILENT)


@dataclass(frozen=True)
class Drawn:
    """Windows drawn for the records of some units in one split, ordered by unit."""

    place: np.ndarray
    """[n] positions in the samples."""
    stratum: np.ndarray
    """[n] positions in STRATA."""
    hard_by: np.ndarray
    """[n] positions in HARD_KINDS; -1 outside the stratum `hard`."""
    probability: np.ndarray
    """[n] float64 in (0, 1]."""


def draw(
    samples: Samples,
    counts: np.ndarray,
    n_windows: int,
    largest_bucket: np.ndarray,
    explain_maximum: np.ndarray,
    unit_hashes: np.ndarray,
    window_hashes: np.ndarray,
    design: SamplingDesign,
    split: Split,
) -> Drawn:
    """Second phase: sort the kept windows of a split into strata and draw the quotas.

    Over the partition (all strata but `random`) the sum of y / probability is an unbiased estimate
    of the sum of y over all windows, for any y, where every stratum has a quota (Horvitz and
    Thompson 1952). Units that are dead in `explain` get nothing.

    Args:
        samples: of this split; `unit` counts from 0 to n_units - 1.
        counts: [n_units, N_GROUPS] windows seen in every home group, before pooling.
        n_windows: all windows of the split.
        largest_bucket: [n_units].
        explain_maximum: [n_units] largest activation in `explain`.
        unit_hashes: [n_units] uint64.
        window_hashes: [n_samples] uint64.
    """
    unit = samples.unit.astype(np.int64)
    scale = explain_maximum.astype(np.float64)[unit]
    living = scale > 0
    bound = SILENT_SHARE * scale
    is_top = living & (samples.group == TOP) & (samples.maximum > bound)
    is_random = living & (samples.group == RANDOM)
    pool = living & (samples.group != TOP) & (samples.group != RANDOM)
    pool &= ~_same_windows(samples, is_top)
    first_phase = _first_phase(samples, counts, largest_bucket, is_top, pool, design, split)
    stratum, kind = _strata(samples, scale, bound)

    # Draws below `top`, most active first; what a draw lacks passes to the next.
    draw_of, wanted = _draw_numbers(design, split)
    place = np.flatnonzero(pool)
    number = draw_of[stratum[place], kind[place]]
    n_units, n_draws = len(counts), len(wanted)
    cell = unit[place] * n_draws + number
    found = np.bincount(cell, minlength=n_units * n_draws).reshape(n_units, n_draws)
    n_top = np.bincount(unit[is_top], minlength=n_units)
    owed = np.maximum(0, design.quotas[split].top - n_top)
    take = np.zeros_like(found)
    for column, n in enumerate(wanted):
        take[:, column] = np.minimum(n + owed, found[:, column])
        owed = n + owed - take[:, column]
    seed = derived_seed(design.seed, "draw", split)
    keys = pair_keys(unit_hashes[unit[place]], window_hashes[place], seed)
    code = cell.astype(np.uint64) << np.uint64(32) | keys >> np.uint64(32)
    order = ordered_by(code, samples.window[place])
    rank = np.arange(len(order)) - (np.cumsum(found.reshape(-1)) - found.reshape(-1))[cell[order]]
    chosen = order[rank < take.reshape(-1)[cell[order]]]
    drawn, drawn_cell = place[chosen], cell[chosen]
    share = take.reshape(-1)[drawn_cell] / found.reshape(-1)[drawn_cell]
    probability = first_phase[unit[drawn], samples.group[drawn]] * share

    top, random = np.flatnonzero(is_top), np.flatnonzero(is_random)
    n_random = np.bincount(unit[random], minlength=n_units)
    places = np.concatenate([top, drawn, random])
    strata = np.concatenate(
        [
            np.zeros(len(top), np.int64),
            stratum[drawn],
            np.full(len(random), STRATA.index(Strata.RANDOM)),
        ]
    )
    hard_by = np.where(strata == _HARD, kind[places], -1)
    probabilities = np.concatenate(
        [np.ones(len(top)), probability, n_random[unit[random]] / max(1, n_windows)]
    )
    by_unit = np.lexsort((samples.window[places], -samples.maximum[places], strata, unit[places]))
    return Drawn(places[by_unit], strata[by_unit], hard_by[by_unit], probabilities[by_unit])


def _same_windows(samples: Samples, chosen: np.ndarray) -> np.ndarray:
    """[n] whether a sample is of the same unit and window as one of the chosen."""
    code = samples.unit.astype(np.int64) << 32 | samples.window
    wanted = np.sort(code[chosen])
    if not len(wanted):
        return np.zeros(len(code), bool)
    place = np.minimum(np.searchsorted(wanted, code), len(wanted) - 1)
    return wanted[place] == code


def _first_phase(
    samples: Samples,
    counts: np.ndarray,
    largest_bucket: np.ndarray,
    is_top: np.ndarray,
    pool: np.ndarray,
    design: SamplingDesign,
    split: Split,
) -> np.ndarray:
    """[n_units, N_GROUPS] chance of a window to be kept, the top windows taken out."""
    n_units = len(counts)
    buckets = np.broadcast_to(np.arange(N_BUCKETS, dtype=np.uint8), (n_units, N_BUCKETS))
    pooled = lowered(buckets, largest_bucket[:, None]) != buckets
    seen = counts.copy()
    seen[:, N_BUCKETS] += np.where(pooled, counts[:, :N_BUCKETS], 0).sum(axis=1)
    seen[:, :N_BUCKETS][pooled] = 0

    def per_group(unit: np.ndarray, group: np.ndarray) -> np.ndarray:
        flat = unit.astype(np.int64) * N_GROUPS + group
        return np.bincount(flat, minlength=n_units * N_GROUPS).reshape(n_units, N_GROUPS)

    top_unit = samples.unit[is_top]
    seen_top = per_group(top_unit, lowered(samples.home[is_top], largest_bucket[top_unit]))
    kept = per_group(samples.unit[pool], samples.group[pool])
    chance = kept / np.maximum(1, seen - seen_top)
    return chance * (1 - _chance_of_none(seen, seen_top, design.kept_per_bucket(split)))


def _chance_of_none(n_seen: np.ndarray, n_top: np.ndarray, capacity: int) -> np.ndarray:
    """Chance that a group's `capacity` random windows of `n_seen` are all among its `n_top`.

    Then nothing stands for the others, so where something does it stands for a little more.
    """
    chance = np.where((n_top < capacity) | (n_seen <= capacity), 0.0, 1.0)
    open_cells = chance > 0
    seen, top = n_seen[open_cells], n_top[open_cells]
    product = np.ones(len(seen))
    for i in range(capacity if len(seen) else 0):
        product *= (top - i) / (seen - i)
    chance[open_cells] = product
    return chance


def _strata(
    samples: Samples, scale: np.ndarray, bound: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[n] stratum of every sample by its value, and [n] what would make it hard (0 to 2)."""
    maximum = samples.maximum.astype(np.float64)
    share = Strata.N_INTERVALS * maximum / np.where(scale > 0, scale, 1)
    interval = np.clip(np.ceil(share), 1, Strata.N_INTERVALS).astype(np.int64)
    stratum = 1 + Strata.N_INTERVALS - interval
    kind = np.full(len(maximum), HARD_KINDS.index(HardBy.BESIDE), np.int64)
    beside = samples.context_maximum > bound
    neighbour = ~beside & (samples.home == NEIGHBOUR)
    top_token = ~beside & (samples.home == TOKENS)
    kind[neighbour] = HARD_KINDS.index(HardBy.NEIGHBOUR)
    kind[top_token] = HARD_KINDS.index(HardBy.TOP_TOKEN)
    silent = maximum <= bound
    stratum[silent] = np.where(beside | neighbour | top_token, _HARD, _SILENT)[silent]
    return stratum, kind


def _draw_numbers(design: SamplingDesign, split: Split) -> tuple[np.ndarray, list[int]]:
    """[n_strata, n_hard_kinds] the draw of every kind of window, and windows wanted per draw."""
    numbers = np.full((len(STRATA), len(HARD_KINDS)), -1, np.int64)
    wanted: list[int] = []
    for names, n in design.draws(split):
        if names == (Strata.HARD,):
            for kinds, n_hard in design.hard_draws(split):
                numbers[_HARD, [HARD_KINDS.index(kind) for kind in kinds]] = len(wanted)
                wanted.append(n_hard)
        else:
            numbers[[STRATA.index(name) for name in names]] = len(wanted)
            wanted.append(n)
    return numbers, wanted


def unit_ranges(n_units: int, size: int) -> Iterator[slice]:
    """Consecutive ranges of at most `size` units."""
    for start in range(0, n_units, size):
        yield slice(start, min(start + size, n_units))


def samples_of_units(samples: Samples, units: slice) -> Samples:
    """The samples of consecutive units, whose numbers count from the first of them."""
    first, last = np.searchsorted(samples.unit, [units.start, units.stop])
    own = samples.take(np.arange(first, last))
    own.unit = own.unit - np.int32(units.start)
    return own
