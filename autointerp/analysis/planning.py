"""`autointerp plan`: how many units, with how many windows each, a difference needs to be seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
from scipy import stats as scipy_stats

from autointerp.analysis.agree import HalfScores, agree
from autointerp.analysis.loaded import ExplanationRow, LoadedRun, ScoreRow, load_run
from autointerp.analysis.wording import number, percent
from autointerp.records import UsageError
from autointerp.stats.power import (
    Components,
    Question,
    smallest_effect,
    units_needed,
    variance_components,
)

WINDOW_SHARES = (0.5, 1.0, 2.0, 4.0)
"""Multiples of the pilot's windows per unit that are tabulated."""

SIZES = (8, 16, 32, 64, 128, 256, 512)
"""Numbers of units for which the least effect is tabulated."""

MIN_PILOT = 8
"""A pilot of fewer units says little about a variance, and the plan says so."""


@dataclass(frozen=True)
class Plan:
    """What is needed, from which assumptions."""

    question: Question
    effect: float
    power: float
    alpha: float
    components: Components
    source: str
    """Where the components come from, in a sentence."""

    needed: tuple[tuple[int, int | None], ...]
    """(windows per unit, units in each group or pairs)."""

    seen: tuple[tuple[int, float | None], ...]
    """(units, least effect seen with this power) at the pilot's windows."""

    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        return {
            "question": self.question,
            "effect": self.effect,
            "power": self.power,
            "alpha": self.alpha,
            "components": {**vars(self.components), "reliability": self.components.reliability},
            "source": self.source,
            "needed": [{"windows": k, "units": n} for k, n in self.needed],
            "smallest_effect": [{"units": n, "effect": effect} for n, effect in self.seen],
            "notes": list(self.notes),
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        """The answer in words."""
        what = {
            "groups": f"a difference in mean lift of {number(self.effect)} between two groups",
            "paired": f"a mean paired difference in lift of {number(self.effect)}",
            "mean": f"a mean lift of {number(self.effect)}",
        }[self.question]
        who = {
            "groups": "units in each group",
            "paired": "units, each under both explainers",
            "mean": "units",
        }[self.question]
        n = dict(self.needed).get(round(self.components.windows))
        if n is None:
            return f"{what[:1].upper()}{what[1:]} cannot be seen with any number of units."
        return (
            f"{what[:1].upper()}{what[1:]} is seen with {percent(self.power)} power (two-sided t "
            f"test at {self.alpha:g}) by {n:,} {who}, with {self.components.windows:g} scored "
            "windows per unit."
        )


def plan(
    folder: str | Path | None,
    *,
    effect: float,
    power: float = 0.8,
    alpha: float = 0.05,
    question: Question = "groups",
    explainers: Sequence[str] = (),
    sources: Sequence[str] = (),
    scorer: str | None = None,
    half_scores: HalfScores | None = None,
) -> Plan:
    """Plan the size of a run.

    Args:
        folder: of a finished pilot run; those measured on the demo (`MEASURED`) where `None`.
        effect: what is to be seen, in lift.
        power: chance of seeing it.
        alpha: level of the two-sided test.
        question: `groups`, `paired` or `mean` (`stats.power.Question`).
        explainers: of the pilot: two for `paired`, else one; the pilot's best explainer where
            empty.
        sources: of the pilot; all where empty.
        scorer: of the pilot; the headline's where `None`.
        half_scores: scores on halves of windows, such as `autointerp.halves.StoredHalves.of`: tell
            a lift's error better than its interval does, which errs wide.

    Raises:
        UsageError: for an effect of 0, a power outside (alpha, 1), or a pilot without enough units.
    """
    # Not `> 2` of the size: NaN is no effect either.
    if effect == 0 or not abs(effect) <= 2:
        raise UsageError(f"--effect {effect:g}: expected a difference of lifts such as 0.1")
    if not 0 < alpha < 1 or not alpha < power < 1:
        raise UsageError(f"--power {power:g}, --alpha {alpha:g}: expected 0 < alpha < power < 1")
    notes: list[str] = []
    if folder is None:
        components, source = _measured_before(question)
    else:
        run = load_run(folder)
        components, source = _pilot(run, question, explainers, sources, scorer, half_scores)
        if components.n_units < MIN_PILOT:
            notes.append(
                f"The pilot has {components.n_units} units: its variances are rough; 95 % of such "
                f"pilots estimate a standard deviation within {_sd_range(components.n_units)} of "
                "the true one."
            )
    if components.between == 0:
        notes.append(
            "The pilot's units differ by no more than the error of their windows explains: the "
            "plan assumes that they do not differ at all, and is then optimistic."
        )
    windows = [max(1, round(share * components.windows)) for share in WINDOW_SHARES]
    return Plan(
        question=question,
        effect=abs(effect),
        power=power,
        alpha=alpha,
        components=components,
        source=source,
        needed=tuple(
            (k, units_needed(abs(effect), _sd(components, k), power, question, alpha))
            for k in dict.fromkeys(windows)
        ),
        seen=tuple((n, smallest_effect(_sd(components), n, power, question, alpha)) for n in SIZES),
        notes=tuple(notes),
    )


MEASURED: dict[Question, Components] = {
    "groups": Components(between=0.080, within=0.023, windows=8, n_units=31),
    "mean": Components(between=0.106, within=0.023, windows=8, n_units=31),
    "paired": Components(between=0.032, within=0.053, windows=8, n_units=30),
}
"""Measured on the demo: features and sparsified neurons of block 14 of SmolLM2-135M, read by the
embedded simulator, under `top_tokens`; of pairs, `top_tokens` less `words`. Printed by `autointerp
plan results/demo --effect 0.1 --explainer top_tokens` after `autointerp demo`."""


def as_question(text: str) -> Question:
    """The question called `text`.

    Raises:
        UsageError: where there is none.
    """
    for name in get_args(Question):
        if name == text:
            return name
    raise UsageError(f"--question {text!r}: expected one of {', '.join(get_args(Question))}")


def _measured_before(question: Question) -> tuple[Components, str]:
    found = MEASURED[question]
    return found, (
        f"no pilot: as measured on {found.n_units} units of the demo run (docs/statistics.md): "
        f"standard deviation of true {'differences' if question == 'paired' else 'lifts'} "
        f"{found.between**0.5:.2f} over units, error {found.within**0.5:.2f} at "
        f"{found.windows:g} windows"
    )


def _pilot(
    run: LoadedRun,
    question: Question,
    explainers: Sequence[str],
    sources: Sequence[str],
    scorer: str | None,
    half_scores: HalfScores | None,
) -> tuple[Components, str]:
    scorer = scorer or run.primary_scorer
    if scorer not in run.scorers:
        raise UsageError(f"there is no scorer {scorer!r}; there are {', '.join(run.scorers)}")
    wanted = list(explainers) or _best(run, scorer, 2 if question == "paired" else 1)
    known = list(dict.fromkeys(row.explainer for row in run.rows))
    for name in wanted:
        if name not in known:
            raise UsageError(f"there is no explainer {name!r}; there are {', '.join(known)}")
    if len(wanted) != (2 if question == "paired" else 1):
        raise UsageError(
            f"{question} needs {'two explainers' if question == 'paired' else 'one explainer'}, "
            f"given {', '.join(wanted) or 'none'}"
        )
    rows = {
        (row.unit, row.explainer): row for row in run.rows if not sources or row.source in sources
    }
    units = list(dict.fromkeys(unit for unit, _ in rows))
    by_unit = {
        unit: found
        for unit in units
        if (found := _measured([rows.get((unit, name)) for name in wanted], scorer)) is not None
    }
    values = [value for value, _, _ in by_unit.values()]
    errors = [error for _, error, _ in by_unit.values()]
    windows = [k for _, _, k in by_unit.values()]
    n_groups = 1
    if question == "groups":
        # Groups may differ: what counts is the spread inside them.
        values = _centred(by_unit, rows, wanted[0])
        n_groups = len({rows[unit, wanted[0]].source for unit in by_unit})
    found_from = "their intervals"
    halved = _error_of_halves(run, scorer, wanted, sources, half_scores)
    if halved is not None:
        errors, found_from = [halved] * len(values), "halves of their windows"
    components = (
        variance_components(values, errors, median(windows), n_groups) if len(values) > 2 else None
    )
    if components is None:
        raise UsageError(
            f"the pilot {run.name} has {len(values)} units with a lift and an interval under "
            f"{', '.join(wanted)}; a plan needs at least 3"
        )
    seen = float(np.var(values, ddof=n_groups))
    if components.between == 0 and seen > 0:
        # An error larger than all that is seen is estimated too large: lifts at the pilot's own
        # windows spread as they were seen to spread.
        components = replace(components, within=min(components.within, seen))
    return components, (
        f"{components.n_units} units of {run.name} under {' and '.join(wanted)} by {scorer}: "
        f"standard deviation of true lifts {components.between**0.5:.3f}, error "
        f"{components.within**0.5:.3f} at {components.windows:g} windows, from {found_from}"
    )


def _error_of_halves(
    run: LoadedRun,
    scorer: str,
    explainers: Sequence[str],
    sources: Sequence[str],
    half_scores: HalfScores | None,
) -> float | None:
    """Standard error of a lift, or of a difference of two, from scores on halves of windows.

    e² = Σ over explainers of (1 - reliability) Var(scores): the error of the controls' mean, which
    is shared and smaller, is left out. `None` where a scorer has no halves.
    """
    if half_scores is None:
        return None
    total = 0.0
    for explainer in explainers:
        found = agree(
            run.folder, explainer=explainer, sources=sources, half_scores=half_scores,
            n_replicates=100,
        )  # fmt: skip
        one = next((s for s in found.scorers if s.name == scorer), None)
        if one is None or one.found_from != "halves" or one.reliability is None:
            return None
        rows = [r for r in run.rows if r.explainer == explainer and r.source in found.sources]
        scores = [r.scores[scorer].outcome().value for r in rows if scorer in r.scores]
        known = [value for value in scores if value is not None]
        total += max(0.0, 1 - one.reliability) * float(np.var(known, ddof=1))
    return total**0.5


def _centred(
    by_unit: dict[str, tuple[float, float, int]],
    rows: dict[tuple[str, str], ExplanationRow],
    explainer: str,
) -> list[float]:
    by_source: dict[str, list[float]] = {}
    for unit, (value, _, _) in by_unit.items():
        by_source.setdefault(rows[unit, explainer].source, []).append(value)
    means = {source: sum(found) / len(found) for source, found in by_source.items()}
    return [value - means[rows[u, explainer].source] for u, (value, _, _) in by_unit.items()]


def _measured(
    rows: Sequence[ExplanationRow | None], scorer: str
) -> tuple[float, float, int] | None:
    """Lift (or difference of two), its standard error, and windows; `None` without one."""
    scores = [row.scores.get(scorer) if row else None for row in rows]
    found = [_lift_and_error(score) for score in scores if score is not None]
    if len(found) < len(rows) or any(one is None for one in found):
        return None
    known = [one for one in found if one is not None]
    windows = min(score.n_windows or 0 for score in scores if score is not None)
    if not windows:
        return None
    value = known[0][0] if len(known) == 1 else known[0][0] - known[1][0]
    return value, sum(error**2 for _, error in known) ** 0.5, windows


def _lift_and_error(score: ScoreRow) -> tuple[float, float] | None:
    outcome, interval = score.outcome(), score.lift_interval
    if outcome.lift is None or interval is None:
        return None
    quantile = float(scipy_stats.norm.ppf((1 + interval.level) / 2))
    return outcome.lift, (interval.high - interval.low) / (2 * quantile)


def _best(run: LoadedRun, scorer: str, n: int) -> list[str]:
    """The explainer with the highest mean lift, and the next one with words."""
    own = {row.explainer for row in run.rows if not row.is_baseline}
    lifts: dict[str, list[float]] = {name: [] for name in sorted(own)}
    for row in run.rows:
        score = row.scores.get(scorer)
        if row.explainer in lifts and score and score.outcome().lift is not None:
            lifts[row.explainer].append(score.outcome().lift or 0.0)
    ranked = sorted(
        (name for name, found in lifts.items() if found),
        key=lambda name: -sum(lifts[name]) / len(lifts[name]),
    )
    return ranked[:n]


def _sd(components: Components, windows: float | None = None) -> float:
    found = components.sd(windows)
    if found <= 0:
        raise UsageError("the pilot's lifts do not vary at all: nothing can be planned from them")
    return found


def _sd_range(n: int) -> str:
    degrees = max(1, n - 1)
    low = (float(scipy_stats.chi2.ppf(0.025, degrees)) / degrees) ** 0.5
    high = (float(scipy_stats.chi2.ppf(0.975, degrees)) / degrees) ** 0.5
    return f"{percent(low)} to {percent(high)}"
