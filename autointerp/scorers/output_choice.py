"""Score an explanation by what steering does (Gur-Arieh et al. 2025, "output-based evaluation").

The subject continues neutral prompts with the unit raised, and with two other units raised, each so
far that the predictions move equally (`units.strength`). A judge sees the explanation and the three
sets of texts in random order, and says which set was written under it.

    score = share of right choices; chance is 1/3

A donor's score is how often its explanation leads to the unit's set. Donors whose units write the
other sets have the right set of their own there, and are no controls.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp.llm import Request
from autointerp.records import Score, Status
from autointerp.scorers.judged import Problem
from autointerp.scorers.live import Heard, LiveScorer, Outcome, Statistic, share
from autointerp.scorers.prompts import answer_schema, choice, fenced
from autointerp.scorers.simulation import ScoreJob
from autointerp.subject.requests import Generated, GenerationRequest

N_SETS = 3

PROMPTS = (
    "I think that",
    "The most important thing is",
    "Yesterday we",
    "In this article",
    "They said that",
    "It is well known that",
    "Let me tell you about",
    "Once there was",
    "One of the reasons is",
    "When I looked outside,",
)
"""Beginnings that leave everything open; a question about each."""


@dataclass(frozen=True)
class OutputChoiceScorer(LiveScorer):
    """Scores by whether a judge finds the texts that were steered by the unit."""

    kind: ClassVar[str] = "output_choice"
    metric: ClassVar[str] = "accuracy of 3 choices"
    needs_others: ClassVar[bool] = True

    n_trials: int = 10
    """Questions; each is about the continuations of one prompt."""

    n_shown: int = 3
    """Texts in a set."""

    kl: float = 1.0
    """How far the predictions after the prompts move, in nats."""

    max_new_tokens: int = 25

    def request(self, explanation: str, sets: Sequence[Sequence[str]]) -> Request:
        """The question about three sets."""
        shown = [[fenced(" ".join(text.split())) for text in texts] for texts in sets]
        return self.template.request(
            {"explanation": explanation, "sets": shown},
            answer_schema(1, choice(N_SETS)),
            max_tokens=24,
            purpose=self.kind,
        )

    def generations(self, job: ScoreJob) -> list[GenerationRequest]:
        """What the subject is to write: the unit's sets, then the two others'."""
        units = [job.record.unit, *(other.unit for other in job.others[: N_SETS - 1])]
        prompts = tuple(PROMPTS[i % len(PROMPTS)] for i in range(min(self.n_trials, len(PROMPTS))))
        return [
            GenerationRequest(
                unit,
                prompts,
                n_samples=self._samples(len(prompts)),
                kl=self.kl,
                max_new_tokens=self.max_new_tokens,
                seed=self.seed,
            )
            for unit in units
        ]

    def _samples(self, n_prompts: int) -> int:
        """Texts for each prompt: more where there are more questions than prompts."""
        return self.n_shown * -(-self.n_trials // n_prompts)

    def score(self, job: ScoreJob) -> Generator[Sequence[Any], Sequence[Any], Score]:
        """Have texts written, ask which are whose."""
        problem = self.problem(job)
        if problem is None and len(job.others) < N_SETS - 1:
            problem = Problem(
                Status.INSUFFICIENT_DATA,
                f"{len(job.others)} other units to steer by, {N_SETS - 1} needed: raise "
                "score.shuffled_donors, or choose more units",
            )
        if problem is not None:
            return self.missing(job, problem)
        written: Sequence[Generated] = yield self.generations(job)
        trials = self.trials(job, written)
        words = [job.explanation.text or ""]
        words += [donor.text or "" for donor in job.donors[N_SETS - 1 :]]
        requests = [self.request(text, sets) for text in words for sets, _ in trials]
        answers = yield requests
        heard, found = Heard(), np.full((len(words), len(trials)), np.nan)
        pairs = iter(zip(requests, answers, strict=True))
        for row in range(len(words)):
            for place, (_, right) in enumerate(trials):
                values = heard.read(*next(pairs))
                if values:
                    found[row, place] = float(values[0] == right + 1)
        return self._finished(job, found, heard, written)

    def trials(
        self, job: ScoreJob, written: Sequence[Generated]
    ) -> list[tuple[list[tuple[str, ...]], int]]:
        """Per question the sets in random order, and the place of the unit's."""
        generator = self.generator(job, "order")
        n_parts = min(len(one.texts) for one in written) // self.n_shown
        found: list[tuple[list[tuple[str, ...]], int]] = []
        for trial in range(min(self.n_trials, n_parts)):
            part = slice(trial * self.n_shown, (trial + 1) * self.n_shown)
            order = [int(i) for i in generator.permutation(N_SETS)]
            found.append(([written[i].texts[part] for i in order], order.index(0)))
        return found

    def _finished(
        self, job: ScoreJob, found: np.ndarray, heard: Heard, written: Sequence[Generated]
    ) -> Score:
        known = ~np.isnan(found[0])
        if not known.any():
            why = heard.reasons[0] if heard.reasons else "no question"
            return self.missing(job, Problem(Status.FAILED, f"no choice was made: {why}"), heard)
        right = found[:, known]
        donors: list[Statistic | None] = [None] * min(N_SETS - 1, len(job.donors))
        for row in right[1:]:
            usable = ~np.isnan(row)
            is_enough = usable.sum() >= known.sum() / 2
            donors.append(share(np.nan_to_num(row), usable) if is_enough else None)
        n, n_right = int(known.sum()), int(right[0].sum())
        outcome = Outcome(
            own=share(right[0], np.ones(n, bool)),
            donors=donors,
            strata=[0] * n,
            clusters=list(range(n)),
            chance=1 / N_SETS,
            n=n,
            right=(n_right, n),
            details={
                "n_right": n_right,
                "n_unanswered": int((~known).sum()),
                "strength": written[0].strength,
                "kl": written[0].kl,
                "kl_reached": written[0].reached,
                "example": written[0].texts[0] if written[0].texts else "",
            },
        )
        return self.finished(job, outcome, heard)
