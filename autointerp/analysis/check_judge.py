"""Is this simulator fit to score explanations? Known answers say so.

A unit's windows are simulated under its true explanation, a broader, a narrower and an unrelated
one, and scored by pooled Pearson correlation as any explanation is. A judge that is fit puts the
true one first. A constant simulation scores 0 here, so that saying nothing is no advantage.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import mean

import numpy as np

from autointerp.analysis.known_answers import GROUPS, TEXTS, KnownAnswer
from autointerp.records import Simulation
from autointerp.simulators import Simulator
from autointerp.stats import exact_binomial, pooled_pearson

MIN_GROUP = 6
"""Wins of as many units are beyond chance at 95 %; of five they are not (Clopper-Pearson)."""


@dataclass(frozen=True)
class JudgedUnit:
    """One planted unit under its four explanations."""

    unit: str
    name: str
    kind: str
    correlations: dict[str, float]
    """Name of the explanation → pooled Pearson correlation with the truth, 0 where undefined; of a
    judge by detection, Youden's J (`check_llm`)."""

    known_share: float
    """Share of tokens that the simulator said anything about, over the four."""


@dataclass(frozen=True)
class Wins:
    """How often the true explanation scores higher than a false one."""

    wins: int
    """Ties count half, rounded down."""

    n: int
    share: float | None
    low: float | None
    """Ends of the exact 95 % interval (Clopper-Pearson)."""

    high: float | None

    @classmethod
    def of(cls, units: Sequence[JudgedUnit], false: str) -> "Wins":
        """Over some units, against the explanation called `false`."""
        pairs = [(u.correlations["true"], u.correlations[false]) for u in units]
        points = sum(1.0 if t > f else 0.5 if t == f else 0.0 for t, f in pairs)
        found = exact_binomial(int(points), len(pairs))
        ends = found.interval
        return cls(
            int(points),
            len(pairs),
            found.share,
            ends.low if ends else None,
            ends.high if ends else None,
        )

    @property
    def beyond_chance(self) -> bool:
        """Whether chance, one half, lies below the interval."""
        return self.low is not None and self.low > 0.5


@dataclass(frozen=True)
class JudgeGroup:
    """Units of a few kinds."""

    name: str
    n: int
    mean_true: float | None
    """Mean correlation under the true explanations."""

    mean_unrelated: float | None
    auc: float | None
    """Chance that a true explanation of any unit scores above an unrelated one of any unit."""

    against: dict[str, Wins]
    """Name of the false explanation → wins of the true one on the same unit."""

    @property
    def margin(self) -> float | None:
        """Mean correlation of true explanations less that of unrelated ones: what judges are
        ranked by. 1 for an oracle, 0 for a constant, -1 for an inverted oracle."""
        if self.mean_true is None or self.mean_unrelated is None:
            return None
        return self.mean_true - self.mean_unrelated


@dataclass(frozen=True)
class JudgeReport:
    """What is known of one judge."""

    judge: str
    units: list[JudgedUnit]
    groups: list[JudgeGroup]
    """All readable units first, then each of `GROUPS`."""

    missing_share: float
    """Share of tokens without a prediction: mass below the floor, or malformed answers."""

    order_difference: float
    """Largest change of a level when the windows are given in reverse order; 0 is right."""

    seconds: float
    n_tokens: int
    """Subject tokens that were judged."""

    verdict: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        found = asdict(self)
        for group, plain in zip(self.groups, found["groups"], strict=True):
            plain["margin"] = group.margin
        return found


def check_judge(
    simulator: Simulator,
    answers: Sequence[KnownAnswer],
    on_unit: Callable[[JudgedUnit], None] | None = None,
) -> JudgeReport:
    """Run a simulator over the readable units.

    Args:
        simulator: what is to be checked.
        answers: of `known_answers`.
        on_unit: called after each unit.
    """
    readable = [answer for answer in answers if answer.readable]
    started = time.monotonic()
    units: list[JudgedUnit] = []
    for answer in readable:
        units.append(_judged(simulator, answer))
        if on_unit is not None:
            on_unit(units[-1])
    seconds = time.monotonic() - started
    groups = [group_of("all", units)]
    groups += [
        group_of(name, [u for u in units if u.kind in kinds]) for name, kinds in GROUPS.items()
    ]
    return JudgeReport(
        simulator.name,
        units,
        groups,
        1 - mean(u.known_share for u in units),
        _order_difference(simulator, readable[0]),
        seconds,
        sum(len(TEXTS) * len(tokens) for a in readable for tokens in a.tokens),
        verdict_of(groups)
        if max(group.n for group in groups[1:]) >= MIN_GROUP
        else f"Too few to tell: no group has {MIN_GROUP} units, the least beyond chance.",
    )


def _judged(simulator: Simulator, answer: KnownAnswer) -> JudgedUnit:
    found = simulator.simulate_many([(answer.explanations[n], answer.tokens) for n in TEXTS])
    return JudgedUnit(
        answer.unit,
        answer.name,
        answer.kind,
        {n: correlation(answer.truth, s) for n, s in zip(TEXTS, found, strict=True)},
        float(np.mean(np.concatenate([s.known for part in found for s in part]))),
    )


def correlation(truth: Sequence[np.ndarray], simulations: Sequence[Simulation]) -> float:
    """Pooled Pearson correlation over known tokens; 0 where either side is constant."""
    pairs = list(zip(truth, simulations, strict=True))
    found = pooled_pearson([t[s.known] for t, s in pairs], [s.expected[s.known] for _, s in pairs])
    return found.value or 0.0


def group_of(name: str, units: Sequence[JudgedUnit]) -> JudgeGroup:
    """Facts of a group of judged units, which may be empty."""
    if not units:
        return JudgeGroup(name, 0, None, None, None, {f: Wins.of([], f) for f in TEXTS[1:]})
    true = np.array([u.correlations["true"] for u in units])
    unrelated = np.array([u.correlations["unrelated"] for u in units])
    above = (true[:, None] > unrelated) + 0.5 * (true[:, None] == unrelated)
    return JudgeGroup(
        name,
        len(units),
        float(true.mean()),
        float(unrelated.mean()),
        float(above.mean()),
        {false: Wins.of(units, false) for false in TEXTS[1:]},
    )


def _order_difference(simulator: Simulator, answer: KnownAnswer) -> float:
    """Largest change of an expected level when the windows come in reverse order."""
    text = answer.explanations["true"]
    there = simulator.simulate(text, answer.tokens)
    back = simulator.simulate(text, answer.tokens[::-1])[::-1]
    gaps = [
        np.abs(a.expected - b.expected)[a.known & b.known] for a, b in zip(there, back, strict=True)
    ]
    return float(max((gap.max() for gap in gaps if gap.size), default=0.0))


def verdict_of(groups: Sequence[JudgeGroup]) -> str:
    """One sentence that claims no more than the intervals."""
    fit = [g.name for g in groups[1:] if g.against["unrelated"].beyond_chance]
    near = [
        g.name
        for g in groups[1:]
        if g.against["broad"].beyond_chance and g.against["narrow"].beyond_chance
    ]
    unfit = [g.name for g in groups[1:] if g.name not in fit]
    if not fit:
        return (
            "Not fit to judge: on no group of units are true explanations told from unrelated ones "
            "beyond chance."
        )
    parts = [f"Tells true explanations from unrelated ones on units of {_listed(fit)}"]
    parts.append(
        f"ranks them above near misses on units of {_listed(near)}"
        if near
        else "is not shown to rank them above near misses"
    )
    if unfit:
        parts.append(f"is not shown to be fit for units of {_listed(unfit)}")
    return "; ".join(parts) + "."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
