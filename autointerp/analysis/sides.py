"""The two sides of a comparison: groups of units, each with what became of it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from autointerp.analysis.results import RunResults
from autointerp.analysis.values import UNDEFINED, UNKNOWN, Outcome, outcome_of


@dataclass(frozen=True)
class Member:
    """One unit under one explainer and scorer."""

    key: Hashable
    """The same unit recorded in the same way has the same key, whatever explains it."""

    rate: float
    """Share of `explain` tokens on which it is active."""

    outcome: Outcome
    design: str = ""
    """Name of the sampling design whose windows were scored; empty without a score."""


@dataclass(frozen=True)
class Side:
    """One group of units."""

    name: str
    members: tuple[Member, ...]

    @property
    def lifts(self) -> list[float]:
        """Lifts of the units that have one."""
        return [m.outcome.lift for m in self.members if m.outcome.lift is not None]

    @property
    def n_undefined(self) -> int:
        """Living, explained units whose windows define no score."""
        return sum(m.outcome.status in UNDEFINED for m in self.members)

    @property
    def n_unknown(self) -> int:
        """Units whose score failed or was not asked for."""
        return sum(m.outcome.status in UNKNOWN for m in self.members)

    @property
    def designs(self) -> set[str]:
        """Sampling designs of the units with a lift."""
        return {m.design for m in self.members if m.outcome.lift is not None}

    def with_undefined(self) -> list[float]:
        """All lifts, and 0 for every undefined one."""
        return [*self.lifts, *[0.0] * self.n_undefined]

    def rates(self) -> list[float]:
        """Firing rates of all units; 0, which is in no bin, for one without a lift."""
        return [m.rate if m.outcome.lift is not None else 0.0 for m in self.members]


def side_of(results: RunResults, source: str, explainer: str) -> Side:
    """The units of one source under one explainer."""
    members: list[Member] = []
    for unit in results.of_source(source):
        score = unit.scores.get(explainer)
        design = score.design if score else ""
        outcome = outcome_of(unit, explainer)
        members.append(Member(str(unit.unit), unit.density, outcome, design))
    return Side(source, tuple(members))


def paired_lifts(a: Side, b: Side, *, undefined_as_zero: bool) -> list[tuple[float, float]]:
    """Lifts of the units that are on both sides and have one on both, in the order of `a`."""
    others = {member.key: member.outcome for member in b.members}
    pairs: list[tuple[float, float]] = []
    for member in a.members:
        other = others.get(member.key)
        if other is None:
            continue
        x = _lift(member.outcome, undefined_as_zero)
        y = _lift(other, undefined_as_zero)
        if x is not None and y is not None:
            pairs.append((x, y))
    return pairs


def n_shared(a: Side, b: Side) -> int:
    """Units that are on both sides, whatever became of them."""
    return len({m.key for m in a.members} & {m.key for m in b.members})


def merged(name: str, sides: Sequence[Side]) -> Side:
    """All units of several sides as one."""
    return Side(name, tuple(member for side in sides for member in side.members))


def _lift(outcome: Outcome, undefined_as_zero: bool) -> float | None:
    if outcome.lift is None and undefined_as_zero and outcome.status in UNDEFINED:
        return 0.0
    return outcome.lift
