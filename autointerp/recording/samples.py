"""The sampled windows of all units of a source in one split, while the corpus streams by.

A flat table of samples. Every sample belongs to one group of its unit: a half-octave bucket of its
maximum, or one of the four below. A group keeps the samples with the smallest keys. Merging two
tables is: put them together, keep the smallest keys of every group. So the result depends on the
set of windows alone, not on their order, batches or shards.
"""

from dataclasses import dataclass, fields

import numpy as np

from autointerp.recording.design import LIVE_BUCKETS
from autointerp.recording.statistics import N_BUCKETS

LOW = N_BUCKETS
"""Group of windows more than LIVE_BUCKETS half octaves under the unit's largest maximum."""
BESIDE = N_BUCKETS + 1
"""Group of windows silent themselves, in a sequence where the unit is active."""
RANDOM = N_BUCKETS + 2
"""Group that every window enters: a simple random sample of all."""
TOP = N_BUCKETS + 3
"""Group kept by largest maximum instead of by random key."""
N_GROUPS = N_BUCKETS + 4


@dataclass
class Samples:
    """Parallel arrays, one entry per sampled window."""

    unit: np.ndarray
    """[n] int32 row of the unit."""
    group: np.ndarray
    """[n] int16 group the sample is kept in."""
    home: np.ndarray
    """[n] int16 half-octave bucket or BESIDE: the group of the partition the window counts in."""
    key: np.ndarray
    """[n] float64 random in [0, 1), or minus the maximum in group TOP: the smallest are kept."""
    window: np.ndarray
    """[n] int32 number of the window in the corpus."""
    maximum: np.ndarray
    """[n] float32."""
    context_maximum: np.ndarray
    """[n] float32 largest activation in the whole sequence."""
    activations: np.ndarray
    """[n, window_length] float16, as shares of `maximum`."""

    @classmethod
    def empty(cls, window_length: int) -> "Samples":
        """No samples."""
        return cls(
            np.zeros(0, np.int32),
            np.zeros(0, np.int16),
            np.zeros(0, np.int16),
            np.zeros(0, np.float64),
            np.zeros(0, np.int32),
            np.zeros(0, np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, window_length), np.float16),
        )

    def __len__(self) -> int:
        return len(self.unit)

    def take(self, index: np.ndarray) -> "Samples":
        """The samples at `index` (positions or a mask)."""
        return Samples(*(getattr(self, f.name)[index] for f in fields(self)))

    def merge(
        self, other: "Samples", capacity: np.ndarray, largest_bucket: np.ndarray
    ) -> "Samples":
        """The samples of both.

        Args:
            capacity: [N_GROUPS] samples a group keeps.
            largest_bucket: [n_units] the highest bucket any split has seen of each unit.
        """
        both = Samples(
            *(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self))
        )
        return both.trim(capacity, largest_bucket)

    def trim(self, capacity: np.ndarray, largest_bucket: np.ndarray) -> "Samples":
        """Move samples under the live buckets to LOW and keep the smallest keys of every group."""
        group = lowered(self.group, largest_bucket[self.unit])
        kept = smallest_keys(self.unit, group, self.key, self.window, capacity)
        chosen = self.take(kept)
        chosen.group = group[kept]
        return chosen

    def thresholds(self, n_units: int, capacity: np.ndarray) -> np.ndarray:
        """[n_units, N_GROUPS] key that a new sample must stay under; infinite while not full."""
        limits = np.full((n_units, N_GROUPS), np.inf)
        flat = self.unit.astype(np.int64) * N_GROUPS + self.group
        sizes = np.bincount(flat, minlength=n_units * N_GROUPS).reshape(n_units, N_GROUPS)
        largest = np.full(n_units * N_GROUPS, -np.inf)
        np.maximum.at(largest, flat, self.key)
        full = sizes >= capacity
        limits[full] = largest.reshape(n_units, N_GROUPS)[full]
        limits[:, capacity == 0] = -np.inf
        return limits


def lowered(group: np.ndarray, largest_bucket: np.ndarray) -> np.ndarray:
    """The group after pooling: buckets too far under the largest become LOW."""
    is_bucket = group < N_BUCKETS
    too_low = is_bucket & (group <= largest_bucket - LIVE_BUCKETS)
    return np.where(too_low, LOW, group).astype(np.int16)


def smallest_keys(
    unit: np.ndarray, group: np.ndarray, key: np.ndarray, window: np.ndarray, capacity: np.ndarray
) -> np.ndarray:
    """Positions of the samples to keep, ordered by unit, group, key (ties by window)."""
    flat = unit.astype(np.int64) * N_GROUPS + group
    order = np.lexsort((window, key, flat))
    ordered = flat[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else []
    sizes = np.diff(np.r_[starts, len(order)]).astype(np.int64)
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    return order[rank < capacity[group[order]]]


def window_keys(units: np.ndarray, windows: np.ndarray, seed: int) -> np.ndarray:
    """[n_windows, n_units] keys in [0, 1): a hash of seed, unit and window alone.

    Args:
        units: [n_units] uint64 hash of each unit's id.
        windows: [n_windows] uint64 hash of each window's sequence and place.
    """
    # SplitMix64 (Steele et al. 2014) of the combined hashes.
    with np.errstate(over="ignore"):
        x = units[None, :] ^ (windows[:, None] * np.uint64(0x9E3779B97F4A7C15))
        x = x + np.uint64((seed * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
