"""The nearest units of each unit, by the cosine of their directions."""

import torch
from torch import Tensor

_STEPS = 1 << 20
"""Cosines are compared on a grid of 2^-20 (about 1e-6), the precision of a float32 product."""

_NONE = -(1 << 62)
"""In the place of a key: there is no such neighbour."""

_COLUMN_CHUNKS = 4
"""A block is `chunk` rows by this many times `chunk` columns."""


def nearest_by_cosine(
    directions: Tensor,
    k: int,
    chunk: int = 1024,
    *,
    rows: slice | None = None,
    either_sign: bool = False,
) -> tuple[Tensor, Tensor]:
    """The `k` other directions with the largest cosine to each, nearest first.

    cos(a, b) = a·b / (‖a‖ ‖b‖), and 0 where either is zero. Cosines are rounded to 2^-20 before
    they are compared, so that copies tie in spite of float error; ties go to the lower index. Both
    sides go by blocks of 4 `chunk`² cosines: memory is about 40 bytes for each (160 MB for 1024),
    whatever `n`, and beside that, where the neighbours of all are wanted, one float32 copy of the
    directions: then every block serves its rows and its columns.

    Args:
        directions: [n, d], any float dtype, on any device.
        k: neighbours wanted; with fewer than `k` other directions, all of them are given.
        chunk: rows compared at a time; changes memory and speed, not the result.
        rows: those whose neighbours are wanted, [first, last); all if left out.
        either_sign: compare |cos| instead: b and −b are one direction. Cosines keep their sign.

    Returns:
        indices [n_rows, min(k, n - 1)] int64 and their cosines [n_rows, min(k, n - 1)] float32, on
        the device of `directions`.

    Raises:
        ValueError: `directions` is not a finite matrix, or `k` or `chunk` is not positive.
    """
    if directions.ndim != 2 or k < 1 or chunk < 1:
        raise ValueError(
            f"neighbours of directions {list(directions.shape)} with k = {k} and chunk = {chunk}: "
            "expected [n, d] and positive numbers"
        )
    first, last, _ = (rows or slice(None)).indices(directions.shape[0])
    kept = max(min(k, directions.shape[0] - 1), 0)
    if rows is None and kept:
        return _decoded(_among_all(directions, 2 * chunk, kept, either_sign))
    best = torch.empty(max(0, last - first), kept, dtype=torch.int64, device=directions.device)
    for start in range(first, last if kept else first, chunk):
        found = _best_keys(directions, start, min(start + chunk, last), chunk, kept, either_sign)
        best[start - first : start - first + chunk] = found
    return _decoded(best)


def _among_all(directions: Tensor, chunk: int, k: int, either_sign: bool) -> Tensor:
    """The `k` largest keys of every row, [n, k], in half the products."""
    n = directions.shape[0]
    rows = torch.empty(directions.shape, dtype=torch.float32, device=directions.device)
    for start in range(0, n, chunk):
        rows[start : start + chunk] = _normalised(directions[start : start + chunk])
    best = torch.full((n, k), _NONE, dtype=torch.int64, device=directions.device)
    for top in range(0, n, chunk):
        for left in range(top, n, chunk):
            cosines = rows[top : top + chunk] @ rows[left : left + chunk].T
            # Columns come to every row in ascending order.
            if left > top:
                _keep(best[left : left + chunk], cosines.T, left, top, either_sign)
            _keep(best[top : top + chunk], cosines, top, left, either_sign)
    return best


def _keep(best: Tensor, cosines: Tensor, first: int, left: int, either_sign: bool) -> None:
    """Put the larger keys of cosines [n_rows, n_columns] into `best` [n_rows, k], in place.

    Args:
        first: number of the first row.
        left: number of the first column; no column in `best` is beyond it.
    """
    sizes = cosines.abs() if either_sign else cosines
    # An equal one of a later column would lose the tie.
    floor = _rank(best[:, -1]).float() / _STEPS
    if bool((floor < -1).any()):
        # Rows without `k` neighbours yet: what is under the k largest here, but for the row itself
        # and for rounding, is not among them.
        largest = sizes.topk(min(best.shape[1] + 1, sizes.shape[1]), dim=1).values[:, -1]
        floor = torch.where(floor < -1, largest - 2 / _STEPS, floor)
    row, column = (sizes > floor[:, None]).nonzero().T
    other = row + first != column + left
    row, column = row[other], column[other]
    keys = _keys(cosines[row, column], column + left, either_sign)
    # The new keys of every row that has any, side by side.
    counts = torch.bincount(row, minlength=len(best))
    found = counts.nonzero().flatten()
    if not len(found):
        return
    start = counts.cumsum(0) - counts
    place = torch.arange(len(row), device=row.device) - start[row]
    new = torch.full((len(best), int(counts.max())), _NONE, device=best.device)
    new[row, place] = keys
    best[found] = torch.cat([best[found], new[found]], dim=1).topk(best.shape[1]).values


def _best_keys(
    directions: Tensor, start: int, stop: int, chunk: int, k: int, either_sign: bool
) -> Tensor:
    """The `k` largest keys of rows `start` to `stop`, [n_rows, k], over all columns."""
    rows = _normalised(directions[start:stop])
    best = torch.empty(len(rows), 0, dtype=torch.int64, device=directions.device)
    width = chunk * _COLUMN_CHUNKS
    for left in range(0, directions.shape[0], width):
        columns = _normalised(directions[left : left + width])
        numbers = torch.arange(left, left + len(columns), device=columns.device)
        keys = _keys(rows @ columns.T, numbers, either_sign)
        first, last = max(start, left), min(stop, left + columns.shape[0])
        itself = torch.arange(first, max(first, last), device=keys.device)
        keys[itself - start, itself - left] = _NONE
        best = torch.cat([best, keys.topk(min(k, keys.shape[1])).values], dim=1)
        best = best.topk(min(k, best.shape[1])).values
    return best


def _keys(cosines: Tensor, columns: Tensor, either_sign: bool) -> Tensor:
    """One int64 per cosine [..., n], which are used up: larger is nearer.

    rank · 2^32 - (2 · column + is_negative), with the cosine's grid step, or its size, as rank.
    """
    keys = cosines.clamp_(-1, 1).mul_(_STEPS).round_().long()
    if not either_sign:
        keys <<= 32
        keys -= 2 * columns
        return keys
    is_negative = keys < 0
    keys.abs_()
    keys <<= 32
    keys -= 2 * columns
    keys -= is_negative.long()
    return keys


def _decoded(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and cosines of keys."""
    rank = _rank(keys)
    low = (rank << 32) - keys
    cosines = rank.float() / _STEPS
    return low >> 1, torch.where((low & 1).bool(), -cosines, cosines)


def _rank(keys: Tensor) -> Tensor:
    return -(-keys >> 32)


def _normalised(rows: Tensor) -> Tensor:
    rows = rows.float()
    largest = rows.abs().amax(dim=1, keepdim=True)
    if not bool(largest.isfinite().all()):
        raise ValueError("neighbours of directions with values that are not finite")
    rows = torch.where(largest > 0, rows / largest, 0.0)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return torch.where(norms > 0, rows / norms, 0.0)
