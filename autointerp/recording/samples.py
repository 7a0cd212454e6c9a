"""The sampled windows of all units of a source in one split, while the corpus streams by.

A flat table of samples. Every sample belongs to one group of its unit: a half-octave bucket of its
maximum, or one of the six below. A group keeps the samples with the smallest keys. Merging two
tables is: put them together, keep the smallest keys of every group. So the result depends on the
set of windows alone, not on their order, batches or shards.

Activations are kept sparse: a window holds only the tokens on which its unit is active.
"""

from dataclasses import dataclass, fields

import numpy as np

from autointerp.recording.design import LIVE_BUCKETS
from autointerp.recording.statistics import N_BUCKETS

LOW = N_BUCKETS
"""Group of windows more than LIVE_BUCKETS half octaves under the unit's largest maximum."""
BESIDE = N_BUCKETS + 1
"""Group of windows silent themselves, in a sequence where the unit is active."""
NEIGHBOUR = N_BUCKETS + 2
"""Group of other windows without an activation, on which the nearest unit is active."""
TOKENS = N_BUCKETS + 3
"""Group of the windows without an activation left, that hold a top token of the unit."""
RANDOM = N_BUCKETS + 4
"""Group that every window enters: a simple random sample of all."""
TOP = N_BUCKETS + 5
"""Group kept by largest maximum instead of by random key."""
N_GROUPS = N_BUCKETS + 6

LAST_KEY = 2**32 - 1


@dataclass
class Samples:
    """Parallel arrays, one entry per sampled window, and the activations of all end to end."""

    unit: np.ndarray
    """[n] int32 row of the unit."""
    group: np.ndarray
    """[n] uint8 group the sample is kept in."""
    home: np.ndarray
    """[n] uint8 group of the partition that the window counts in: not RANDOM, not TOP."""
    key: np.ndarray
    """[n] uint32 random, or descending with the maximum in group TOP: the smallest are kept."""
    window: np.ndarray
    """[n] int32 number of the window in the corpus."""
    maximum: np.ndarray
    """[n] float32."""
    context_maximum: np.ndarray
    """[n] float32 largest activation in the whole sequence."""
    n_active: np.ndarray
    """[n] uint16 tokens with an activation > 0."""
    position: np.ndarray
    """[n_active.sum()] uint16 their places in the window, ascending."""
    share: np.ndarray
    """[n_active.sum()] float16 their activations, as shares of `maximum`."""

    @classmethod
    def empty(cls) -> "Samples":
        """No samples."""
        return cls(
            np.zeros(0, np.int32),
            np.zeros(0, np.uint8),
            np.zeros(0, np.uint8),
            np.zeros(0, np.uint32),
            np.zeros(0, np.int32),
            np.zeros(0, np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.uint16),
            np.zeros(0, np.uint16),
            np.zeros(0, np.float16),
        )

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    def take(self, index: np.ndarray) -> "Samples":
        """The samples at `index` (positions or a mask)."""
        if index.dtype == bool:
            index = np.flatnonzero(index)
        ends = np.cumsum(self.n_active, dtype=np.int64)
        counts = self.n_active[index]
        values = runs(ends[index] - counts, counts)
        own = {f.name: getattr(self, f.name)[index] for f in fields(self)[:-2]}
        return Samples(**own, position=self.position[values], share=self.share[values])

    @classmethod
    def joined(cls, parts: list["Samples"]) -> "Samples":
        """All samples of several tables."""
        if len(parts) == 1:
            return parts[0]
        names = [f.name for f in fields(cls)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})

    def trim(self, capacity: np.ndarray, largest_bucket: np.ndarray) -> "Samples":
        """Move samples under the live buckets to LOW and keep the smallest keys of every group.

        Args:
            capacity: [N_GROUPS] samples a group keeps.
            largest_bucket: [n_units] the highest bucket any split has seen of each unit.
        """
        self.group = lowered(self.group, largest_bucket[self.unit])
        return self.take(smallest_keys(self.unit, self.group, self.key, self.window, capacity))

    def dense(self, window_length: int) -> np.ndarray:
        """[n, window_length] float32 activations."""
        found = np.zeros((len(self), window_length), np.float32)
        row = np.repeat(np.arange(len(self)), self.n_active)
        found[row, self.position] = self.maximum[row] * self.share.astype(np.float32)
        return found


class Reservoir:
    """The samples of one split, with those offered since they were last trimmed."""

    def __init__(self, n_units: int, capacity: np.ndarray, samples: Samples | None = None) -> None:
        self.capacity = capacity
        self._trimmed = Samples.empty()
        self._offered: list[Samples] = [] if samples is None else [samples]
        self._n_offered = 0
        self.limits = np.full((n_units, N_GROUPS), LAST_KEY, np.uint32)
        """[n_units, N_GROUPS] a sample with a larger key cannot enter its group."""
        self.limits[:, capacity == 0] = 0

    def offer(self, samples: Samples) -> None:
        """Samples that may enter. Those that cannot are dropped when `trim` comes by."""
        self._offered.append(samples)
        self._n_offered += len(samples)

    @property
    def is_due(self) -> bool:
        """Whether so much was offered that trimming pays: the work stays linear in what enters."""
        return self._n_offered > max(_FEW, len(self._trimmed) // 2)

    def trim(self, largest_bucket: np.ndarray) -> Samples:
        """Trim, renew the limits, and return what is kept, ordered by unit, group and key."""
        joined = Samples.joined([self._trimmed, *self._offered])
        self._offered, self._n_offered, self._trimmed = [], 0, Samples.empty()
        self._trimmed = joined.trim(self.capacity, largest_bucket)
        self._renew_limits()
        return self._trimmed

    def _renew_limits(self) -> None:
        kept = self._trimmed
        flat = kept.unit.astype(np.int64) * N_GROUPS + kept.group
        last = np.flatnonzero(np.r_[flat[1:] != flat[:-1], True]) if len(flat) else flat
        sizes = np.diff(np.r_[-1, last])
        full = sizes >= self.capacity[kept.group[last]]
        self.limits[:] = LAST_KEY
        self.limits[:, self.capacity == 0] = 0
        self.limits.reshape(-1)[flat[last[full]]] = kept.key[last[full]]


_FEW = 200_000
"""Offered samples that are never worth trimming for: a few megabytes."""


def lowered(group: np.ndarray, largest_bucket: np.ndarray) -> np.ndarray:
    """The group after pooling: buckets too far under the largest become LOW."""
    floor = np.maximum(largest_bucket, LIVE_BUCKETS) - LIVE_BUCKETS
    too_low = (group <= floor) & (group < N_BUCKETS) & (largest_bucket >= LIVE_BUCKETS)
    return np.where(too_low, np.uint8(LOW), group.astype(np.uint8))


def smallest_keys(
    unit: np.ndarray, group: np.ndarray, key: np.ndarray, window: np.ndarray, capacity: np.ndarray
) -> np.ndarray:
    """Positions of the samples to keep, ordered by unit, group, key (ties by window)."""
    flat = unit.astype(np.uint64) << np.uint64(8) | group.astype(np.uint64)
    order = ordered_by(flat << np.uint64(32) | key.astype(np.uint64), window)
    group_of = flat[order]
    first = np.r_[True, group_of[1:] != group_of[:-1]] if len(order) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    rank = np.arange(len(order)) - starts[np.cumsum(first) - 1]
    return order[rank < capacity[group[order]]]


def ordered_by(code: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Positions by ascending code [n]; equal ones by `ties` [n]. Fast where few are equal."""
    order = np.argsort(code)
    ordered = code[order]
    equal = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(equal):
        in_tie = np.unique(np.concatenate([equal, equal + 1]))
        chosen = order[in_tie]
        order[in_tie] = chosen[np.lexsort((ties[chosen], code[chosen]))]
    return order


def runs(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, … (counts[0] of them), starts[1], … as one array."""
    counts = counts.astype(np.int64)
    before = np.cumsum(counts) - counts
    return np.repeat(starts.astype(np.int64) - before, counts) + np.arange(int(counts.sum()))


def top_keys(maxima: np.ndarray) -> np.ndarray:
    """uint32 keys of positive float32 maxima: the larger a maximum, the smaller its key."""
    return np.uint32(LAST_KEY) - np.ascontiguousarray(maxima, np.float32).view(np.uint32)


def window_keys(units: np.ndarray, windows: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [n_windows, n_units]: a hash of seed, unit and window alone, uniform.

    The upper 32 bits are the key of the partition's groups, the lower 32 that of the random sample,
    which must not depend on the partition's draws.

    Args:
        units: [n_units] uint64 hash of each unit's id.
        windows: [n_windows] uint64 hash of each window's sequence and place.
    """
    offset = _offset(seed)
    hashed = np.empty((len(windows), len(units)), np.uint64)
    scratch = np.empty(len(units), np.uint64)
    # Row by row: what is worked on stays in the processor's cache.
    for row, window in zip(hashed, windows * _GOLDEN, strict=True):
        np.bitwise_xor(units, window, out=row)
        _mix(row, scratch, offset)
    return hashed


def pair_keys(units: np.ndarray, windows: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [n]: `window_keys` of pairs of a unit and a window."""
    hashed = units ^ (windows * _GOLDEN)
    _mix(hashed, np.empty_like(hashed), _offset(seed))
    return hashed


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _offset(seed: int) -> np.uint64:
    return np.uint64((seed * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) % 2**64)


def _mix(x: np.ndarray, scratch: np.ndarray, offset: np.uint64) -> None:
    """SplitMix64 (Steele et al. 2014) of x + offset, in place."""
    x += offset
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        np.right_shift(x, np.uint64(shift), out=scratch)
        x ^= scratch
        if factor != 1:
            x *= np.uint64(factor)
