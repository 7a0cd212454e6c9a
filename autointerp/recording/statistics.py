"""Statistics of every unit and split from one pass: moments, histogram, top tokens.

Everything here is bounded by the number of units, never by the corpus or by units × vocabulary, and
adds up: the statistics of two shards merge into those of their union.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

N_BUCKETS = 128
"""Half octaves from 2^-32 to 2^32; values outside fall into the first or last."""

_FIRST_EXPONENT = -32

TRACKED_TOKENS = 40
"""Tokens per unit and split whose mean activation is tracked."""

SHOWN_TOKENS = 8
"""Of these, tokens kept in the records of splits other than `explain`: for display alone."""


def bucket_of(values: np.ndarray) -> np.ndarray:
    """Half octave of positive float32 values: [2^e, 1.5·2^e) and [1.5·2^e, 2^(e+1)) are one each.

    Read from the float's own bits (exponent and top mantissa bit): no logarithm is taken. Values
    that are zero or negative give 0.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.int32) >> 22
    bits -= 2 * (127 + _FIRST_EXPONENT)
    return np.clip(bits, 0, N_BUCKETS - 1, out=bits)


def bucket_edges() -> np.ndarray:
    """[N_BUCKETS] lower edge of every half octave."""
    exponents = _FIRST_EXPONENT + np.arange(N_BUCKETS) // 2
    return np.ldexp(np.where(np.arange(N_BUCKETS) % 2, 1.5, 1.0), exponents)


@dataclass
class TokenTable:
    """For each unit the tokens with the largest single activations, and their sums.

    A token whose mean is large has an activation at least as large, so the tokens with the highest
    means are looked for among those with the highest maxima. A token that is not in the table has
    a mean of at most the smallest maximum in it. Occurrences before a token entered the table are
    counted, with an upper bound on what each can have been: so both bounds of the mean are known.
    """

    tokens: np.ndarray
    """[n_units, TRACKED_TOKENS] int32; -1 where empty."""
    maxima: np.ndarray
    """[n_units, TRACKED_TOKENS] float32."""
    sums: np.ndarray
    """[n_units, TRACKED_TOKENS] float64: activations seen since the token entered."""
    missed: np.ndarray
    """[n_units, TRACKED_TOKENS] float64: upper bound of the activations before that."""

    @classmethod
    def empty(cls, n_units: int) -> "TokenTable":
        """A table that has seen nothing."""
        shape = (n_units, TRACKED_TOKENS)
        return cls(
            np.full(shape, -1, np.int32),
            np.zeros(shape, np.float32),
            np.zeros(shape),
            np.zeros(shape),
        )

    def update(
        self,
        units: np.ndarray,
        tokens: np.ndarray,
        sums: np.ndarray,
        maxima: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        """Add what was seen of some tokens, in place.

        Args:
            units: [n] ascending rows; each (unit, token) once. Tokens that the table holds must
                be here if they were active, others need not be where they do not pass `floor`.
            tokens: [n] ids.
            sums: [n] float64 their activations added up.
            maxima: [n] float32 > 0.
            counts: [vocabulary] occurrences seen before.
        """
        column = self._columns(units, tokens)
        held = column >= 0
        place = units[held] * TRACKED_TOKENS + column[held]
        self.sums.reshape(-1)[place] += sums[held]
        largest = self.maxima.reshape(-1)
        largest[place] = np.maximum(largest[place], maxima[held])
        if not len(units):
            return
        floor = self.floor(slice(int(units[0]), int(units[-1]) + 1))[units - units[0]]
        new = ~held & (maxima > floor)
        missed = floor[new] * counts[tokens[new]]
        self._insert(units[new], tokens[new], sums[new], maxima[new], missed)

    def _columns(self, units: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """[n] where each token stands in its unit's row, -1 where it does not."""
        column = np.empty(len(units), np.int64)
        for start in range(0, len(units), 8192):
            part = slice(start, start + 8192)
            same = self.tokens[units[part]] == tokens[part, None]
            found = same.argmax(axis=1)
            is_there = same[np.arange(len(found)), found]
            column[part] = np.where(is_there, found, -1)
        return column

    def _insert(
        self,
        units: np.ndarray,
        tokens: np.ndarray,
        sums: np.ndarray,
        maxima: np.ndarray,
        missed: np.ndarray,
    ) -> None:
        """Put new tokens into their units' rows and keep the largest maxima (ties: lower ids).

        Round by round: the first new token of every unit takes the place of the smallest in its
        row, if that is smaller, then the second, and so on. What stays are the largest of all.
        """
        if not len(units):
            return
        first = np.r_[True, units[1:] != units[:-1]]
        starts = np.flatnonzero(first)
        rank = np.arange(len(units)) - starts[np.cumsum(first) - 1]
        by_rank = np.argsort(rank, kind="stable")
        bounds = np.searchsorted(rank[by_rank], np.arange(int(rank.max()) + 2))
        for a, b in pairwise(bounds.tolist()):
            new = by_rank[a:b]
            row = units[new]
            column = self._smallest(row)
            worst = self.maxima[row, column]
            is_better = (maxima[new] > worst) | (
                (maxima[new] == worst) & (tokens[new] < self.tokens[row, column])
            )
            new = new[is_better]
            place = row[is_better] * TRACKED_TOKENS + column[is_better]
            for own, entering in (
                (self.tokens, tokens),
                (self.maxima, maxima),
                (self.sums, sums),
                (self.missed, missed),
            ):
                own.reshape(-1)[place] = entering[new]

    def _smallest(self, rows: np.ndarray) -> np.ndarray:
        """Column of the smallest maximum of each row; of equal ones the highest id, or the first
        that is empty."""
        maxima = self.maxima[rows]
        column = maxima.argmin(axis=1)
        is_smallest = maxima == maxima[np.arange(len(rows)), column][:, None]
        tied = np.flatnonzero(np.count_nonzero(is_smallest, axis=1) > 1)
        tied = tied[maxima[tied, column[tied]] > 0]
        if len(tied):
            ids = np.where(is_smallest[tied], self.tokens[rows[tied]], -1)
            column[tied] = ids.argmax(axis=1)
        return column

    def merge(
        self, other: "TokenTable", counts: np.ndarray, other_counts: np.ndarray
    ) -> "TokenTable":
        """The table of both. `counts` [vocabulary]: occurrences each table has seen of a token."""
        floor, other_floor = self.floor(), other.floor()
        in_other = _find(self.tokens, other.tokens)
        in_self = _find(other.tokens, self.tokens)
        sums = self.sums + _take(other.sums, in_other)
        maxima = np.maximum(self.maxima, _take(other.maxima, in_other))
        unseen = other_floor[:, None] * other_counts[np.maximum(self.tokens, 0)]
        missed = self.missed + np.where(in_other >= 0, _take(other.missed, in_other), unseen)
        own_unseen = floor[:, None] * counts[np.maximum(other.tokens, 0)]
        new = (in_self < 0) & (other.tokens >= 0)
        tokens = np.concatenate([self.tokens, np.where(new, other.tokens, -1)], axis=1)
        maxima = np.concatenate([maxima, np.where(new, other.maxima, 0)], axis=1)
        maxima[tokens < 0] = 0
        sums = np.concatenate([sums, np.where(new, other.sums, 0)], axis=1)
        missed = np.concatenate([missed, np.where(new, other.missed + own_unseen, 0)], axis=1)
        order = np.lexsort((tokens, -maxima), axis=1)[:, :TRACKED_TOKENS]

        def kept(array: np.ndarray) -> np.ndarray:
            return np.take_along_axis(array, order, axis=1)

        return TokenTable(kept(tokens), kept(maxima), kept(sums), kept(missed))

    def floor(self, units: slice = slice(None)) -> np.ndarray:
        """[n_units] the most a token outside the table can have been: 0 while it is not full."""
        # Empty places come last.
        is_full = self.tokens[units, -1] >= 0
        return np.where(is_full, self.maxima[units].min(axis=1), np.float32(0))


def _find(needles: np.ndarray, hay: np.ndarray) -> np.ndarray:
    """Column of each needle in the same row of `hay`, -1 where absent; both [n_units, k]."""
    order = np.argsort(hay, axis=1, kind="stable")
    ordered = np.take_along_axis(hay, order, axis=1)
    n_columns = hay.shape[1]
    # Rows are made comparable by an offset larger than any token id, then searched as one array.
    offset = np.arange(len(hay), dtype=np.int64)[:, None] << 32
    flat = (ordered.astype(np.int64) + 1 + offset).ravel()
    wanted = (needles.astype(np.int64) + 1 + offset).ravel()
    place = np.minimum(np.searchsorted(flat, wanted), len(flat) - 1)
    found = (flat[place] == wanted) & (needles.ravel() >= 0)
    column = np.take_along_axis(order, (place % n_columns).reshape(needles.shape), axis=1)
    return np.where(found.reshape(needles.shape), column, -1)


def _take(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values at `columns`, 0 where the column is -1."""
    return np.where(columns >= 0, np.take_along_axis(values, np.maximum(columns, 0), axis=1), 0)


@dataclass
class SplitAccumulator:
    """Everything counted of all units of a source in one split."""

    n_tokens: np.ndarray
    """[] int64 unmasked tokens."""
    n_documents: np.ndarray
    """[] int64."""
    n_windows: np.ndarray
    """[] int64."""
    token_counts: np.ndarray
    """[vocabulary] int64 occurrences of every token."""
    n_active: np.ndarray
    """[n_units] int64 tokens with activation > 0."""
    n_active_documents: np.ndarray
    """[n_units] int64."""
    maxima: np.ndarray
    """[n_units] float32."""
    power_sums: np.ndarray
    """[4, n_units] float64: Σx, Σx², Σx³, Σx⁴."""
    histogram: np.ndarray
    """[n_units, N_BUCKETS] int64 tokens per half octave."""
    table: TokenTable

    @classmethod
    def empty(cls, n_units: int, vocabulary_size: int) -> "SplitAccumulator":
        """Nothing seen."""
        return cls(
            np.zeros((), np.int64),
            np.zeros((), np.int64),
            np.zeros((), np.int64),
            np.zeros(vocabulary_size, np.int64),
            np.zeros(n_units, np.int64),
            np.zeros(n_units, np.int64),
            np.zeros(n_units, np.float32),
            np.zeros((4, n_units)),
            np.zeros((n_units, N_BUCKETS), np.int64),
            TokenTable.empty(n_units),
        )

    def add_tokens(self, ids: np.ndarray, n_windows: int) -> None:
        """Count unmasked tokens [n] and windows; after what their units did was added.

        What the token table missed is bounded by the occurrences before.
        """
        self.n_tokens += len(ids)
        self.n_windows += n_windows
        self.token_counts += np.bincount(ids, minlength=len(self.token_counts))

    def add_document(self, is_active: np.ndarray) -> None:
        """Count one whole document; is_active [n_units] bool."""
        self.n_documents += 1
        self.n_active_documents += is_active

    def merge(self, other: "SplitAccumulator") -> "SplitAccumulator":
        """What both have seen."""
        return SplitAccumulator(
            self.n_tokens + other.n_tokens,
            self.n_documents + other.n_documents,
            self.n_windows + other.n_windows,
            self.token_counts + other.token_counts,
            self.n_active + other.n_active,
            self.n_active_documents + other.n_active_documents,
            np.maximum(self.maxima, other.maxima),
            self.power_sums + other.power_sums,
            self.histogram + other.histogram,
            self.table.merge(other.table, self.token_counts, other.token_counts),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, for a checkpoint."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "table"}
        return own | {f"table.{f.name}": getattr(self.table, f.name) for f in fields(self.table)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "SplitAccumulator":
        """The inverse of `arrays`."""
        table = TokenTable(**{f.name: arrays[f"table.{f.name}"] for f in fields(TokenTable)})
        own = {f.name: arrays[f.name] for f in fields(cls) if f.name != "table"}
        return cls(**own, table=table)

    def top_tokens(self, units: slice) -> "TopTokens":
        """The tracked tokens of some units, highest mean first (ties by larger maximum, by id)."""
        table = self.table
        tokens, maxima = table.tokens[units], table.maxima[units]
        counts = np.where(tokens >= 0, self.token_counts[tokens], 0)
        unit, column = np.nonzero(counts)
        chosen = (unit, column)
        count, maximum = counts[chosen], maxima[chosen]
        sums, missed = table.sums[units][chosen], table.missed[units][chosen]
        mean = sums / count
        upper = np.maximum(mean, np.minimum(maximum, (sums + missed) / count))
        order = np.lexsort((tokens[chosen], -maximum, -mean, unit))
        first = np.searchsorted(unit, np.arange(len(tokens)))
        rank = np.arange(len(order)) - first[unit]
        return TopTokens(
            unit,
            rank,
            tokens[chosen][order],
            mean[order],
            upper[order],
            count[order],
            maximum[order],
        )


@dataclass(frozen=True)
class TopTokens:
    """Top tokens of some units as parallel arrays, ordered by unit and descending mean."""

    unit: np.ndarray
    """[n] counted from the first unit of the range."""
    rank: np.ndarray
    """[n] 0 for the highest mean of its unit."""
    token: np.ndarray
    """[n] int32 ids."""
    mean: np.ndarray
    """[n] lower bound of the mean activation; the mean itself where nothing was missed."""
    mean_upper: np.ndarray
    """[n] upper bound."""
    count: np.ndarray
    """[n] occurrences in the split."""
    maximum: np.ndarray
    """[n] float32."""

    def of(self, chosen: np.ndarray) -> "TopTokens":
        """Those at a mask [n]."""
        return TopTokens(*(getattr(self, f.name)[chosen] for f in fields(self)))
