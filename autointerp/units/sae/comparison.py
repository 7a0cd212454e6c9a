"""Two dictionaries on the same text: which latents are alike, and which split.

Universality is the best correlation over the other dictionary's latents (Bricken et al. 2023,
"Universality"; Lan et al. 2024), feature splitting the family of latents that a latent of a narrow
dictionary becomes in a wide one (Bricken et al. 2023, "Feature splitting").

Activations are kept sparse, 8 bytes for each that is not zero. Correlations come of exact sums in
float64, a block of latents at a time: no matrix of all pairs is held.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from autointerp.units.neighbours import nearest_by_cosine

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MIN_ACTIVE = 10
"""A latent that fires on fewer tokens is not compared: with thousands to choose from, one that
fires there too is found by chance."""

MIN_COSINE = 0.5
"""Least cosine of a decoder row with that of the latent which it came from."""

_BLOCK_VALUES = 1 << 24
"""Values of the matrices of sums held at once: 128 MB."""


@dataclass(frozen=True)
class BestMatches:
    """Of each latent of one dictionary, the latent of another that correlates best with it."""

    n_active: Integers
    """[n] tokens on which it fires."""

    known: NDArray[np.bool_]
    """[n] whether it fires often enough, and not always alike, to be compared."""

    latent: Integers
    """[n] the other dictionary's latent; -1 where not known."""

    correlation: Floats
    """[n] Pearson correlation over tokens; 0 where not known, which means nothing."""

    @property
    def n_dead(self) -> int:
        """Latents that never fire."""
        return int((self.n_active == 0).sum())


def sparse_rows(values: Tensor) -> Any:
    """[n_tokens, n_latents] latents as a sparse array of float32, row by row."""
    return sparse.csr_array(values.cpu().numpy().astype(np.float32))


def best_correlations(
    a: Any, b: Any, *, min_active: int = MIN_ACTIVE
) -> tuple[BestMatches, BestMatches]:
    """The best correlation of every latent with one of the other dictionary, both ways.

    r = (n Σab - Σa Σb) / sqrt((n Σa² - (Σa)²) (n Σb² - (Σb)²)), all sums over the same n tokens.

    Args:
        a: sparse [n_tokens, n_a].
        b: sparse [n_tokens, n_b], row by row the same tokens.
        min_active: tokens on which a latent must fire to be compared, on either side.

    Returns:
        The matches of a's latents in b, and of b's in a. Ties go to the lower index.
    """
    assert a.shape[0] == b.shape[0]
    columns_a, columns_b = _Columns(a, min_active), _Columns(b, min_active)
    of_a = _Best(a.shape[1])
    of_b = _Best(b.shape[1])
    per_block = max(1, _BLOCK_VALUES // b.shape[1])
    doubles_a, doubles_b = a.astype(np.float64).tocsc(), b.astype(np.float64).tocsr()
    for start in range(0, a.shape[1], per_block):
        part = slice(start, min(start + per_block, a.shape[1]))
        products = (doubles_a[:, part].T @ doubles_b).toarray()
        r = columns_a.correlations(products, part, columns_b)
        of_a.take(r, np.arange(part.start, part.stop), 0)
        of_b.take(r.T, np.arange(b.shape[1]), part.start)
    return of_a.matches(columns_a), of_b.matches(columns_b)


class _Columns:
    """Sums over tokens of each latent of one dictionary."""

    def __init__(self, values: Any, min_active: int) -> None:
        self.n = values.shape[0]
        doubles = values.astype(np.float64)
        self.total: Floats = np.asarray(doubles.sum(axis=0)).ravel()
        squares = np.asarray(doubles.multiply(doubles).sum(axis=0)).ravel()
        spread = self.n * squares - self.total**2
        self.n_active: Integers = np.bincount(
            values.indices[values.data != 0], minlength=values.shape[1]
        )
        # A spread of rounding alone is that of a constant.
        varies = spread > 1e-12 * self.n * squares
        self.known: NDArray[np.bool_] = (self.n_active >= min_active) & varies
        self.root: Floats = np.sqrt(np.where(self.known, spread, 1.0))

    def correlations(self, products: Floats, part: slice, other: "_Columns") -> Floats:
        """[n_part, n_other] from sums of products; -2 where either is not known."""
        r = self.n * products - np.outer(self.total[part], other.total)
        r /= np.outer(self.root[part], other.root)
        np.clip(r, -1.0, 1.0, out=r)
        r[~self.known[part]] = -2.0
        r[:, ~other.known] = -2.0
        return r


class _Best:
    """The largest so far, of every latent."""

    def __init__(self, n: int) -> None:
        self.value = np.full(n, -2.0)
        self.place = np.full(n, -1, np.int64)

    def take(self, r: Floats, latents: Integers, first: int) -> None:
        """Take in r [n_latents, n_others], whose columns start at the latent `first`."""
        place = r.argmax(axis=1)
        value = r[np.arange(len(r)), place]
        better = value > self.value[latents]
        self.value[latents[better]] = value[better]
        self.place[latents[better]] = place[better] + first

    def matches(self, columns: _Columns) -> BestMatches:
        known = self.value >= -1.0
        return BestMatches(columns.n_active, known, self.place, np.where(known, self.value, 0.0))


def rotated(values: Any, row: int) -> Any:
    """The rows from `row` on and then those before: other text, with its own runs kept."""
    return sparse.vstack([values[row:], values[:row]], format="csr")


@dataclass(frozen=True)
class Splitting:
    """Which latents of a wide dictionary came of which of a narrow one."""

    parent: Integers
    """[n_wide] narrow latent with the largest decoder cosine; -1 where that is too small."""

    cosine: Floats
    """[n_wide] the largest decoder cosine with a narrow latent."""

    n_narrow: Integers
    """[n_narrow] tokens on which each narrow latent fires."""

    n_wide: Integers
    """[n_wide] tokens on which each wide latent fires."""

    n_both: Integers
    """[n_wide] tokens on which it and its parent fire; 0 without one."""

    correlation: Floats
    """[n_wide] with its parent; 0 where it has none or either is constant."""

    n_covered: Integers
    """[n_narrow] tokens on which it and any of its children fire."""

    @property
    def n_children(self) -> Integers:
        """[n_narrow]: 0 where it is gone, 1 where it was kept, more where it split."""
        found = np.bincount(self.parent[self.parent >= 0], minlength=len(self.n_narrow))
        return found.astype(np.int64)


def feature_splitting(
    narrow_rows: Tensor,
    wide_rows: Tensor,
    narrow: Any,
    wide: Any,
    *,
    min_cosine: float = MIN_COSINE,
) -> Splitting:
    """Give every latent of the wide dictionary to the narrow one's latent that it is nearest to.

    Args:
        narrow_rows: [n_narrow, d] decoder rows.
        wide_rows: [n_wide, d] decoder rows at the same place.
        narrow: sparse [n_tokens, n_narrow] activations.
        wide: sparse [n_tokens, n_wide], row by row on the same tokens.
        min_cosine: least cosine with the parent.
    """
    nearest, cosine = nearest_in(wide_rows, narrow_rows)
    parent = np.where(cosine >= min_cosine, nearest, -1)
    n_narrow, n_wide = narrow.shape[1], wide.shape[1]
    keys, values = _keys(wide, parent, n_narrow)
    of_parent = _values_at(keys, *_keys(narrow, np.arange(n_narrow), n_narrow))
    both = of_parent > 0
    latents = wide.indices
    products = np.bincount(latents, weights=of_parent * values, minlength=n_wide).astype(np.float64)
    covered = np.unique(keys[both]) % n_narrow
    return Splitting(
        parent=parent,
        cosine=cosine,
        n_narrow=np.bincount(narrow.indices, minlength=n_narrow),
        n_wide=np.bincount(latents, minlength=n_wide),
        n_both=np.bincount(latents[both], minlength=n_wide),
        correlation=_with_parent(parent, products, _Columns(narrow, 1), _Columns(wide, 1)),
        n_covered=np.bincount(covered, minlength=n_narrow),
    )


def _keys(rows: Any, label: Integers, n_labels: int) -> tuple[Integers, Floats]:
    """token · n_labels + label of each entry, and its value; -1 where the label is negative."""
    tokens = np.repeat(np.arange(rows.shape[0], dtype=np.int64), np.diff(rows.indptr))
    labels = label[rows.indices]
    keys = np.where(labels >= 0, tokens * n_labels + labels, -1)
    return keys, rows.data.astype(np.float64)


def _values_at(wanted: Integers, keys: Integers, values: Floats) -> Floats:
    """The value of each wanted key; 0 where it is not among the keys."""
    order = np.argsort(keys)
    places = np.searchsorted(keys, wanted, sorter=order)
    found = np.append(order, -1)[places]
    is_there = np.append(keys, -2)[found] == wanted
    return np.where(is_there, np.append(values, 0.0)[found], 0.0)


def _with_parent(parent: Integers, products: Floats, narrow: _Columns, wide: _Columns) -> Floats:
    has = (parent >= 0) & wide.known & narrow.known[parent]
    of = np.where(has, parent, 0)
    r = narrow.n * products - narrow.total[of] * wide.total
    r /= narrow.root[of] * wide.root
    return np.where(has, r.clip(-1.0, 1.0), 0.0)


def nearest_in(rows: Tensor, others: Tensor, chunk: int = 1024) -> tuple[Integers, Floats]:
    """The row of `others` [m, d] with the largest cosine to each of `rows` [n, d], and the cosine.

    A row of zeros has the cosine 0 with all.
    """
    others = _unit(others)
    indices: list[Tensor] = []
    cosines: list[Tensor] = []
    for part in rows.split(chunk):
        best = (_unit(part) @ others.T).max(dim=1)
        indices.append(best.indices)
        cosines.append(best.values)
    return torch.cat(indices).numpy(), torch.cat(cosines).double().clamp(-1, 1).numpy()


def _unit(rows: Tensor) -> Tensor:
    return rows.float() / rows.float().norm(dim=1, keepdim=True).clamp_min(1e-12)


@dataclass(frozen=True)
class Neighbourhood:
    """The latents of one dictionary whose decoder rows are nearest to one row."""

    latents: list[int]
    cosines: list[float]


def neighbourhood(W_dec: Tensor, latent: int, k: int = 10) -> Neighbourhood:
    """The `k` other latents that write most alike, nearest first.

    Args:
        W_dec: [n_latents, d_out] decoder rows.
        latent: whose neighbours are wanted.
        k: how many.
    """
    indices, cosines = nearest_by_cosine(W_dec, k, rows=slice(latent, latent + 1))
    return Neighbourhood(indices[0].tolist(), cosines[0].tolist())


def neighbourhood_in(row: Tensor, W_dec: Tensor, k: int = 10) -> Neighbourhood:
    """The `k` latents of another dictionary whose rows W_dec [n, d] are nearest to `row` [d]."""
    cosines, indices = (_unit(W_dec) @ _unit(row[None])[0]).topk(min(k, len(W_dec)))
    return Neighbourhood(indices.tolist(), cosines.tolist())


def shared_spans(a: Integers, b: Integers) -> tuple[Integers, Integers]:
    """Align two ways of cutting one text: the spans at whose ends both cut.

    Tokens that share a character, directly or through others, are of one span. So are the parts of
    a character that is several tokens.

    Args:
        a: [n, 2] first character of each token and one past its last, ascending.
        b: [m, 2] the same of the other way.

    Returns:
        Number of the span of each token of a, and of b; -1 for a token without characters, or whose
        characters the other way leaves out.
    """
    spans = np.concatenate([a, b]).astype(np.int64)
    is_b = np.arange(len(spans)) >= len(a)
    order = np.lexsort((spans[:, 1], spans[:, 0]))
    order = order[spans[order, 0] < spans[order, 1]]
    starts, ends = spans[order, 0], spans[order, 1]
    reach = np.maximum.accumulate(ends) if len(ends) else ends
    opens = np.ones(len(order), bool)
    opens[1:] = starts[1:] >= reach[:-1]
    group = np.cumsum(opens) - 1
    n = int(group[-1]) + 1 if len(group) else 0
    has_a = np.bincount(group[~is_b[order]], minlength=n) > 0
    has_b = np.bincount(group[is_b[order]], minlength=n) > 0
    shared = has_a & has_b
    number = np.where(shared, np.cumsum(shared) - 1, -1)
    found = np.full(len(spans), -1, np.int64)
    found[order] = number[group]
    return found[: len(a)], found[len(a) :]


def largest_in_groups(values: Any, groups: Integers, n_groups: int) -> Any:
    """The largest value of each latent in each group of tokens.

    Args:
        values: sparse [n_tokens, n_latents], not negative.
        groups: [n_tokens]; tokens of a negative one are left out.
        n_groups: rows of the result.

    Returns:
        Sparse [n_groups, n_latents].
    """
    n_latents = values.shape[1]
    keys, data = _keys(values, np.arange(n_latents), n_latents)
    tokens, latents = np.divmod(keys, n_latents)
    of = groups[tokens]
    kept = of >= 0
    keys, data = of[kept] * n_latents + latents[kept], data[kept]
    order = np.argsort(keys, kind="stable")
    keys, data = keys[order], data[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    largest = np.maximum.reduceat(data, first) if len(first) else data
    rows, columns = np.divmod(keys[first], n_latents)
    shape = (n_groups, n_latents)
    return sparse.csr_array((largest.astype(np.float32), (rows, columns)), shape=shape)
