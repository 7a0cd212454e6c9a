"""`autointerp mean`: the mean of an expensive score over a dictionary, from the tables of a run.

Where the run was a cascade, its gold units are the random sample and its first stage the cheap
score. Of a run that scored everything by both, a random part of the gold scores can be taken alone:
that shows what a cascade would have known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from autointerp.analysis.loaded import ExplanationRow, LoadedRun, load_run
from autointerp.analysis.powered import powered_means
from autointerp.analysis.wording import percent
from autointerp.records import Status, UsageError, derived_seed


@dataclass(frozen=True)
class DictionaryMean:
    """Means of one run, per source and explainer."""

    run: str
    gold: str
    cheap: str
    measure: str
    level: float
    rows: tuple[dict[str, Any], ...]
    """`source`, `explainer`, and what `powered_means` gives."""

    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        return {**vars(self), "rows": list(self.rows), "notes": list(self.notes)}


def dictionary_mean(
    folder: str | Path,
    *,
    gold: str | None = None,
    cheap: str | None = None,
    measure: str = "lift",
    gold_share: float | None = None,
    level: float = 0.95,
    explainers: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> DictionaryMean:
    """Means of a gold score over all units that a cheap score has been asked about.

    Args:
        folder: of a finished run.
        gold: the expensive scorer; the last stage of the run's cascade if `None`.
        cheap: the other; the first stage of the run's cascade if `None`.
        measure: `lift`, or `score` as it is.
        gold_share: only so many of the gold scores are used, drawn by chance.
        level: nominal coverage.
        explainers: whose explanations; all in words where empty.
        sources: of which units; all where empty.

    Raises:
        UsageError: for a scorer, explainer or source that is not there, or without any unit that
            has both scores.
    """
    run = load_run(folder)
    stages = (run.config.get("cascade") or {}).get("stages") or [None, None]
    gold, cheap = (
        _scorer(run, gold, stages[-1], "--gold"),
        _scorer(run, cheap, stages[0], "--cheap"),
    )
    if gold == cheap:
        raise UsageError(f"--gold and --cheap are both {gold!r}: a mean needs two scorers")
    if measure not in ("lift", "score"):
        raise UsageError(f"--of {measure!r}: expected lift or score")
    if gold_share is not None and not 0 < gold_share <= 1:
        raise UsageError(f"--gold-share {gold_share:g}: expected a share above 0, at most 1")
    if not 0 < level < 1:
        raise UsageError(f"--level {level:g}: expected a coverage such as 0.95")
    seed = int(run.config.get("seed") or 0)
    found: list[dict[str, Any]] = []
    for source, explainer in _groups(run, explainers, sources):
        rows = {r.unit: r for r in run.rows if (r.source, r.explainer) == (source, explainer)}
        own = {
            unit: v for unit, row in rows.items() if (v := _number(row, cheap, measure)) is not None
        }
        drawn = _drawn(rows, own, gold, gold_share, seed)
        known = {u: v for u in drawn if (v := _number(rows[u], gold, measure)) is not None}
        means = powered_means(
            known, own, is_sample=lambda unit, drawn=drawn: unit in drawn, level=level,
            seed=derived_seed(seed, "dictionary mean", source, explainer),
        )  # fmt: skip
        if means is not None:
            left_out = len(rows) - len(own)
            found.append({"source": source, "explainer": explainer, **means,
                          "n_without_cheap": left_out})  # fmt: skip
    if not found:
        raise UsageError(f"no unit of {run.name} has a {measure} by both {gold} and {cheap}")
    return DictionaryMean(run.name, gold, cheap, measure, level, tuple(found), _notes(run, found))


def _scorer(run: LoadedRun, given: str | None, staged: str | None, option: str) -> str:
    known = ", ".join(run.scorers)
    if given is None and staged is None:
        raise UsageError(f"{option} is not given, and {run.name} is no cascade; it has {known}")
    name = given or staged or ""
    if name not in run.scorers:
        kinds = {str(s.get("name")): s.get("type") for s in run.config.get("scorers") or []}
        if kinds.get(name) == "simulation" and "simulation" in run.scorers:
            return "simulation"
        raise UsageError(f"{option} {name!r}: there is no such scorer; there are {known}")
    return name


def _groups(
    run: LoadedRun, explainers: Sequence[str], sources: Sequence[str]
) -> list[tuple[str, str]]:
    known = {row.explainer for row in run.rows}
    for name in explainers:
        if name not in known:
            raise UsageError(
                f"there is no explainer {name!r}; there are {', '.join(sorted(known))}"
            )
    for name in sources:
        if name not in {row.source for row in run.rows}:
            raise UsageError(f"there is no source {name!r} in {run.name}")
    return list(
        dict.fromkeys(
            (row.source, row.explainer)
            for row in run.rows
            if (row.explainer in explainers if explainers else not row.is_baseline)
            and (not sources or row.source in sources)
        )
    )


def _number(row: ExplanationRow, scorer: str, measure: str) -> float | None:
    score = row.scores.get(scorer)
    outcome = score.outcome() if score else None
    if outcome is None:
        return None
    return outcome.lift if measure == "lift" else outcome.value


def _drawn(
    rows: dict[str, ExplanationRow],
    own: dict[str, float],
    gold: str,
    share: float | None,
    seed: int,
) -> set[str]:
    """The units with a cheap score that were drawn by chance for the gold one."""
    units = [
        unit
        for unit in own
        if (score := rows[unit].scores.get(gold)) is not None and score.status is not Status.STAGED
    ]
    if share is None:
        return set(units)
    ordered = sorted(units, key=lambda unit: derived_seed(seed, "gold", unit))
    return set(ordered[: max(2, ceil(share * len(own)))])


def _notes(run: LoadedRun, found: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    notes: list[str] = []
    if (run.summary.get("staged") or {}).get("stop"):
        notes.append(
            "Scoring stopped when a mean was known: an interval here takes no account of that; the "
            "one in the run's tables does."
        )
    lost = sum(row["n_gold_without_score"] for row in found)
    drawn = sum(row["n_gold"] for row in found) + lost
    if lost:
        notes.append(
            f"{lost} of {drawn} gold units ({percent(lost / drawn)}) have no gold score: the means "
            "are of units that have one."
        )
    few = min(row["n_gold"] for row in found)
    if few < 8:
        notes.append(
            f"A mean rests on {few} gold units: with fewer than about 20 its interval depends on "
            "scores not being very skewed."
        )
    return tuple(notes)
