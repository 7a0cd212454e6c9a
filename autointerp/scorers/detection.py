"""Score an explanation by detection (Paulo et al. 2024): a judge says which texts it fits.

A judge sees the explanation and windows of the unit's `test` split, without any marks, and answers
yes or no for each. Positives are the windows of the active strata; negatives are silent, hard or
near ones (`judged.NEGATIVES`), each checked to be silent. All windows are shuffled and shown in
groups, so that a group's number of positives varies and its order says nothing.

    score = average precision (AUPRC) of the answers; chance is the share of positives

Answers are yes and no, or how sure the judge is of yes (`confidence: p_yes`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from autointerp import stats
from autointerp.llm import Request, Response
from autointerp.llm.capabilities import Needs
from autointerp.records import Interval, Status
from autointerp.scorers.confidence import MASS_FLOOR, N_ALTERNATIVES, yes_probabilities
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
from autointerp.scorers.prompts import answer_schema, load_prompt, read_answers, shown_text
from autointerp.scorers.simulation import ScoreJob

__all__ = ["DetectionScorer", "YesOrNo", "answer_schema", "load_prompt"]


@dataclass(frozen=True)
class YesOrNo(Judging):
    """What detection and fuzzing share: texts in groups, yes or no for each, average precision."""

    metric: ClassVar[str] = "average precision"

    n_per_prompt: int = 5
    """Texts in one question."""

    confidence: Literal["answer", "p_yes"] = "answer"
    """`answer`: yes or no; `p_yes`: P(yes) from log-probabilities (`scorers.confidence`)."""

    mass_floor: float = MASS_FLOOR
    """Least probability of yes and no together, with `p_yes`; below it an answer is missing."""

    @property
    def needs(self) -> Needs:
        """Log-probabilities for `p_yes`."""
        return Needs(json_schema=True, logprobs=N_ALTERNATIVES if self.confidence == "p_yes" else 0)

    def shown(self, item: Item) -> str:
        """An item as the judge sees it, on one line."""
        return shown_text(item.windows[0].tokens)

    def request(self, explanation: str, items: Sequence[Item]) -> Request:
        """The question about some texts."""
        return self.template.request(
            {"explanation": explanation, "texts": [self.shown(item) for item in items]},
            answer_schema(len(items)),
            max_tokens=24 + 8 * len(items),
            purpose=self.kind,
            top_logprobs=N_ALTERNATIVES if self.confidence == "p_yes" else 0,
        )

    def read(self, request: Request, response: Response) -> Sequence[float]:
        """1, 0 or P(yes) for every text."""
        answers = read_answers(request, response)
        if self.confidence == "p_yes":
            return yes_probabilities(response, len(answers), self.mass_floor)
        return [float(answer) for answer in answers]

    @property
    def why_missing(self) -> str:
        """Of an answer without enough mass."""
        return f"less than {self.mass_floor} of the probability lies on true and false"

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Average precision."""
        return stats.weighted_auprc(weights, truth, answers)

    def chance(self, truth: FloatArray) -> float:
        """The share of positives."""
        return float(truth.mean())

    def undefined(self, truth: FloatArray) -> str:
        """Positives and negatives are needed."""
        if truth.size and 0 < truth.mean() < 1:
            return ""
        return super().undefined(truth) or "the others are all positive or all negative"

    def interval(
        self, job: ScoreJob, items: Sequence[Item], truth: FloatArray, answers: FloatArray
    ) -> Interval | None:
        """By the bootstrap; exact where no replicate differs, as after answers that are all right.

        Then the ends are AP at the ends of Clopper-Pearson intervals of both rates of yes, at
        97.5 % each, so that both hold at 95 % (Bonferroni). Where all positives are surer than all
        negatives, yes is what lies above the middle between them, wherever that is.
        """
        found = super().interval(job, items, truth, answers)
        if found is not None or not truth.size:
            return found
        rates: list[Interval] = []
        least, most = float(answers[truth == 1].min()), float(answers[truth == 0].max())
        yes = answers > ((least + most) / 2 if least > most else 0.5)
        for value in (1.0, 0.0):
            places = [int(place) for place in np.flatnonzero(truth == value)]
            clusters = [self.clusters([items[place]])[0] for place in places]
            rate = stats.share_interval(yes[places].astype(float), clusters, 0.975)
            assert rate is not None  # both kinds are there
            rates.append(rate)
        share = float(truth.mean())
        low = average_precision(rates[0].low, rates[1].high, share)
        high = average_precision(rates[0].high, rates[1].low, share)
        return Interval(low, high, 0.95, "Clopper-Pearson of both rates")

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """AUPRC and F1 first, with F1's own chance; AUROC and balanced accuracy beside them."""
        truth = plan.truth[places]
        yes = answers > 0.5
        share = float(truth.mean())
        return {
            "auprc": stats.auprc(truth, answers).value,
            "f1": stats.f1(truth, yes).value,
            "f1_chance": 2 * share / (1 + share),
            "auroc": stats.auroc(truth, answers).value,
            "balanced_accuracy": stats.balanced_accuracy(truth, yes).value,
            "prevalence": share,
            "n_positive": int(truth.sum()),
            "n_negative": int((1 - truth).sum()),
        }


def average_precision(true_yes: float, false_yes: float, share: float) -> float:
    """AP of yes-or-no answers: R P + (1 - R) π, with precision P = π R / (π R + (1 - π) F).

    Args:
        true_yes: R, share of positives answered yes.
        false_yes: F, share of negatives answered yes.
        share: π, of positives.
    """
    yes = share * true_yes + (1 - share) * false_yes
    precision = share * true_yes / yes if yes > 0 else share
    return true_yes * precision + (1 - true_yes) * share


@dataclass(frozen=True)
class DetectionScorer(YesOrNo):
    """Scores by detection on the `test` windows of the partition (`random` is left out)."""

    kind: ClassVar[str] = "detection"
    version: ClassVar[int] = 2

    negatives: tuple[str, ...] = NEGATIVES
    """Kinds of silent windows that are asked about."""

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """Every active window and every negative, once."""
        silent = windows.silent(self.negatives)
        if not silent:
            return Problem(
                Status.INSUFFICIENT_DATA,
                f"no silent window among {len(windows.active)} to tell apart",
            )
        items = (
            *(Item((window,), 1.0, "active") for window in windows.active),
            *(Item((window,), 0.0, kind_of(window)) for window in silent),
        )
        groups = grouped(len(items), self.n_per_prompt, self.generator(job))
        return Plan(items, tuple(groups), {"n_contradicted": windows.n_contradicted})

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """Also by kind of negative."""
        kinds = [plan.items[place].kind for place in places]
        return {
            **super().metrics(plan, places, answers),
            **_by_kind(kinds, plan.truth[places], answers),
        }


def _by_kind(
    kinds: Sequence[str], truth: FloatArray, answers: FloatArray
) -> dict[str, float | int | None]:
    """Per kind of negative: how many, the share answered yes, and AUPRC against it alone."""
    found: dict[str, float | int | None] = {}
    names = np.array(kinds)
    for kind in sorted(set(kinds) - {"active"}):
        own = (names == kind) & (truth == 0)
        if not own.any():
            continue
        among = own | (truth == 1)
        found[f"n_{kind}"] = int(own.sum())
        found[f"false_positive_rate_{kind}"] = float((answers[own] > 0.5).mean())
        found[f"auprc_{kind}"] = stats.auprc(truth[among], answers[among]).value
        found[f"chance_{kind}"] = float(truth[among].mean())
    return found
