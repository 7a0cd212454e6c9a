"""Which windows of a batch may enter the samples of their units, and the counts they add to."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from autointerp.recording.activity import Activity, Tokens
from autointerp.recording.buffers import Buffers
from autointerp.recording.design import SILENT_SHARE
from autointerp.recording.hardness import TopTokenIndex
from autointerp.recording.samples import (
    BESIDE,
    N_GROUPS,
    NEIGHBOUR,
    RANDOM,
    TOKENS,
    TOP,
    Samples,
    lowered,
    top_keys,
    window_keys,
)
from autointerp.recording.statistics import bucket_of
from autointerp.records import SPLITS


@dataclass(frozen=True)
class WindowFacts:
    """What is known of the windows of a batch without the subject, those of a split together."""

    numbers: np.ndarray
    """[n_windows] their numbers in the corpus."""
    hashes: np.ndarray
    """[n_windows] uint64."""
    sequence: np.ndarray
    """[n_windows] number of the sequence; those of one sequence stand together."""
    split: np.ndarray
    """[n_windows] position in SPLITS, ascending."""
    tokens: Tokens
    is_pilot: np.ndarray
    """[n_windows] bool: top tokens come from them."""

    def parts(self) -> list[tuple[int, slice]]:
        """(position in SPLITS, its windows) for every split that has any."""
        bounds = np.searchsorted(self.split, np.arange(len(SPLITS) + 1)).tolist()
        return [(place, slice(a, b)) for place, (a, b) in enumerate(pairwise(bounds)) if a < b]

    def part(self, windows: slice) -> "WindowFacts":
        """Some consecutive windows."""
        return WindowFacts(
            self.numbers[windows],
            self.hashes[windows],
            self.sequence[windows],
            self.split[windows],
            Tokens(self.tokens.ids[windows], self.tokens.masked[windows]),
            self.is_pilot[windows],
        )


def add_batch(
    buffers: Buffers,
    activity: Activity,
    facts: WindowFacts,
    neighbour_active: np.ndarray | None,
    top_tokens: TopTokenIndex | None,
    unit_hashes: np.ndarray,
    seed: int,
) -> None:
    """Add one batch of whole sequences to the buffers of a source, in place.

    Args:
        neighbour_active: [n_windows, n_units] bool: whether the nearest unit is active; `None`
            where no unit has a neighbour.
        unit_hashes: [n_units] uint64.
        seed: of the windows' keys.
    """
    largest = bucket_of(activity.maxima.max(axis=0, initial=0)).astype(np.int16)
    np.maximum(buffers.largest_bucket, largest, out=buffers.largest_bucket)
    for place, windows in facts.parts():
        part = buffers.splits[SPLITS[place]]
        own = facts.part(windows)
        activity.add_to(part.statistics, windows, own.tokens)
        np.maximum(
            part.statistics.maxima,
            activity.maxima[windows].max(axis=0),
            out=part.statistics.maxima,
        )
        part.statistics.add_tokens(own.tokens.ids[~own.tokens.masked], len(own.numbers))
        maxima = activity.maxima[windows]
        context = _context_maxima(maxima, own.sequence)
        home = home_groups(
            maxima,
            context,
            None if neighbour_active is None else neighbour_active[windows],
            _token_marks(own, top_tokens),
        )
        _count(part.group_counts, home)
        if not part.reservoir.capacity.any():
            continue
        keys = window_keys(unit_hashes, own.hashes, seed)
        window, unit, group, key = _candidates(
            maxima, home, keys, buffers.largest_bucket, part.reservoir.limits,
            part.reservoir.capacity,
        )  # fmt: skip
        part.reservoir.offer(
            _samples(activity, windows.start, own, home, context, window, unit, group, key)
        )
    buffers.trim_where_due()


def _context_maxima(maxima: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """[n_windows, n_units] the largest activation of the window's whole sequence."""
    is_first = np.r_[True, sequence[1:] != sequence[:-1]]
    per_sequence = np.maximum.reduceat(maxima, np.flatnonzero(is_first), axis=0)
    return per_sequence[np.cumsum(is_first) - 1]


def _token_marks(facts: WindowFacts, top_tokens: TopTokenIndex | None) -> np.ndarray | None:
    if top_tokens is None or facts.is_pilot.all():
        return None
    marks = top_tokens.marks(facts.tokens.ids, facts.tokens.masked)
    marks[facts.is_pilot] = False
    return marks


def home_groups(
    maxima: np.ndarray,
    context: np.ndarray,
    neighbour_active: np.ndarray | None,
    token_marks: np.ndarray | None,
) -> np.ndarray:
    """[n_windows, n_units] uint8: the group of the partition that every window counts in."""
    home = np.zeros(maxima.shape, np.uint8)
    silent = maxima <= 0
    # The weakest kind of hardness first: a stronger one takes its place.
    for marks, group in ((token_marks, TOKENS), (neighbour_active, NEIGHBOUR)):
        if marks is not None:
            home[marks & silent] = group
    active = np.flatnonzero(~silent)
    home.reshape(-1)[active] = bucket_of(maxima.reshape(-1)[active])
    home[(maxima <= np.float32(SILENT_SHARE) * context) & (context > 0)] = BESIDE
    return home


def _count(group_counts: np.ndarray, home: np.ndarray) -> None:
    """Add every window to the count of its home group."""
    n_windows, n_units = home.shape
    flat = np.flatnonzero(home)
    group = home.reshape(-1)[flat]
    np.add.at(group_counts.reshape(-1), flat % n_units * N_GROUPS + group, 1)
    group_counts[:, 0] += n_windows - np.count_nonzero(home, axis=0)


def _candidates(
    maxima: np.ndarray,
    home: np.ndarray,
    keys: np.ndarray,
    largest: np.ndarray,
    limits: np.ndarray,
    capacity: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Windows, units, groups and keys of what may enter the samples."""
    n_units = maxima.shape[1]
    upper = (keys >> np.uint64(32)).astype(np.uint32)
    flat_upper = upper.reshape(-1)
    found: list[tuple[np.ndarray, np.ndarray | int, np.ndarray]] = []

    # Groups without activations: a dense comparison with one limit per unit.
    empty_group = lowered(np.zeros(n_units, np.uint8), largest)
    empty_limit = limits[np.arange(n_units), empty_group]
    for group, limit in (
        (0, empty_limit),
        *((g, limits[:, g]) for g in (BESIDE, NEIGHBOUR, TOKENS)),
    ):
        passing = np.flatnonzero((upper <= limit) & (home == group))
        groups = empty_group[passing % n_units] if group == 0 else group
        found.append((passing, groups, flat_upper[passing]))

    # Buckets of active windows: looked up one by one.
    in_bucket = np.flatnonzero((home > 0) & (home < BESIDE))
    unit = in_bucket % n_units
    group = lowered(home.reshape(-1)[in_bucket], largest[unit])
    passes = flat_upper[in_bucket] <= limits[unit, group]
    in_bucket, group = in_bucket[passes], group[passes]
    found.append((in_bucket, group, flat_upper[in_bucket]))

    if capacity[TOP]:
        active = np.flatnonzero(maxima > 0)
        key = top_keys(maxima.reshape(-1)[active])
        passes = key <= limits[active % n_units, TOP]
        found.append((active[passes], TOP, key[passes]))
    if capacity[RANDOM]:
        # The other half of the hash: independent of the draws above.
        lower = keys.astype(np.uint32)
        passing = np.flatnonzero(lower <= limits[:, RANDOM])
        found.append((passing, RANDOM, lower.reshape(-1)[passing]))
    flat = np.concatenate([f for f, _, _ in found])
    group = np.concatenate([np.broadcast_to(np.asarray(g, np.uint8), f.shape) for f, g, _ in found])
    key = np.concatenate([k for _, _, k in found])
    return flat // n_units, flat % n_units, group, key


def _samples(
    activity: Activity,
    first: int,
    facts: WindowFacts,
    home: np.ndarray,
    context: np.ndarray,
    window: np.ndarray,
    unit: np.ndarray,
    group: np.ndarray,
    key: np.ndarray,
) -> Samples:
    """Candidates with their activations; `first` is the batch's number of the part's window 0."""
    flat = window * home.shape[1] + unit
    maximum = activity.maxima.reshape(-1)[flat + first * home.shape[1]]
    counts = np.zeros(len(window), np.uint16)
    active = np.flatnonzero(maximum > 0)
    found, position, value = activity.of(window[active] + first, unit[active])
    counts[active] = found
    return Samples(
        unit.astype(np.int32),
        group,
        home.reshape(-1)[flat],
        key,
        facts.numbers[window].astype(np.int32),
        maximum,
        context.reshape(-1)[flat],
        counts,
        position,
        (value / np.repeat(maximum[active], found)).astype(np.float16),
    )
