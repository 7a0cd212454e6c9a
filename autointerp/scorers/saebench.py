"""Score an explanation as SAEBench does (Karvonen et al. 2025): 14 texts in one question.

A judge is given the explanation and texts of 21 tokens, 2 of the most active windows, 2 others
drawn in proportion to their maxima and 10 in which the unit is silent, and says in which it
responds.

    score = share of right answers; "in none" always scores 10/14 = 0.714

SAEBench takes random texts for the negatives and never looks at their activations. With
`verified: false` that is done here as well: random windows count as silent, whatever the unit does
in them, and `n_firing_negatives` in the details says in how many it is active. A judge that is
never wrong then scores 1 - (10/14) (1 - (1 - p)^21) at a density of p, 0.864 at 1 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp import stats
from autointerp.explainers.windows import around_strongest, distinct, unmasked_maximum
from autointerp.records import ActivationRecord, Interval, Status, Strata
from autointerp.scorers.detection import DetectionScorer
from autointerp.scorers.judged import (
    SILENT_SHARE,
    FloatArray,
    Item,
    Plan,
    Problem,
    Sampled,
    grouped,
)
from autointerp.scorers.prompts import shown_text
from autointerp.scorers.simulation import ScoreJob

N_TOP, N_IMPORTANCE, N_NEGATIVE = 2, 2, 10
"""Texts of the most active windows, of others drawn by importance, and of silent ones."""

BUFFER = 10
"""Tokens of a text on each side of the one it is cut around."""


@dataclass(frozen=True)
class SaebenchScorer(DetectionScorer):
    """Scores by accuracy over 14 texts of the `test` split, all in one question."""

    kind: ClassVar[str] = "saebench"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "accuracy"

    n_per_prompt: int = N_TOP + N_IMPORTANCE + N_NEGATIVE
    """Texts in one question; all of them in the source."""

    negatives: tuple[str, ...] = ("silent",)
    """Kinds of silent windows that negatives are drawn from, where they are verified."""

    verified: bool = True
    """Whether negatives are windows in which the unit is silent, or random ones without a look."""

    prompt: str | None = "detection"

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """At most four active texts and ten others, in random order."""
        generator = self.generator(job)
        active = self._active(windows, generator)
        others = windows.silent(self.negatives) if self.verified else self._random(job)
        shown = {window.window for window in active}
        others = [window for window in others if window.window not in shown]
        mixed = [others[place] for place in generator.permutation(len(others))][:N_NEGATIVE]
        if not mixed:
            kind = "silent" if self.verified else "random"
            return Problem(
                Status.INSUFFICIENT_DATA, f"no {kind} window among those of {self.split}"
            )
        items = (
            *(Item((w,), 1.0, "active", payload=_around(w, None)) for w in active),
            *(Item((w,), 0.0, "negative", payload=_around(w, generator)) for w in mixed),
        )
        bound = SILENT_SHARE * job.record.explain_maximum()
        firing = sum(_maximum(item) > bound for item in items if item.kind == "negative")
        facts = {
            "verified_negatives": self.verified,
            "n_firing_negatives": firing,
            "n_contradicted": windows.n_contradicted,
        }
        groups = grouped(len(items), self.n_per_prompt, generator)
        return Plan(items, tuple(groups), facts)

    def _active(self, windows: Sampled, generator: np.random.Generator) -> list[ActivationRecord]:
        """The most active windows, then others drawn with chances in proportion to their maxima."""
        ranked = sorted(windows.active, key=lambda w: (-unmasked_maximum(w), w.window))
        top, rest = ranked[:N_TOP], ranked[N_TOP:]
        weights = np.array([unmasked_maximum(window) for window in rest], np.float64)
        n = min(N_IMPORTANCE, len(rest))
        drawn = (
            generator.choice(len(rest), n, replace=False, p=weights / weights.sum()) if n else []
        )
        return [*top, *(rest[int(place)] for place in drawn)]

    def _random(self, job: ScoreJob) -> list[ActivationRecord]:
        """Random windows, whatever the unit does in them."""
        random = [one for one in job.record.of(self.split) if one.stratum == Strata.RANDOM]
        return [window for window in distinct(random) if not window.masked.all()]

    def shown(self, item: Item) -> str:
        """The text that was cut out of the window."""
        return shown_text(item.windows[0].tokens[item.payload])

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Share of right answers."""
        right = ((answers > 0.5) == (truth > 0.5)).astype(np.float64)
        total = weights.sum(axis=1)
        return np.divide(weights @ right, total, out=np.zeros_like(total), where=total > 0)

    def interval(
        self, job: ScoreJob, items: Sequence[Item], truth: FloatArray, answers: FloatArray
    ) -> Interval | None:
        """By the bootstrap; Clopper-Pearson where no replicate differs."""
        found = self.bootstrap(
            job, items, lambda weights: self.statistic(weights, truth, answers), bounds=self.bounds
        )
        if found is not None or not truth.size:
            return found
        right = ((answers > 0.5) == (truth > 0.5)).astype(np.float64)
        return stats.share_interval(right, self.clusters(items))

    def chance(self, truth: FloatArray) -> float:
        """What saying the more frequent answer to everything scores."""
        return float(max(truth.mean(), 1 - truth.mean()))


def _around(window: ActivationRecord, generator: np.random.Generator | None) -> slice:
    """Where a text is cut out: around the strongest token, or around any."""
    if generator is None:
        return around_strongest(window, BUFFER, BUFFER)
    length = len(window.tokens)
    size = min(length, 2 * BUFFER + 1)
    start = int(generator.integers(length - size + 1))
    return slice(start, start + size)


def _maximum(item: Item) -> float:
    """Largest activation of an item's text on a token that is not masked."""
    (window,) = item.windows
    values: Any = np.where(window.masked, 0.0, window.activations)[item.payload]
    return float(values.max(initial=0.0))
