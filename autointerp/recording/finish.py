"""From what a pass has kept to unit records: the second phase of sampling, and the rows."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from autointerp.recording.buffers import Buffers
from autointerp.recording.design import SILENT_SHARE, SamplingDesign, stratum_of
from autointerp.recording.samples import (
    N_GROUPS,
    RANDOM,
    TOP,
    Samples,
    lowered,
)
from autointerp.recording.statistics import SHOWN_TOKENS
from autointerp.recording.windows import WindowTable
from autointerp.records import (
    ActivationRecord,
    Split,
    Strata,
    UnitId,
    UnitRecord,
    derived_seed,
)
from autointerp.units import UnitSource
from autointerp.units.base import unit_rows


def finish(
    buffers: Buffers,
    windows: WindowTable,
    source: UnitSource,
    design: SamplingDesign,
    vocabulary: list[str],
) -> Iterator[UnitRecord]:
    """Unit records in recording order; a unit dead in `explain` has statistics and no records."""
    rows = {
        split: np.searchsorted(part.samples.unit, np.arange(len(buffers.largest_bucket) + 1))
        for split, part in buffers.splits.items()
    }
    for row, unit in enumerate(unit_rows(source)):
        statistics = {
            split: part.statistics.of_unit(row, vocabulary)
            for split, part in buffers.splits.items()
        }
        for split in statistics.keys() - {Split.EXPLAIN}:
            shown = statistics[split].top_tokens[:SHOWN_TOKENS]
            statistics[split] = replace(statistics[split], top_tokens=shown)
        explain_maximum = statistics[Split.EXPLAIN].maximum
        records: list[ActivationRecord] = []
        for split, part in buffers.splits.items():
            if explain_maximum <= 0:
                break
            samples = part.samples.take(np.arange(rows[split][row], rows[split][row + 1]))
            n_windows = int(part.statistics.n_windows)
            counts = part.group_counts[row]
            chosen = draw(
                samples,
                counts,
                n_windows,
                int(buffers.largest_bucket[row]),
                explain_maximum,
                design,
                split,
                unit,
            )
            records += [
                _record(unit, split, samples, place, stratum, probability, windows, vocabulary)
                for place, stratum, probability in chosen
            ]
        yield UnitRecord(unit, tuple(records), statistics)


def draw(
    samples: Samples,
    counts: np.ndarray,
    n_windows: int,
    largest_bucket: int,
    explain_maximum: float,
    design: SamplingDesign,
    split: Split,
    unit: UnitId,
) -> list[tuple[int, str, float]]:
    """Second phase: sort one unit's kept windows of a split into strata and draw the quotas.

    Args:
        samples: the unit's samples in this split.
        counts: [N_GROUPS] windows seen in every home group, before pooling.
        n_windows: all windows of the split.

    Returns:
        (position in `samples`, stratum, inclusion probability). Over the partition (all strata but
        `random`) the sum of y / probability is an unbiased estimate of the sum of y over all
        windows, for any y, where every stratum has a quota (Horvitz and Thompson 1952).
    """
    top = np.flatnonzero(samples.group == TOP)
    passing = samples.maximum[top] > SILENT_SHARE * explain_maximum
    top = top[passing]
    chosen = [(int(place), Strata.TOP, 1.0) for place in top]
    random = np.flatnonzero(samples.group == RANDOM)
    chosen += [(int(place), Strata.RANDOM, len(random) / n_windows) for place in random]

    # First phase: what is left of every group when the top windows are taken out.
    groups = lowered(np.arange(N_GROUPS, dtype=np.int16), np.full(N_GROUPS, largest_bucket))
    seen = np.zeros(N_GROUPS, np.int64)
    np.add.at(seen, groups, counts)
    seen_top = np.bincount(groups[samples.home[top]], minlength=N_GROUPS)
    in_partition = (samples.group != TOP) & (samples.group != RANDOM)
    is_top = np.isin(samples.window, samples.window[top])
    pool = np.flatnonzero(in_partition & ~is_top)
    kept = np.bincount(samples.group[pool], minlength=N_GROUPS)
    capacity = design.kept_per_bucket(split)
    first_phase = {
        group: float(kept[group] / (seen[group] - seen_top[group]))
        * (1 - _chance_of_none(int(seen[group]), int(seen_top[group]), capacity))
        for group in np.flatnonzero(kept).tolist()
    }
    strata: dict[str, list[int]] = {}
    for place in pool.tolist():
        name = stratum_of(
            float(samples.maximum[place]),
            explain_maximum,
            active_in_sequence=float(samples.context_maximum[place])
            > SILENT_SHARE * explain_maximum,
        )
        strata.setdefault(name, []).append(place)

    seed = derived_seed(design.seed, "draw", unit, split)
    generator = np.random.default_rng(seed)
    owed = max(0, design.quotas[split].top - len(top))
    for names, wanted in design.draws(split):
        found = sorted(
            (int(samples.window[place]), place, name)
            for name in names
            for place in strata.get(name, [])
        )
        take = min(wanted + owed, len(found))
        owed = wanted + owed - take
        for drawn in generator.permutation(len(found))[:take].tolist():
            _, place, name = found[drawn]
            probability = first_phase[int(samples.group[place])] * take / len(found)
            chosen.append((place, name, probability))
    return chosen


def _chance_of_none(n_seen: int, n_top: int, capacity: int) -> float:
    """Chance that a group's `capacity` random windows of `n_seen` are all among its `n_top`.

    Then nothing stands for the others, so where something does it stands for a little more.
    """
    if n_top < capacity or n_seen <= capacity:
        return 0.0
    return math.prod((n_top - i) / (n_seen - i) for i in range(capacity))


def _record(
    unit: UnitId,
    split: Split,
    samples: Samples,
    place: int,
    stratum: str,
    probability: float,
    windows: WindowTable,
    vocabulary: list[str],
) -> ActivationRecord:
    number = int(samples.window[place])
    sequence = windows.sequences[windows.sequence[number]]
    window = windows.window(number)
    span = slice(window.start, window.stop)
    return ActivationRecord(
        unit=unit,
        window=window,
        document_id=sequence.document_id,
        split=split,
        stratum=stratum,
        probability=probability,
        tokens=tuple(vocabulary[i] for i in sequence.token_ids[span].tolist()),
        activations=samples.maximum[place] * samples.activations[place].astype(np.float32),
        masked=sequence.masked[span],
    )
