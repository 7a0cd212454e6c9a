"""The nearest units of each unit, by the cosine of their directions."""

import torch
from torch import Tensor

_STEPS = 1 << 20
"""Cosines are compared on a grid of 2^-20 (about 1e-6), the precision of a float32 product."""

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
    sides go by blocks of `chunk` rows x 4 `chunk` columns: memory beyond the directions themselves
    is about 40 bytes x 4 `chunk`² (160 MB for 1024), whatever `n`.

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
    best = torch.empty(max(0, last - first), kept, dtype=torch.int64, device=directions.device)
    for start in range(first, last if kept else first, chunk):
        found = _best_keys(directions, start, min(start + chunk, last), chunk, kept, either_sign)
        best[start - first : start - first + chunk] = found
    return _decoded(best)


def _best_keys(
    directions: Tensor, start: int, stop: int, chunk: int, k: int, either_sign: bool
) -> Tensor:
    """The `k` largest keys of rows `start` to `stop`, [n_rows, k], over all columns."""
    rows = _normalised(directions[start:stop])
    best = torch.empty(len(rows), 0, dtype=torch.int64, device=directions.device)
    width = chunk * _COLUMN_CHUNKS
    for left in range(0, directions.shape[0], width):
        columns = _normalised(directions[left : left + width])
        keys = _keys(rows @ columns.T, left, either_sign)
        first, last = max(start, left), min(stop, left + columns.shape[0])
        itself = torch.arange(first, max(first, last), device=keys.device)
        keys[itself - start, itself - left] = torch.iinfo(torch.int64).min
        best = torch.cat([best, keys.topk(min(k, keys.shape[1])).values], dim=1)
        best = best.topk(min(k, best.shape[1])).values
    return best


def _keys(cosines: Tensor, left: int, either_sign: bool) -> Tensor:
    """One int64 per cosine [n_rows, n_columns], which are used up: larger is nearer.

    rank · 2^32 - (2 · column + is_negative), with the cosine's grid step, or its size, as rank.
    """
    columns = torch.arange(left, left + cosines.shape[1], device=cosines.device)
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
    rank = -(-keys >> 32)
    low = (rank << 32) - keys
    cosines = rank.float() / _STEPS
    return low >> 1, torch.where((low & 1).bool(), -cosines, cosines)


def _normalised(rows: Tensor) -> Tensor:
    rows = rows.float()
    largest = rows.abs().amax(dim=1, keepdim=True)
    if not bool(largest.isfinite().all()):
        raise ValueError("neighbours of directions with values that are not finite")
    rows = torch.where(largest > 0, rows / largest, 0.0)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return torch.where(norms > 0, rows / norms, 0.0)
