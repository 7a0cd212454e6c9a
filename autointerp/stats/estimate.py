"""A number that may be missing, and the checks every input of this room passes through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from autointerp.records import Status

FloatArray: TypeAlias = npt.NDArray[np.float64]

RELATIVE_ROUNDING = 1e-6
"""A vector whose range is below this share of its largest magnitude counts as constant.

Activations and expected levels come from float32 arithmetic, whose rounding is about 1e-7 of the
value: a smaller range is noise, and a correlation with it would be noise too.
"""


@dataclass(frozen=True)
class Estimate:
    """One number of one unit, or the reason why there is none."""

    value: float | None
    """The number; `None` where it is undefined. Never NaN."""

    status: Status
    """`ok`, or what is special about this number."""


def is_constant(values: FloatArray) -> bool:
    """Whether `values` [n] has fewer than two elements, or varies by no more than rounding."""
    if values.size < 2:
        return True
    return bool(np.ptp(values) <= RELATIVE_ROUNDING * np.abs(values).max())


def finite_vector(values: npt.ArrayLike, name: str) -> FloatArray:
    """`values` as float64 [n].

    Raises:
        ValueError: if it is not one-dimensional, or holds NaN or infinity; the message says where.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        hint = "; put a single sequence into a list" if array.ndim == 0 else ""
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}{hint}")
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"{name} holds {array[bad[0]]} at position {bad[0]} ({bad.size} non-finite in all); "
            "leave unknown tokens out before scoring"
        )
    return array


def paired_sequences(
    true: Sequence[npt.ArrayLike], expected: Sequence[npt.ArrayLike]
) -> tuple[list[FloatArray], list[FloatArray]]:
    """True and predicted values as float64 vectors of equal lengths, sequence by sequence.

    Raises:
        ValueError: if the numbers of sequences or the lengths of a pair differ, or a value is NaN
            or infinite; the message says in which sequence.
    """
    if len(true) != len(expected):
        raise ValueError(f"{len(true)} true sequences, but {len(expected)} predicted ones")
    truths = [finite_vector(t, f"true sequence {i}") for i, t in enumerate(true)]
    predictions = [finite_vector(s, f"expected sequence {i}") for i, s in enumerate(expected)]
    for i, (t, s) in enumerate(zip(truths, predictions, strict=True)):
        if t.size != s.size:
            raise ValueError(
                f"sequence {i} has {t.size} true activations, but {s.size} predicted ones"
            )
    return truths, predictions


def window_weights(weights: npt.ArrayLike | None, n_windows: int) -> FloatArray:
    """Design weights [n_windows], all 1 where `None`.

    Raises:
        ValueError: if their number differs from `n_windows` or one is not positive.
    """
    if weights is None:
        return np.ones(n_windows)
    array = finite_vector(weights, "weights")
    if array.size != n_windows:
        raise ValueError(f"{array.size} weights for {n_windows} windows")
    if (array <= 0).any():
        raise ValueError(f"weights must be positive, got {array.min()}; they are 1 / probability")
    return array
