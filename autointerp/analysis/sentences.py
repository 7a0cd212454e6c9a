"""What one score means, in a sentence or two.

Every sentence follows from numbers of the unit at hand. A cause is named only as what was
measured beside the score, never as proven.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from autointerp.analysis.results import UnitResult
from autointerp.analysis.values import Outcome, outcome_of
from autointerp.analysis.wording import interval_text, level_text, number, percent, plural
from autointerp.records import Score, Simulation, Status

LOW_SCORE = 0.3
"""Below this a score gets reasons, if the numbers show any."""

GOOD_CONTROL = 0.2
"""Other units' explanations that reach this mean score predict the unit to some extent."""

CLEAR_LOOKUP = 0.5
"""A look-up table at or above this, and well above the words, points at single tokens."""

LOOKUP_MARGIN = 0.2

TOKEN_DETECTOR = 0.7
"""A look-up table at or above this explains half of the unit's variance."""

DENSE = 0.2
"""Active on more than this share of tokens."""

FEW_DOCUMENTS = 5
LOW_LEVEL_MASS = 0.5
MANY_UNKNOWN = 0.1

FLAT_RANGE = 0.5
"""Predicted levels that span less than half a level are almost the same everywhere."""

MAX_REASON = 200
"""Characters of a failure's reason that are quoted."""


def explain_score(unit: UnitResult, explainer: str, baselines: Sequence[str] | None = None) -> str:
    """Say what a unit's score under one explainer means, or why there is none.

    Args:
        unit: the unit's results.
        explainer: the explainer whose score is explained.
        baselines: names of look-up tables among the explainers
            (`RunResults.baseline_explainers`); where `None`, those simulated by `token_lookup`.

    Returns:
        One to four short sentences, plain text (not escaped).
    """
    outcome = outcome_of(unit, explainer)
    if not outcome.is_scored:
        return _why_missing(unit, explainer, outcome)
    score = unit.scores[explainer]
    if baselines is None:
        baselines = [n for n, s in unit.scores.items() if s.simulator.startswith("token_lookup")]
    if outcome.status is Status.CONSTANT_PREDICTION:
        main = "Every token got the same predicted level, so the explanation predicts nothing here."
        return f"{main} It counts as 0 in the means."
    is_baseline = explainer in baselines
    sentences = [_main(score, outcome), *_against_controls(score, outcome)]
    if not is_baseline:
        sentences += _against_lookup(unit, score, outcome, baselines)
    if _is_weak(score, outcome):
        sentences += list(_reasons(unit, explainer, score, is_baseline))[:2]
    elif score.n_active_documents < FEW_DOCUMENTS:
        sentences.append(_few_documents(score))
    return " ".join(sentences)


def _why_missing(unit: UnitResult, explainer: str, outcome: Outcome) -> str:
    reason = _clipped(outcome.reason)
    because = f": {reason}" if reason else ""
    end = "" if reason.endswith((".", "!", "?", "…")) else "."
    if outcome.status is Status.DEAD:
        return "The unit never fired in the explain split, so there is nothing to explain or score."
    if outcome.status is Status.UNDEFINED_TRUTH:
        return (
            "No score: on the scored windows the unit's true activation never changes, and nothing "
            "can correlate with a constant."
        )
    if outcome.status is Status.INSUFFICIENT_DATA:
        score = unit.scores.get(explainer)
        if not reason and score is not None:
            documents = plural(score.n_active_documents, "document")
            return f"No score: the unit is active in only {documents} of the test split."
        return f"No score: too little data{because}{end}"
    if outcome.status is Status.FAILED:
        what = "explaining" if outcome.stage == "explanation" else "scoring"
        tail = " In the means it appears as worst-case bounds."
        return f"No score: {what} failed{because}{end}{tail}"
    if outcome.status is Status.STAGED:
        return f"In no mean: {reason}{end}"
    if outcome.status is Status.NOT_RUN:
        what = "explained" if outcome.stage == "explanation" else "scored"
        return f"No score: the unit was not {what} in this run."
    return f"No score ({str(outcome.status).replace('_', ' ')}){because}{end}"


def _main(score: Score, outcome: Outcome) -> str:
    over = (
        f"over {plural(score.n_windows, 'window')} of {plural(score.n_documents, 'document')}"
        if score.n_windows and score.n_documents
        else "over the scored windows"
    )
    interval = f" ({level_text(score.interval)})" if score.interval else " (no interval)"
    start = f"Predicted and true activation correlate at {number(outcome.value)}{interval} {over}"
    if score.interval and score.interval.low <= 0 <= score.interval.high:
        return f"{start}: not distinguishable from no correlation."
    if (outcome.value or 0.0) < 0:
        return f"{start}: the prediction points the wrong way."
    return f"{start}."


def _against_controls(score: Score, outcome: Outcome) -> Iterator[str]:
    lift, control, interval = outcome.lift, score.control_mean, score.lift_interval
    if lift is None or control is None:
        yield "There are no shuffled controls, so this cannot be set against other explanations."
        return
    others = f"other units' explanations (mean {number(control)})"
    lift_text = f"lift {number(lift)}" + (f", {interval_text(interval)}" if interval else "")
    if interval is None:
        yield f"Against {others} the lift is {number(lift)}, without an interval."
    elif interval.low > 0:
        yield f"It is above {others}; {lift_text}."
    elif interval.high < 0:
        yield f"It is below {others}; {lift_text}: they predict this unit better."
    elif control >= GOOD_CONTROL:
        yield (
            f"It is not clearly above {others}; {lift_text}, includes 0: they predict this unit "
            "too, so the score says little about these words."
        )
    else:
        yield f"It is not clearly above {others}; {lift_text}, includes 0."


def _against_lookup(
    unit: UnitResult, score: Score, outcome: Outcome, baselines: Sequence[str]
) -> Iterator[str]:
    for baseline in baselines:
        table = outcome_of(unit, baseline)
        if table.status is not Status.OK or table.value is None or outcome.value is None:
            continue
        gap = table.value - outcome.value
        reached = f"A table of mean activation per token reaches {number(table.value)}"
        beyond = score.interval is None or table.value > score.interval.high
        if table.value >= CLEAR_LOOKUP and gap >= LOOKUP_MARGIN and beyond:
            yield f"{reached}: {_lookup_meaning(table.value)}."
        elif gap <= -LOOKUP_MARGIN and score.interval and score.interval.low > table.value:
            yield f"{reached} only: these words predict more than single tokens do."


def _lookup_meaning(value: float) -> str:
    if value >= TOKEN_DETECTOR:
        return (
            "the unit is largely a token detector, and the words do not say which tokens well "
            "enough"
        )
    return "the token alone tells more about this unit than the words do"


def _is_weak(score: Score, outcome: Outcome) -> bool:
    includes_zero = score.lift_interval is not None and score.lift_interval.low <= 0
    return (outcome.value or 0.0) < LOW_SCORE or includes_zero


def _reasons(unit: UnitResult, explainer: str, score: Score, is_baseline: bool) -> Iterator[str]:
    """What was measured beside a weak score, the most telling first."""
    simulations = unit.simulations.get(explainer, ())
    levels = _known_levels(unit, simulations)
    mass = _mean_mass(simulations)
    hardly = (
        f"on average only {percent(mass)} of its probability was on levels, so it hardly followed "
        "the format"
        if not is_baseline and mass is not None and mass < LOW_LEVEL_MASS
        else ""
    )
    unknown = score.n_unknown_tokens / max(1, score.n_tokens + score.n_unknown_tokens)
    if unknown >= MANY_UNKNOWN:
        start = (
            f"{percent(unknown)} of the tokens are not scored, since the simulator gave no usable "
            "level there for these words or for a control"
        )
        yield f"{start}: {hardly}." if hardly else f"{start}."
    elif hardly:
        yield f"The simulator was unsure: {hardly}."
    # A look-up table predicts activations, not levels, and says nothing about words.
    if not is_baseline and levels.size and np.ptp(levels) < FLAT_RANGE:
        yield (
            "The predicted level is almost the same everywhere "
            f"({number(float(levels.min()))} to {number(float(levels.max()))})."
        )
    if not is_baseline and unit.density > DENSE:
        yield (
            f"The unit is active on {percent(unit.density)} of tokens: dense units are hard to put "
            "in a few words."
        )
    if score.n_active_documents < FEW_DOCUMENTS:
        yield _few_documents(score)


def _few_documents(score: Score) -> str:
    documents = plural(score.n_active_documents, "test document")
    return f"It rests on only {documents} in which the unit is active."


def _known_levels(unit: UnitResult, simulations: Sequence[Simulation]) -> np.ndarray:
    """[n] predicted levels that were scored."""
    if len(simulations) != len(unit.scored_windows):
        return np.empty(0)
    parts = [
        s.expected[s.known & ~window.masked]
        for s, window in zip(simulations, unit.scored_windows, strict=True)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _mean_mass(simulations: Sequence[Simulation]) -> float | None:
    masses = [s.level_mass for s in simulations if s.level_mass.size]
    return float(np.concatenate(masses).mean()) if masses else None


def _clipped(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
