"""Score an explanation by texts written from it (CoSy, Kopf et al. 2024; FADE, Puri et al. 2025).

A language model writes texts that fit the explanation; the subject reads them. With v the unit's
largest activation in a text,

    score = 2 AUC(v; own texts against texts written from other units' explanations) - 1

signed: an explanation whose texts the unit avoids scores below 0, where CoSy's AUC would be under a
half and FADE's clarity, an absolute value, would reward it. The texts compared with are by the same
language model, so that its style tells nothing. A donor's score is that of its own texts against
the other donors'.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp.llm import Request
from autointerp.records import Score, Status
from autointerp.scorers.judged import Problem
from autointerp.scorers.live import Heard, LiveScorer, Outcome, gini
from autointerp.scorers.prompts import answer_schema
from autointerp.scorers.simulation import ScoreJob
from autointerp.subject.requests import Activated, ActivationRequest

_TEXT = {"type": "string", "minLength": 1}

MIN_TEXTS = 2
"""Fewer texts that can be used are none."""

FIRES_AT = 0.01
"""A unit fires in a text where it passes this share of its maximum in `explain`."""


@dataclass(frozen=True)
class GenerativeScorer(LiveScorer):
    """Scores by whether the unit prefers texts written from its explanation."""

    kind: ClassVar[str] = "generative"
    metric: ClassVar[str] = "signed Gini (2 AUC - 1)"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    n_texts: int = 10
    """Texts written from each explanation."""

    temperature: float = 0.7

    def request(self, explanation: str) -> Request:
        """The order for texts."""
        return self.template.request(
            {"explanation": explanation, "n": self.n_texts},
            answer_schema(self.n_texts, _TEXT),
            max_tokens=80 * self.n_texts,
            purpose=self.kind,
            temperature=self.temperature,
            seed=self.seed,
        )

    def score(self, job: ScoreJob) -> Generator[Sequence[Any], Sequence[Any], Score]:
        """Have texts written, run them, compare."""
        problem = self.problem(job)
        if problem is not None:
            return self.missing(job, problem)
        words = [job.explanation.text or "", *(donor.text or "" for donor in job.donors)]
        requests = [self.request(text) for text in words]
        answers = yield requests
        heard = Heard()
        texts = [
            usable_texts(heard.read(request, answer))
            for request, answer in zip(requests, answers, strict=True)
        ]
        if not texts[0]:
            why = heard.reasons[0] if heard.reasons else "no text"
            return self.missing(job, Problem(Status.FAILED, f"no texts were written: {why}"), heard)
        if not any(texts[1:]):
            reason = "no other explanation's texts to compare with: score.shuffled_donors above 0"
            return self.missing(job, Problem(Status.FAILED, reason), heard)
        every = tuple(text for part in texts for text in part)
        found: list[list[Activated]] = list((yield [ActivationRequest(job.record.unit, every)]))
        values = np.array([one.maximum for one in found[0]])
        arm = np.repeat(np.arange(len(texts)), [len(part) for part in texts])
        return self.finished(job, self._outcome(job, values, arm, texts, found[0]), heard)

    def _outcome(
        self,
        job: ScoreJob,
        values: np.ndarray,
        arm: np.ndarray,
        texts: Sequence[tuple[str, ...]],
        found: Sequence[Activated],
    ) -> Outcome:
        usable = [number for number in range(1, len(texts)) if texts[number]]
        own, control = arm == 0, arm > 0
        donors = [
            gini(values, arm == number, control & (arm != number))
            if number in usable and len(usable) > 1
            else None
            for number in range(1, len(texts))
        ]
        bound = FIRES_AT * job.record.explain_maximum()
        spread = float(values[control].std(ddof=1)) if control.sum() > 1 else 0.0
        shift = float(values[own].mean() - values[control].mean())
        return Outcome(
            own=gini(values, own, control),
            donors=donors,
            strata=[int(number) for number in arm],
            clusters=list(range(len(arm))),
            chance=0.0,
            n=int(own.sum()),
            is_constant=bool(np.ptp(values) == 0),
            details={
                "auc": (float(gini(values, own, control)(np.ones((1, len(arm))))[0]) + 1) / 2,
                "n_control_texts": int(control.sum()),
                "mean_activation_difference": shift / spread if spread > 0 else None,
                "fires_in_own": float((values[own] > bound).mean()),
                "fires_in_controls": float((values[control] > bound).mean()),
                "own_texts": list(texts[0])[:3],
                "own_maxima": [float(value) for value in values[own][:3]],
                "subject_tokens": int(sum(len(one.tokens) for one in found)),
            },
        )


def usable_texts(answers: Sequence[Any]) -> tuple[str, ...]:
    """Texts that say something, each once; none where they are too few."""
    found = tuple(dict.fromkeys(text for text in map(str, answers) if text.strip()))
    return found if len(found) >= MIN_TEXTS else ()
