"""Score an explanation by rating (Templeton et al. 2024, "Specificity"): is it about what fires?

A judge rates how well the explanation fits the highlighted words of a text: 0 not at all, 1
vaguely, 2 loosely, 3 clearly. Texts come from all ten value intervals, and silent ones stand among
them with highlights where an active text has its own.

    score = (mean over value intervals of the mean rating - mean rating of silent texts) / 3

so that a judge that gives every text the same, or any at random, scores 0. The details hold the
mean rating of every interval, which is what the source plots: an explanation that fits the
strongest activations alone shows there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from autointerp.explainers.windows import (
    HIGHLIGHT_SHARE,
    documents_in_turn,
    highlighted_where,
    interval_of,
    visible,
)
from autointerp.llm import Request
from autointerp.records import ActivationRecord, Status
from autointerp.scorers.judged import (
    NEGATIVES,
    FloatArray,
    Item,
    Judging,
    Plan,
    Problem,
    Sampled,
    grouped,
    kind_of,
)
from autointerp.scorers.prompts import answer_schema, fenced
from autointerp.scorers.simulation import ScoreJob

BEST = 3
"""Ratings run from 0 to this."""

N_INTERVALS = 10


@dataclass(frozen=True)
class RatingScorer(Judging):
    """Scores by ratings from 0 to 3 on the `test` windows of every value interval."""

    kind: ClassVar[str] = "rating"
    metric: ClassVar[str] = "rating above silent texts"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    n_per_prompt: int = 5
    """Texts in one question."""

    n_per_interval: int = 3
    """Most texts of each of ten value intervals."""

    n_silent: int = 15
    """Most silent texts."""

    negatives: tuple[str, ...] = NEGATIVES
    """Kinds of silent windows (`judged.NEGATIVES`)."""

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """Some windows of every interval, and silent ones with highlights at the same places."""
        generator = self.generator(job)
        maximum = job.record.explain_maximum()
        groups: list[list[ActivationRecord]] = [[] for _ in range(N_INTERVALS)]
        for window in windows.active:
            groups[interval_of(window, maximum) - 1].append(window)
        active = [
            Item((window,), float(number), f"interval_{number:02d}", payload=_strong(window))
            for number, group in enumerate(groups, 1)
            for window in _drawn(group, self.n_per_interval, generator)
        ]
        chosen = _drawn(windows.silent(self.negatives), self.n_silent, generator)
        if not chosen:
            reason = f"no silent window among {len(windows.active)} to compare with"
            return Problem(Status.INSUFFICIENT_DATA, reason)
        silent = [
            Item(
                (window,),
                0.0,
                kind_of(window),
                payload=_as_in(active[int(generator.integers(len(active)))].payload, window),
            )
            for window in chosen
        ]
        items = (*active, *silent)
        return Plan(
            items,
            tuple(grouped(len(items), self.n_per_prompt, generator)),
            {"n_contradicted": windows.n_contradicted},
        )

    def request(self, explanation: str, items: Sequence[Item]) -> Request:
        """The question about some texts."""
        texts = [fenced(highlighted_where(item.windows[0].tokens, item.payload)) for item in items]
        return self.template.request(
            {"explanation": explanation, "texts": texts},
            answer_schema(len(items), {"type": "integer", "minimum": 0, "maximum": BEST}),
            max_tokens=24 + 4 * len(items),
            purpose=self.kind,
        )

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Mean over intervals less the mean of silent texts, as a share of the best rating."""
        total, count = np.zeros(len(weights)), np.zeros(len(weights))
        for number in sorted(set(truth[truth > 0].tolist())):
            mean, known = _means(weights, truth == number, answers)
            total += mean
            count += known
        active = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        return (active - _means(weights, truth == 0, answers)[0]) / BEST

    def chance(self, truth: FloatArray) -> float:
        """0: a judge that looks at nothing rates all texts alike."""
        return 0.0

    def undefined(self, truth: FloatArray) -> str:
        """Active and silent texts are needed."""
        if truth.size and (truth > 0).any() and (truth == 0).any():
            return ""
        return super().undefined(truth) or "the others are all active or all silent"

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """Mean rating and number of texts of every interval, and how often each rating came."""
        truth = plan.truth[places]
        active = truth > 0
        found: dict[str, Any] = {
            "base_rate": float(active.mean()),
            "mean_silent": float(answers[~active].mean()),
            "share_clear": float((answers[active] == BEST).mean()),
            "n_positive": int(active.sum()),
            "n_negative": int((~active).sum()),
        }
        for number in range(1, N_INTERVALS + 1):
            own = answers[truth == number]
            found[f"mean_interval_{number:02d}"] = float(own.mean()) if own.size else None
            found[f"n_interval_{number:02d}"] = int(own.size)
        for rating in range(BEST + 1):
            found[f"n_rated_{rating}"] = int((answers == rating).sum())
        return found


def _drawn(
    windows: Sequence[ActivationRecord], n: int, generator: np.random.Generator
) -> list[ActivationRecord]:
    """At most `n` of some windows at random, of as many documents as there are."""
    mixed = [windows[place] for place in generator.permutation(len(windows))]
    return documents_in_turn(mixed)[:n]


def _strong(window: ActivationRecord) -> npt.NDArray[np.bool_]:
    """[n_tokens] what of an active window is highlighted."""
    found = visible(window)
    return found > HIGHLIGHT_SHARE * found.max(initial=0.0)


def _as_in(strong: npt.NDArray[np.bool_], window: ActivationRecord) -> npt.NDArray[np.bool_]:
    """[n_tokens] highlights of a silent window: as many as of an active one, at its places."""
    usable = np.flatnonzero(~window.masked)
    wanted = np.flatnonzero(strong)
    # A place that is masked or past the end gives way to the nearest one left.
    chosen: set[int] = set()
    for place in wanted:
        left = [int(one) for one in usable if int(one) not in chosen]
        if left:
            chosen.add(min(left, key=lambda one, place=place: (abs(one - place), one)))
    marks = np.zeros(len(window.tokens), bool)
    marks[sorted(chosen)] = True
    return marks


def _means(
    weights: FloatArray, own: npt.NDArray[np.bool_], answers: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Weighted mean of some answers, 0 where they have no weight; and where they have some."""
    total = weights[:, own].sum(1)
    sums = weights[:, own] @ answers[own]
    return np.divide(sums, total, out=np.zeros_like(total), where=total > 0), total > 0
