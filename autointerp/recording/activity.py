"""What the units of a source did on a batch of windows, from sparse or dense encodings.

Both forms answer the same three questions: the largest activation of every unit in every window,
what to add to the statistics of a split, and the activations of chosen units in chosen windows.
Sparse encodings are never spread out to [n_tokens, n_units]; dense ones are worked through in
chunks of units that stay in the processor's cache.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autointerp.recording.samples import runs
from autointerp.recording.statistics import N_BUCKETS, SplitAccumulator, bucket_of

_UNIT_CHUNK = 256
"""Units of a dense source worked on at a time: 2,000 tokens of them are 2 MB."""


class Activity(Protocol):
    """Activations >= 0 of all units on the windows of a batch, masked tokens left out."""

    maxima: np.ndarray
    """[n_windows, n_units] float32."""

    def add_to(self, statistics: SplitAccumulator, windows: slice, tokens: "Tokens") -> None:
        """Count the activations of consecutive windows."""
        ...

    def of(
        self, windows: np.ndarray, units: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Active tokens of n pairs: how many [n], their positions and values, end to end."""
        ...

    def part(self, units: slice) -> "Activity":
        """The same of some of the units."""
        ...


@dataclass(frozen=True)
class Tokens:
    """The tokens of consecutive windows."""

    ids: np.ndarray
    """[n_windows, window_length] int32."""
    masked: np.ndarray
    """[n_windows, window_length] bool."""


class SparseActivity:
    """From the triples (token, unit, value) that are not zero."""

    def __init__(
        self,
        tokens: np.ndarray,
        units: np.ndarray,
        values: np.ndarray,
        masked: np.ndarray,
        n_units: int,
    ) -> None:
        """Take triples [n] in any order; values > 0, tokens are rows of the flattened windows.

        Args:
            masked: [n_windows, window_length] tokens whose values are left out.
        """
        n_windows, self._length = masked.shape
        if masked.any():
            seen = ~masked.reshape(-1)[tokens]
            tokens, units, values = tokens[seen], units[seen], values[seen]
        window, position = np.divmod(tokens, self._length)
        pair = window * n_units + units
        code = pair * self._length + position
        order = np.argsort(code)
        self._n_units = n_units
        self._pair, self._unit = pair[order], units[order].astype(np.int32)
        self._token, self._value = tokens[order], values[order]
        self._position = position[order].astype(np.uint16)
        changes = np.flatnonzero(self._pair[1:] != self._pair[:-1]) + 1
        self._starts = np.r_[0, changes].astype(np.int64) if len(order) else changes
        self._masked = masked
        self._pairs = self._pair[self._starts]
        flat = np.zeros(n_windows * n_units, np.float32)
        if len(order):
            flat[self._pairs] = np.maximum.reduceat(self._value, self._starts)
        self.maxima = flat.reshape(n_windows, n_units)

    def part(self, units: slice) -> "SparseActivity":
        """The same of some of the units."""
        own = (self._unit >= units.start) & (self._unit < units.stop)
        n_units = units.stop - units.start
        return SparseActivity(
            self._token[own],
            self._unit[own].astype(np.int64) - units.start,
            self._value[own],
            self._masked,
            n_units,
        )

    def add_to(self, statistics: SplitAccumulator, windows: slice, tokens: Tokens) -> None:
        """Count the activations of consecutive windows."""
        bounds = np.asarray([windows.start, windows.stop]) * self._n_units
        first, last = np.searchsorted(self._pair, bounds)
        units, values = self._unit[first:last], self._value[first:last]
        n = self._n_units
        statistics.n_active += np.bincount(units, minlength=n)
        doubles = values.astype(np.float64)
        powers = doubles
        for row in statistics.power_sums:
            row += np.bincount(units, weights=powers, minlength=n)
            powers = powers * doubles
        flat = units.astype(np.int64) * N_BUCKETS + bucket_of(values)
        np.add.at(statistics.histogram.reshape(-1), flat, 1)
        place = self._token[first:last] - windows.start * self._length
        ids = tokens.ids.reshape(-1)[place]
        # One row per unit and token id: sums and largest values.
        size = len(statistics.token_counts)
        code = units.astype(np.int64) * size + ids
        order = np.argsort(code)
        code = code[order]
        if not len(code):
            return
        starts = np.flatnonzero(np.r_[True, code[1:] != code[:-1]])
        unit, token = np.divmod(code[starts], size)
        statistics.table.update(
            unit,
            token.astype(np.int32),
            np.add.reduceat(doubles[order], starts),
            np.maximum.reduceat(values[order], starts),
            statistics.token_counts,
        )

    def of(
        self, windows: np.ndarray, units: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Active tokens of n pairs: how many [n], their positions and values, end to end."""
        wanted = windows.astype(np.int64) * self._n_units + units
        counts = np.zeros(len(wanted), np.int64)
        active = np.flatnonzero(self.maxima.reshape(-1)[wanted] > 0)
        place = np.searchsorted(self._pairs, wanted[active])
        sizes = np.diff(np.r_[self._starts, len(self._pair)])
        counts[active] = sizes[place]
        values = runs(self._starts[place], sizes[place])
        return counts, self._position[values], self._value[values]


class DenseActivity:
    """From signed values of every index on every token; a polarity of -1 turns the sign."""

    def __init__(self, values: np.ndarray, masked: np.ndarray, polarities: tuple[int, ...]) -> None:
        """Take values [n_tokens, n] and set those of masked tokens to zero, in place."""
        n_windows, self._length = masked.shape
        values[masked.reshape(-1)] = 0
        self._values, self._polarities, self._masked = values, polarities, masked
        self._by_window: np.ndarray | None = None
        """[n_windows · n, window_length] the same values, a window of a unit in one piece."""
        n = values.shape[1]
        self.maxima = np.empty((n_windows, n * len(polarities)), np.float32)
        windows = values.reshape(n_windows, self._length, n)
        for rows, columns, sign in self._chunks():
            part = windows[:, :, columns]
            found = part.max(axis=1) if sign > 0 else -part.min(axis=1)
            # Adding zero turns -0.0 into 0.0: its bits would pass for a large number.
            self.maxima[:, rows] = np.maximum(found, 0) + np.float32(0)

    def part(self, units: slice) -> "DenseActivity":
        """The same of some of the units, which lie on one side."""
        n = self._values.shape[1]
        side = units.start // n
        columns = slice(units.start - side * n, units.stop - side * n)
        values = np.ascontiguousarray(self._values[:, columns])
        return DenseActivity(values, self._masked, (self._polarities[side],))

    def _chunks(self) -> list[tuple[slice, slice, int]]:
        """(units, columns, polarity), a few hundred units at a time."""
        n = self._values.shape[1]
        return [
            (slice(side * n + a, side * n + b), slice(a, b), sign)
            for side, sign in enumerate(self._polarities)
            for a in range(0, n, _UNIT_CHUNK)
            for b in [min(a + _UNIT_CHUNK, n)]
        ]

    def add_to(self, statistics: SplitAccumulator, windows: slice, tokens: Tokens) -> None:
        """Count the activations of consecutive windows."""
        rows = np.flatnonzero(~tokens.masked.reshape(-1))
        ids = tokens.ids.reshape(-1)[rows]
        order = np.argsort(ids, kind="stable")
        unique, starts = np.unique(ids[order], return_index=True)
        if not len(rows):
            return
        row_of = np.full(len(statistics.token_counts) + 1, -1, np.int64)
        row_of[unique] = np.arange(len(unique))
        rows = (rows + windows.start * self._length)[order]
        for units, columns, sign in self._chunks():
            values = self._values[rows, columns]
            x = np.maximum(values if sign > 0 else -values, 0)
            _add_moments(statistics, units, x)
            sums = np.add.reduceat(x, starts, axis=0)
            maxima = np.maximum.reduceat(x, starts, axis=0)
            table = statistics.table
            wanted = maxima > table.floor(units)
            held = row_of[table.tokens[units]]
            unit_of, _ = np.nonzero(held >= 0)
            wanted[held[held >= 0], unit_of] = True
            wanted &= maxima > 0
            unit, row = np.nonzero(wanted.T)
            table.update(
                unit + units.start,
                unique[row].astype(np.int32),
                sums[row, unit].astype(np.float64),
                maxima[row, unit],
                statistics.token_counts,
            )

    def of(
        self, windows: np.ndarray, units: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Active tokens of n pairs: how many [n], their positions and values, end to end."""
        n = self._values.shape[1]
        side, column = np.divmod(units, n)
        if self._by_window is None:
            windows_first = self._values.reshape(-1, self._length, n).transpose(0, 2, 1)
            self._by_window = np.ascontiguousarray(windows_first).reshape(-1, self._length)
        found = self._by_window[windows.astype(np.int64) * n + column]
        if -1 in self._polarities:
            found *= np.asarray(self._polarities, np.float32)[side][:, None]
        active = found > 0
        counts = np.count_nonzero(active, axis=1)
        flat = np.flatnonzero(active)
        position = flat - np.repeat(np.arange(len(found)) * self._length, counts)
        return counts, position.astype(np.uint16), found.reshape(-1)[flat]


def _add_moments(statistics: SplitAccumulator, units: slice, x: np.ndarray) -> None:
    """Add the counts, powers and histogram of activations x [n_tokens, n_units of the slice]."""
    n_tokens, n = x.shape
    n_active = np.count_nonzero(x, axis=0)
    statistics.n_active[units] += n_active
    # float32 within a batch of a few thousand, float64 across: a relative error of 1e-6.
    squares = x * x
    for row, powers in enumerate((x, squares, squares * x, squares * squares)):
        statistics.power_sums[row, units] += powers.sum(axis=0)
    flat = bucket_of(x)
    flat += np.arange(n, dtype=np.int32) * N_BUCKETS
    counts = np.bincount(flat.reshape(-1), minlength=n * N_BUCKETS).reshape(n, N_BUCKETS)
    # Zeros fell into the first bucket.
    counts[:, 0] -= n_tokens - n_active
    statistics.histogram[units] += counts
