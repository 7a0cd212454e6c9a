"""What makes a silent window hard for a unit, known before the window is seen.

A window on which a unit is silent is a hard negative where

    beside       the unit is active elsewhere in the same sequence
    neighbour    the unit that writes in the nearest direction is active in the window
    top_token    the window holds one of the tokens with the unit's largest activations

taken in this order. The first is seen while recording. The second is known from the weights. The
third takes activations: those of a pilot, the first documents of the corpus (their order is that of
hashes, so they are a random part), of the split `explain` alone. The windows of the pilot itself
are no negatives of the third kind. So every window's place in the design is fixed before it is
seen, whatever the order of shards, and its probability of being drawn is known.
"""

from dataclasses import dataclass

import numpy as np

from autointerp.recording.samples import runs
from autointerp.recording.statistics import TokenTable
from autointerp.units import UnitSource
from autointerp.units.nearest import NearestUnits

HARD_TOKENS = 3
"""Top tokens of a unit that make a silent window hard."""

MIN_COSINE = 0.2
"""A nearest direction with a smaller cosine is no neighbour: in a few hundred dimensions chance
gives as much."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest unit of every unit of a source, in recording order."""

    nearest: np.ndarray
    """[n_units] int64 number of a unit of the source; -1 where none is near or known."""
    cosine: np.ndarray
    """[n_units] float32, of the nearest; 0 where none is known."""

    @classmethod
    def none(cls, n_units: int) -> "Neighbours":
        """No unit has a neighbour."""
        return cls(np.full(n_units, -1, np.int64), np.zeros(n_units, np.float32))

    def part(self, rows: slice) -> "Neighbours":
        """The neighbours of some units."""
        return Neighbours(self.nearest[rows], self.cosine[rows])

    @classmethod
    def of(cls, source: UnitSource, nearest: NearestUnits | None = None) -> "Neighbours":
        """Neighbours by decoder cosine; the negative side of a signed unit writes backwards.

        Args:
            nearest: may have found them already.

        Raises:
            AutointerpError: where directions are not finite.
        """
        n, sides = source.n_units, source.polarities
        near = (nearest or NearestUnits(1)).of(source)
        if near is None:
            return cls.none(n * len(sides))
        index = near.indices[:, 0].numpy()
        cosine = near.cosines[:, 0].numpy()
        if -1 not in sides:
            return cls(np.where(cosine >= MIN_COSINE, index, -1), cosine)
        size = np.abs(cosine)
        sign = np.where(cosine < 0, -1, 1)
        rows = [index + n * np.where(sign * side == sides[0], 0, 1) for side in sides]
        return cls(
            np.concatenate([np.where(size >= MIN_COSINE, row, -1) for row in rows]),
            np.tile(size, len(sides)),
        )


@dataclass(frozen=True)
class TopTokenIndex:
    """For every token of the vocabulary, the units that have it as a top token."""

    starts: np.ndarray
    """[vocabulary + 1] int64: the units of token t are units[starts[t]:starts[t + 1]]."""
    units: np.ndarray
    """[n] int32."""
    tokens: np.ndarray
    """[n_units, HARD_TOKENS] int32 top tokens in the pilot, -1 where there are fewer."""

    @classmethod
    def of(cls, tokens: np.ndarray, vocabulary_size: int) -> "TopTokenIndex":
        """Index [n_units, HARD_TOKENS] token ids, -1 where there are fewer."""
        unit, place = np.nonzero(tokens >= 0)
        ids = tokens[unit, place]
        order = np.argsort(ids, kind="stable")
        starts = np.searchsorted(ids[order], np.arange(vocabulary_size + 1))
        return cls(starts, unit[order].astype(np.int32), tokens)

    @classmethod
    def of_pilot(cls, table: TokenTable, vocabulary_size: int) -> "TopTokenIndex":
        """The tokens with the largest activations, by what the pilot left in a table.

        Largest maxima, not means: those are exact however the pilot was cut into batches.
        """
        order = np.lexsort((table.tokens, -table.maxima), axis=1)[:, :HARD_TOKENS]
        return cls.of(np.take_along_axis(table.tokens, order, axis=1), vocabulary_size)

    def marks(self, ids: np.ndarray, masked: np.ndarray) -> np.ndarray:
        """[n_windows, n_units] bool: whether a window holds a top token of a unit.

        Args:
            ids: [n_windows, window_length].
            masked: [n_windows, window_length] tokens that do not count.
        """
        marked = np.zeros((len(ids), len(self.tokens)), bool)
        window, position = np.nonzero(~masked)
        found = ids[window, position]
        counts = self.starts[found + 1] - self.starts[found]
        units = self.units[runs(self.starts[found], counts)]
        marked[np.repeat(window, counts), units] = True
        return marked


@dataclass(frozen=True)
class Hardness:
    """What is known of the recorded units of one source before a shard is recorded."""

    neighbours: Neighbours
    top_tokens: TopTokenIndex | None = None
    """`None` while the pilot is recorded."""
