"""Which units are explained, and whose explanations serve as controls: pure functions."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from autointerp.records import Explanation, Status, UnitId, derived_seed
from autointerp.store import UnitSummary

NEAR_COPY_COSINE = 0.7
"""A unit that writes in nearly the same direction is no control: its explanation may be right."""


def stratified_sample(
    units: Sequence[UnitSummary], n: int | None, min_active_documents: int, seed: int
) -> list[UnitId]:
    """Draw `n` units spread over the range of firing rates, in recording order.

    Units are ordered by density and cut into `n` equal groups; one unit is drawn from each. Dead
    units and those active in too few `explain` documents are not in the frame.
    """
    frame = [
        (u.density, i, u.unit)
        for i, u in enumerate(units)
        if u.maximum > 0 and u.active_documents >= min_active_documents
    ]
    if n is None or len(frame) <= n:
        return [unit for _, _, unit in sorted(frame, key=lambda entry: entry[1])]
    generator = np.random.default_rng(derived_seed(seed, "unit sample", frame[0][2].source))
    edges = np.linspace(0, len(frame), n + 1).astype(int)
    ordered = sorted(frame)
    drawn = [ordered[int(generator.integers(first, last))] for first, last in pairwise(edges)]
    return [unit for _, _, unit in sorted(drawn, key=lambda entry: entry[1])]


def choose_donors(
    explanation: Explanation,
    candidates: Sequence[Explanation],
    densities: Mapping[UnitId, float],
    directions: Mapping[UnitId, np.ndarray],
    n: int,
) -> tuple[Explanation, ...]:
    """The explanations of `n` other units of the same source, nearest in firing rate.

    Left out are the other side of the same neuron and near copies (`NEAR_COPY_COSINE`). A donor
    with the same words stays in: an explainer that says the same of every unit earns no lift.

    Args:
        candidates: explanations by the same explainer.
        densities: unit → share of `explain` tokens on which it is active.
        directions: unit → [d_out] what it writes; units without one are never near copies.
    """
    own = explanation.unit

    def distance(other: Explanation) -> tuple[float, UnitId]:
        floor = 1e-9
        rates = (densities[own] + floor) / (densities[other.unit] + floor)
        return abs(math.log(rates)), other.unit

    allowed = [
        other
        for other in candidates
        if other.status == Status.OK
        and other.unit.source == own.source
        and other.unit.index != own.index
        and not _is_near_copy(directions.get(own), directions.get(other.unit))
    ]
    return tuple(sorted(allowed, key=distance)[:n])


def _is_near_copy(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return False
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return norm > 0 and float(a @ b) / norm > NEAR_COPY_COSINE
