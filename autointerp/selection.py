"""Which units are explained, and whose explanations serve as controls: pure functions."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise

import numpy as np

from autointerp.records import Explanation, Status, UnitId, derived_seed
from autointerp.store import UnitSummary

NEAR_COPY_COSINE = 0.7
"""A unit that writes in nearly the same direction is no control: its explanation may be right."""

_RATE_FLOOR = 1e-9
"""Added to firing rates, whose logarithm is compared."""


_Row = tuple[float, UnitId, Explanation]
"""Logarithm of the firing rate, unit, explanation."""


def _rate_of(row: _Row) -> float:
    return row[0]


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


class Donors:
    """Finds, for every unit, the units nearest in firing rate whose explanations are its controls.

    Left out are the other side of the same neuron and near copies (`NEAR_COPY_COSINE`). A donor
    with the same words stays in: an explainer that says the same of every unit earns no lift.
    """

    def __init__(
        self,
        candidates: Sequence[Explanation],
        densities: Mapping[UnitId, float],
        directions: Mapping[UnitId, np.ndarray],
    ) -> None:
        """Order the candidates by firing rate.

        Args:
            candidates: explanations by the same explainer; only those with words are donors.
            densities: unit → share of `explain` tokens on which it is active.
            directions: unit → [d_out] what it writes; units without one are never near copies.
        """
        self._densities = densities
        self._directions = directions
        self._by_source: dict[str, list[_Row]] = {}
        for one in candidates:
            if one.status == Status.OK:
                row = (self._log_rate(one.unit), one.unit, one)
                self._by_source.setdefault(one.unit.source, []).append(row)
        for rows in self._by_source.values():
            rows.sort(key=lambda row: row[:2])

    def of(self, explanation: Explanation, n: int) -> tuple[Explanation, ...]:
        """The `n` nearest donors of one explanation, nearest first; equally near ones by unit."""
        rows = self._by_source.get(explanation.unit.source, [])
        if n < 1 or not rows:
            return ()
        rate = self._log_rate(explanation.unit)
        above = bisect_left(rows, rate, key=_rate_of)
        below = above
        found: list[Explanation] = []
        # Rows of one rate are taken together and read in the order of their units: thousands of
        # units of a dictionary fire equally often, and no more of them are looked at than wanted.
        while len(found) < n and (below > 0 or above < len(rows)):
            down = rate - rows[below - 1][0] if below > 0 else math.inf
            up = rows[above][0] - rate if above < len(rows) else math.inf
            nearest: list[tuple[UnitId, Explanation]] = []
            if down <= up:
                start = bisect_left(rows, rows[below - 1][0], hi=below, key=_rate_of)
                nearest += self._first_allowed(explanation.unit, rows, start, below, n)
                below = start
            if up <= down:
                end = bisect_right(rows, rows[above][0], lo=above, key=_rate_of)
                nearest += self._first_allowed(explanation.unit, rows, above, end, n)
                above = end
            found += [one for _, one in sorted(nearest, key=lambda pair: pair[0])]
        return tuple(found[:n])

    def _first_allowed(
        self, own: UnitId, rows: Sequence[_Row], start: int, end: int, n: int
    ) -> list[tuple[UnitId, Explanation]]:
        """The first `n` rows from `start` up to `end` that can be donors."""
        allowed = (rows[i][1:] for i in range(start, end) if self._allowed(own, rows[i][1]))
        return list(islice(allowed, n))

    def _log_rate(self, unit: UnitId) -> float:
        return math.log(self._densities[unit] + _RATE_FLOOR)

    def _allowed(self, own: UnitId, other: UnitId) -> bool:
        directions = self._directions
        return other.index != own.index and not _is_near_copy(
            directions.get(own), directions.get(other)
        )


def _is_near_copy(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return False
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return norm > 0 and float(a @ b) / norm > NEAR_COPY_COSINE
