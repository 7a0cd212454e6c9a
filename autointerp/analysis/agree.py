"""Do the scorers of a run measure the same thing? Their agreement, over units.

Two scorers that measure the same with error correlate below 1, the lower the more error there is.
So every scorer's reliability is found first: from scores on two halves of a unit's windows, or
where single answers are not stored from the error that its intervals state. Disattenuated
correlations (Spearman 1904) say what two scorers would correlate without error. People's ratings of
the same words stand beside them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats as scipy_stats

from autointerp import stats
from autointerp.analysis.loaded import ExplanationRow, LoadedRun, ScoreRow, load_run
from autointerp.analysis.ratings import (
    SCALES,
    Rating,
    default_explainer,
    read_ratings,
)
from autointerp.records import AutointerpError, Interval, UsageError, derived_seed
from autointerp.stats.agreement import (
    Agreement,
    Errors,
    Halves,
    Repeated,
    disattenuated,
    disattenuated_interval,
    kappa_interval,
    pearson,
    reliability_interval,
    spearman,
)
from autointerp.stats.estimate import FloatArray

Measure = Literal["score", "lift"]

HalfScores = Callable[[str], FloatArray | None]
"""A score's key → [2, n_splits] scores on halves of its windows; `None` where it has none. Raises
AutointerpError where the run's files cannot be read."""

MIN_HALVED = 0.8
"""Halves are used where this share of a scorer's units has them; its intervals elsewhere."""

MIN_UNITS = 3


@dataclass(frozen=True)
class ScorerReliability:
    """How far one scorer agrees with itself."""

    name: str
    metric: str
    n: int
    """Units with a number."""

    reliability: float | None
    """Share of the variance over units that is not error; `None` where none can be shown."""

    interval: Interval | None
    found_from: str
    """`halves`, `interval`, or nothing where it cannot be known."""


@dataclass(frozen=True)
class ScorerPair:
    """Agreement of two scorers on the units that both have a number for."""

    first: str
    second: str
    n: int
    spearman: Agreement
    pearson: float | None
    pearson_interval: Interval | None
    disattenuated: float | None
    """Can be above 1 by chance."""

    disattenuated_interval: Interval | None


@dataclass(frozen=True)
class AgreementReport:
    """What `autointerp agree` says of a run."""

    run: str
    explainer: str
    sources: tuple[str, ...]
    measure: Measure
    n_units: int
    scorers: tuple[ScorerReliability, ...]
    pairs: tuple[ScorerPair, ...]
    raters: tuple[dict[str, Any], ...]
    """Per pair of raters and scale: weighted kappa with its interval."""

    ratings: tuple[dict[str, Any], ...]
    """Per scale and scorer: Spearman's correlation of mean ratings with scores."""

    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run": self.run,
            "explainer": self.explainer,
            "sources": list(self.sources),
            "measure": self.measure,
            "n_units": self.n_units,
            "scorers": [
                {
                    "scorer": one.name,
                    "metric": one.metric,
                    "n": one.n,
                    "reliability": one.reliability,
                    "interval": ends(one.interval),
                    "found_from": one.found_from or None,
                }
                for one in self.scorers
            ],
            "pairs": [
                {
                    "a": one.first,
                    "b": one.second,
                    "n": one.n,
                    "spearman": one.spearman.value,
                    "spearman_interval": ends(one.spearman.interval),
                    "pearson": one.pearson,
                    "pearson_interval": ends(one.pearson_interval),
                    "disattenuated": one.disattenuated,
                    "disattenuated_interval": ends(one.disattenuated_interval),
                }
                for one in self.pairs
            ],
            "raters": list(self.raters),
            "ratings": list(self.ratings),
            "notes": list(self.notes),
        }


def agree(
    folder: str | Path,
    *,
    explainer: str | None = None,
    sources: Sequence[str] = (),
    measure: Measure = "score",
    half_scores: HalfScores | None = None,
    n_replicates: int = 1000,
) -> AgreementReport:
    """Agreement of a run's scorers with each other, with themselves, and with people.

    Args:
        folder: of a finished run.
        explainer: whose explanations; the best one with words by the headline if left out.
        sources: units of which sources; all if left out.
        measure: `score`, or `lift` over other units' explanations.
        half_scores: scores on halves of windows, such as `autointerp.halves.StoredHalves.of`;
            reliabilities are from intervals without it. Lifts have no halves.
        n_replicates: resamples of every interval.

    Raises:
        UsageError: for a name that the run does not have, or another measure.
        AutointerpError: where the folder holds no finished run.
    """
    if measure not in ("score", "lift"):
        raise UsageError(f"--of {measure!r}: agreement is of score or of lift")
    run = load_run(folder)
    name = explainer or default_explainer(run)
    rows = _rows(run, name, sources)
    seed = derived_seed(int(run.config.get("seed") or 0), "agree")
    halves = half_scores if measure == "score" else None
    measured = {scorer: _measured(rows, scorer, measure, halves) for scorer in run.scorers}
    measured = {scorer: one for scorer, one in measured.items() if one.values}
    of_scorers = tuple(
        _reliability(scorer, str(run.scorers[scorer].get("metric")), one, n_replicates, seed)
        for scorer, one in measured.items()
    )
    unread = sum((one.unread for one in measured.values()), Counter[str]())
    ratings, stale = _present(read_ratings(folder), rows)
    notes = [
        "a reliability from intervals errs low where intervals are too wide (docs/statistics.md), "
        "and what is disattenuated with it errs high"
    ] * any(one.found_from == "interval" for one in of_scorers)
    notes += [
        f"{n} scores could not be halved, for the run cannot be read: {why}"
        for why, n in unread.items()
    ]
    if stale:
        notes.append(f"{stale} ratings are of words that these units no longer have: left out")
    return AgreementReport(
        run.name,
        name,
        tuple(dict.fromkeys(row.source for row in rows.values())),
        measure,
        len(rows),
        of_scorers,
        tuple(
            _pair(a, b, measured[a], measured[b], n_replicates, seed)
            for a, b in combinations(measured, 2)
        ),
        tuple(_raters(ratings, n_replicates, seed)),
        tuple(_against_scores(ratings, measured)),
        tuple(notes),
    )


def ends(interval: Interval | None) -> dict[str, Any] | None:
    """An interval for JSON."""
    return None if interval is None else vars(interval)


@dataclass(frozen=True)
class _Measured:
    """One scorer's numbers."""

    values: Mapping[str, float]
    """Unit → score or lift."""

    errors: Mapping[str, float]
    """Unit → standard error, of those that have an interval."""

    halves: Mapping[str, FloatArray]
    """Unit → [2, n_splits]."""

    unread: Counter[str]
    """Why the run's files could not be read → scores that have no halves for it."""

    @property
    def has_halves(self) -> bool:
        return len(self.halves) >= max(MIN_UNITS, MIN_HALVED * len(self.values))

    @property
    def found_from(self) -> str:
        if self.has_halves:
            return "halves"
        return "interval" if len(self.errors) >= MIN_UNITS else ""

    def repeated(self, units: Sequence[str]) -> Repeated | None:
        """What a reliability over some units is found from."""
        if not self.found_from:
            return None
        if not self.has_halves:
            return Errors(
                np.array([self.values[unit] for unit in units]),
                np.array([self.errors.get(unit, np.nan) for unit in units]),
            )
        missing = np.full_like(next(iter(self.halves.values())), np.nan)
        found = np.stack([self.halves.get(unit, missing) for unit in units], axis=-1)
        return Halves(found[0], found[1])


def _rows(run: LoadedRun, explainer: str, sources: Sequence[str]) -> dict[str, ExplanationRow]:
    names = list(dict.fromkeys(row.explainer for row in run.rows))
    known = list(dict.fromkeys(row.source for row in run.rows))
    if explainer not in names:
        raise UsageError(f"the run has no explainer {explainer!r}, but {', '.join(names)}")
    for source in sources:
        if source not in known:
            raise UsageError(f"the run has no source {source!r}, but {', '.join(known)}")
    return {
        row.unit: row
        for row in run.rows
        if row.explainer == explainer and (not sources or row.source in sources)
    }


def _measured(
    rows: Mapping[str, ExplanationRow],
    scorer: str,
    measure: Measure,
    half_scores: HalfScores | None,
) -> _Measured:
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    halves: dict[str, FloatArray] = {}
    unread: Counter[str] = Counter()
    for unit, row in rows.items():
        score = row.scores.get(scorer)
        value = _value(score, measure)
        if score is None or value is None:
            continue
        values[unit] = value
        interval = score.score_interval if measure == "score" else score.lift_interval
        if interval is not None:
            width = 2 * float(scipy_stats.norm.ppf((1 + interval.level) / 2))
            errors[unit] = (interval.high - interval.low) / width
        try:
            found = half_scores(score.key) if half_scores and score.key else None
        except AutointerpError as why:
            unread[str(why)] += 1
            continue
        if found is not None and not np.isnan(found).all():
            halves[unit] = found
    return _Measured(values, errors, halves, unread)


def _value(score: ScoreRow | None, measure: Measure) -> float | None:
    if score is None:
        return None
    outcome = score.outcome()
    return outcome.value if measure == "score" else outcome.lift


def _reliability(
    name: str, metric: str, one: _Measured, n_replicates: int, seed: int
) -> ScorerReliability:
    repeated = one.repeated(list(one.values))
    return ScorerReliability(
        name,
        metric,
        len(one.values),
        repeated.reliability() if repeated else None,
        reliability_interval(repeated, n_replicates=n_replicates, seed=seed) if repeated else None,
        one.found_from,
    )


def _pair(
    first: str, second: str, one: _Measured, other: _Measured, n_replicates: int, seed: int
) -> ScorerPair:
    units = [unit for unit in one.values if unit in other.values]
    x = np.array([one.values[unit] for unit in units])
    y = np.array([other.values[unit] for unit in units])
    r = pearson(x, y)
    reliable = (one.repeated(units), other.repeated(units)) if units else (None, None)
    value = interval = None
    if reliable[0] is not None and reliable[1] is not None:
        value = disattenuated(r, reliable[0].reliability(), reliable[1].reliability())
        if value is not None:
            interval = disattenuated_interval(
                x, y, reliable[0], reliable[1], n_replicates=n_replicates, seed=seed
            )
    fisher = None if r is None or abs(r) >= 1 else stats.fisher_z_interval(r, len(units))
    return ScorerPair(first, second, len(units), spearman(x, y), r, fisher, value, interval)


# --------------------------------------------------------------------- people


def _present(
    ratings: Sequence[Rating], rows: Mapping[str, ExplanationRow]
) -> tuple[list[Rating], int]:
    """Ratings of the present words of these units, and how many are of earlier ones."""
    ours = [one for one in ratings if one.unit in rows and one.explainer == _of(rows)]
    kept = [one for one in ours if one.explanation_key == rows[one.unit].explanation_key]
    return kept, len(ours) - len(kept)


def _of(rows: Mapping[str, ExplanationRow]) -> str:
    return next((row.explainer for row in rows.values()), "")


def _grades(ratings: Sequence[Rating], scale: str) -> dict[str, dict[str, int]]:
    """Rater → unit → grade."""
    found: dict[str, dict[str, int]] = {}
    for one in ratings:
        grade = one.total if scale == "total" else one.simple
        if grade is not None:
            found.setdefault(one.rater, {})[one.unit] = grade
    return found


def _raters(ratings: Sequence[Rating], n_replicates: int, seed: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for scale, most in SCALES.items():
        grades = _grades(ratings, scale)
        for a, b in combinations(sorted(grades), 2):
            units = sorted(grades[a].keys() & grades[b].keys())
            x, y = [grades[a][u] for u in units], [grades[b][u] for u in units]
            kappa = kappa_interval(x, y, most + 1, n_replicates=n_replicates, seed=seed)
            found.append(
                {
                    "scale": f"0-{most}",
                    "a": a,
                    "b": b,
                    "n": kappa.n,
                    "weighted_kappa": kappa.value,
                    "interval": ends(kappa.interval),
                }
            )
    return found


def _against_scores(
    ratings: Sequence[Rating], measured: Mapping[str, _Measured]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for scale, most in SCALES.items():
        grades = _grades(ratings, scale)
        units = sorted({unit for of_one in grades.values() for unit in of_one})
        means = {u: float(np.mean([g[u] for g in grades.values() if u in g])) for u in units}
        for scorer, one in measured.items() if means else ():
            both = [unit for unit in units if unit in one.values]
            result = spearman([means[u] for u in both], [one.values[u] for u in both])
            found.append(
                {
                    "scale": f"0-{most}",
                    "scorer": scorer,
                    "n": result.n,
                    "n_raters": len(grades),
                    "spearman": result.value,
                    "interval": ends(result.interval),
                }
            )
    return found
