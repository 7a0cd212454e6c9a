"""Statistics of every unit and split from one pass: moments, histogram, top tokens.

Everything here is bounded by the number of units, never by the corpus or by units × vocabulary, and
adds up: the statistics of two shards merge into those of their union.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from autointerp.records import SplitStatistics, TopToken

N_BUCKETS = 128
"""Half octaves from 2^-32 to 2^32; values outside fall into the first or last."""

_FIRST_EXPONENT = -32

TRACKED_TOKENS = 40
"""Tokens per unit and split whose mean activation is tracked."""

SHOWN_TOKENS = 8
"""Of these, tokens kept in the records of splits other than `explain`: for display alone."""


def bucket_of(values: Tensor) -> Tensor:
    """Half octave of positive float32 values: [2^e, 1.5·2^e) and [1.5·2^e, 2^(e+1)) are one each.

    Read from the float's own bits (exponent and top mantissa bit): no logarithm is taken. Values
    that are zero or negative give 0.
    """
    bits = values.contiguous().view(torch.int32) >> 22
    offset = 2 * (127 + _FIRST_EXPONENT)
    return (bits - offset).clamp_(0, N_BUCKETS - 1)


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

    @classmethod
    def of_shard(cls, tokens: Tensor, activations: Tensor, vocabulary_size: int) -> "TokenTable":
        """The table of some tokens [n], with activations [n, n_units] >= 0."""
        unique, place = torch.unique(tokens, return_inverse=True)
        n_units = activations.shape[1]
        sums = activations.new_zeros(len(unique), n_units).index_add_(0, place, activations)
        maxima = _largest_by(place, activations, len(unique))
        n_kept = min(TRACKED_TOKENS, len(unique))
        top, rows = maxima.topk(n_kept, dim=0)
        table = cls.empty(n_units)
        fired = (top > 0).T.cpu().numpy()
        table.tokens[:, :n_kept] = np.where(fired, unique[rows].T.cpu().numpy(), -1)
        table.maxima[:, :n_kept] = top.T.cpu().numpy()
        table.sums[:, :n_kept] = sums.gather(0, rows).T.double().cpu().numpy() * fired
        return table

    def merge(
        self, other: "TokenTable", counts: np.ndarray, other_counts: np.ndarray
    ) -> "TokenTable":
        """The table of both. `counts` [vocabulary]: occurrences each table has seen of a token."""
        floor, other_floor = self._floor(), other._floor()
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

    def _floor(self) -> np.ndarray:
        """[n_units] the most a token outside the table can have been: 0 while it is not full."""
        full = (self.tokens >= 0).all(axis=1)
        return np.where(full, self.maxima.min(axis=1), 0.0)


def _largest_by(place: Tensor, activations: Tensor, n_places: int) -> Tensor:
    """[n_places, n_units] largest activation of the tokens [n] that have each place."""
    index = place[:, None].expand_as(activations)
    zeros = activations.new_zeros(n_places, activations.shape[1])
    return zeros.scatter_reduce_(0, index, activations, "amax")


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
        zero = np.zeros((), np.int64)
        return cls(
            zero,
            zero,
            zero,
            np.zeros(vocabulary_size, np.int64),
            np.zeros(n_units, np.int64),
            np.zeros(n_units, np.int64),
            np.zeros(n_units, np.float32),
            np.zeros((4, n_units)),
            np.zeros((n_units, N_BUCKETS), np.int64),
            TokenTable.empty(n_units),
        )

    @classmethod
    def of_shard(
        cls,
        tokens: Tensor,
        activations: Tensor,
        documents: Tensor,
        n_windows: int,
        vocabulary_size: int,
    ) -> "SplitAccumulator":
        """Count one shard's unmasked tokens of one split.

        Args:
            tokens: [n] ids.
            activations: [n, n_units] float32 >= 0.
            documents: [n] int64 number of the document within the shard; shards hold whole
                documents.
        """
        n_units = activations.shape[1]
        if not len(tokens):
            nothing = cls.empty(n_units, vocabulary_size)
            nothing.n_windows = np.asarray(n_windows, np.int64)
            return nothing
        squares = activations * activations
        sums = [activations, squares, squares * activations, squares * squares]
        _, document = torch.unique(documents, return_inverse=True)
        n_documents = int(document.max()) + 1
        document_maxima = _largest_by(document, activations, n_documents)
        fired = activations > 0
        rows = torch.arange(n_units, device=activations.device).expand_as(activations)
        flat = (rows * N_BUCKETS + bucket_of(activations))[fired]
        histogram = torch.bincount(flat, minlength=n_units * N_BUCKETS)
        return cls(
            np.asarray(len(tokens), np.int64),
            np.asarray(n_documents, np.int64),
            np.asarray(n_windows, np.int64),
            np.bincount(tokens.cpu().numpy(), minlength=vocabulary_size).astype(np.int64),
            fired.sum(0).cpu().numpy(),
            (document_maxima > 0).sum(0).cpu().numpy(),
            activations.amax(0).cpu().numpy(),
            np.stack([s.sum(0, dtype=torch.float64).cpu().numpy() for s in sums]),
            histogram.reshape(n_units, N_BUCKETS).cpu().numpy(),
            TokenTable.of_shard(tokens, activations, vocabulary_size),
        )

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

    def of_unit(self, row: int, vocabulary: list[str]) -> SplitStatistics:
        """The statistics of one unit."""
        n = int(self.n_tokens)
        moments = self.power_sums[:, row] / n if n else np.zeros(4)
        return SplitStatistics(
            n_tokens=n,
            n_active=int(self.n_active[row]),
            n_documents=int(self.n_documents),
            n_active_documents=int(self.n_active_documents[row]),
            maximum=float(self.maxima[row]),
            moments=(float(moments[0]), float(moments[1]), float(moments[2]), float(moments[3])),
            histogram=tuple(self.histogram[row].tolist()),
            top_tokens=self._top_tokens(row, vocabulary),
        )

    def _top_tokens(self, row: int, vocabulary: list[str]) -> tuple[TopToken, ...]:
        tokens = self.table.tokens[row]
        columns = zip(
            tokens.tolist(),
            np.where(tokens >= 0, self.token_counts[tokens], 0).tolist(),
            self.table.maxima[row].tolist(),
            self.table.sums[row].tolist(),
            self.table.missed[row].tolist(),
            strict=True,
        )
        found: list[TopToken] = []
        for token, count, maximum, total, missed in columns:
            if count:
                mean = total / count
                upper = min(maximum, (total + missed) / count)
                found.append(TopToken(vocabulary[token], mean, max(mean, upper), count, maximum))
        return tuple(sorted(found, key=lambda t: (-t.mean, t.token)))
