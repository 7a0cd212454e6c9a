"""Score an explanation by responsiveness and purity (FADE, Puri et al. 2025), signed.

A judge says of windows from the corpus which hold what the explanation names; the subject's
activations a on the same windows are known:

    responsiveness = 2 AUC(a; windows said to hold it against those said not to) - 1
    purity         = average precision of a for finding the windows said to hold it

Responsiveness is signed, where FADE takes the absolute value and so rewards an explanation of what
the unit avoids. Purity's chance is the share of windows said to hold it, which is another for every
explanation: words that fit all text have a purity of 1, more than other units' words, so even its
lift says little without the responsiveness (0 for such words) and the chance in the details. Both
are of the sampled windows; the design says how those were drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp import stats
from autointerp.explainers.windows import unmasked_maximum
from autointerp.records import Interval, Status
from autointerp.scorers.detection import YesOrNo
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
from autointerp.scorers.live import gini
from autointerp.scorers.simulation import ScoreJob


@dataclass(frozen=True)
class ResponsivenessScorer(YesOrNo):
    """Scores by whether the unit is more active where the judge finds what is explained."""

    kind: ClassVar[str] = "responsiveness"
    metric: ClassVar[str] = "signed Gini (2 AUC - 1)"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    prompt: str | None = "detection"
    """The question is detection's; only what is made of the answers differs."""

    negatives: tuple[str, ...] = NEGATIVES
    """Kinds of silent windows that are asked about."""

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """Every active window and every silent one; what is right is not known, what is active is.

        The truth of an item is the unit's largest activation in its window.
        """
        silent = windows.silent(self.negatives)
        if not silent:
            return Problem(Status.INSUFFICIENT_DATA, "no silent window to compare with")
        items = (
            *(Item((w,), unmasked_maximum(w), "active") for w in windows.active),
            *(Item((w,), unmasked_maximum(w), kind_of(w)) for w in silent),
        )
        groups = grouped(len(items), self.n_per_prompt, self.generator(job))
        return Plan(items, tuple(groups), {"n_contradicted": windows.n_contradicted})

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """2 AUC - 1; 0 where the judge said the same of all."""
        yes = answers > 0.5
        return gini(truth, yes, ~yes)(weights)

    def chance(self, truth: FloatArray) -> float:
        """0."""
        return 0.0

    def base_rate(self, truth: FloatArray) -> float | None:
        """No answer is right or wrong."""
        return None

    def undefined(self, truth: FloatArray) -> str:
        """Activations must differ."""
        if truth.size and np.ptp(truth) > 0:
            return ""
        return "no item has a usable answer" if not truth.size else "the others are equally active"

    def interval(
        self, job: ScoreJob, items: Sequence[Item], truth: FloatArray, answers: FloatArray
    ) -> Interval | None:
        """By the bootstrap; none where no replicate differs."""
        return Judging.interval(self, job, items, truth, answers)

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """How much the judge found, and the other of the two numbers."""
        truth, yes = plan.truth[places], answers > 0.5
        one = np.ones((1, len(truth)))
        return {
            "n_said_to_hold": int(yes.sum()),
            "share_said_to_hold": float(yes.mean()),
            "responsiveness": float(gini(truth, yes, ~yes)(one)[0]),
            "purity": stats.auprc(yes, truth).value if 0 < yes.mean() < 1 else None,
        }


@dataclass(frozen=True)
class PurityScorer(ResponsivenessScorer):
    """Scores by whether the unit's activity picks out what the judge finds explained."""

    kind: ClassVar[str] = "purity"
    metric: ClassVar[str] = "average precision"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Average precision; 0 where the judge found nothing."""
        return stats.weighted_auprc(weights, answers > 0.5, truth)

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """With the chance of this explanation."""
        found = super().metrics(plan, places, answers)
        return {**found, "chance": found["share_said_to_hold"]}
