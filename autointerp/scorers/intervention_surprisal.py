"""Score an explanation by intervention surprisal (Paulo et al. 2024, section 3.4).

The subject continues neutral prompts plainly and with the unit raised, so far that the predictions
move by a fixed KL. A language model says how likely the explanation is after each text:

    score = mean over texts of log p(explanation | steered) - log p(explanation | plain), in nats

Where raising the unit makes the subject write about it, its explanation becomes less surprising.
The random-explanation control is the donors': their words after the same texts. Plain and steered
texts share their random numbers.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp.llm import Message, Request, Response, ResponseStatus
from autointerp.llm.capabilities import Needs
from autointerp.records import Score, Status
from autointerp.scorers.judged import Problem
from autointerp.scorers.live import Heard, LiveScorer, Outcome, Statistic, share
from autointerp.scorers.output_choice import PROMPTS
from autointerp.scorers.simulation import ScoreJob
from autointerp.subject.requests import Generated, GenerationRequest

_BEFORE = "Text:\n{text}\n\nThe text above holds an unusual amount of this: "


@dataclass(frozen=True)
class InterventionSurprisalScorer(LiveScorer):
    """Scores by how much less surprising the explanation is after steered texts."""

    kind: ClassVar[str] = "intervention_surprisal"
    metric: ClassVar[str] = "gain in log p(explanation), nats"
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    asks: ClassVar[bool] = False

    n_prompts: int = 8
    """Texts, each steered and plain."""

    kl: float = 1.0
    """How far the predictions after the prompts move, in nats."""

    max_new_tokens: int = 25

    @property
    def needs(self) -> Needs:
        """The log-probabilities of a prompt's own tokens: models on this machine have them."""
        return Needs(prompt_logprobs=True)

    def request(self, text: str, explanation: str) -> Request:
        """How likely is the explanation after a text?"""
        words = _BEFORE.format(text=text) + explanation
        return Request((Message("user", words),), max_tokens=1, purpose=self.kind, echo=True)

    def score(self, job: ScoreJob) -> Generator[Sequence[Any], Sequence[Any], Score]:
        """Have texts written with and without the unit, read the explanations after them."""
        problem = self.problem(job)
        if problem is not None:
            return self.missing(job, problem)
        prompts = tuple(PROMPTS[i % len(PROMPTS)] for i in range(min(self.n_prompts, len(PROMPTS))))
        settings: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "seed": self.seed}
        pair: Sequence[Generated] = yield [
            GenerationRequest(job.record.unit, prompts, kl=kl, **settings) for kl in (self.kl, 0.0)
        ]
        steered, plain = (
            [prompt + text for prompt, text in zip(prompts, one.texts, strict=True)] for one in pair
        )
        words = [job.explanation.text or "", *(donor.text or "" for donor in job.donors)]
        requests = [self.request(text, one) for one in words for text in (*steered, *plain)]
        answers = yield requests
        heard = Heard()
        logprobs = np.array(
            [
                self._logprob(heard, answer, one)
                for one, answer in zip(
                    [one for one in words for _ in (*steered, *plain)], answers, strict=True
                )
            ]
        ).reshape(len(words), 2, len(prompts))
        return self._finished(job, logprobs[:, 0] - logprobs[:, 1], words[0], pair[0], heard)

    def _logprob(self, heard: Heard, answer: Response, explanation: str) -> float:
        heard.requests += 1
        heard.input_tokens += answer.usage.input_tokens
        if answer.status is not ResponseStatus.OK or answer.logprobs is None:
            heard.reasons.append(f"the answer is {answer.status}: {answer.reason}")
            return math.nan
        return ending_logprob(answer, explanation)

    def _finished(
        self, job: ScoreJob, gains: np.ndarray, words: str, steered: Generated, heard: Heard
    ) -> Score:
        known = ~np.isnan(gains[0])
        if not known.any():
            why = heard.reasons[0] if heard.reasons else "no text"
            return self.missing(job, Problem(Status.FAILED, f"nothing was read: {why}"), heard)
        donors: list[Statistic | None] = []
        for row in gains[1:]:
            both = known & ~np.isnan(row)
            is_enough = both.sum() >= known.sum() / 2
            donors.append(share(np.nan_to_num(row), both) if is_enough else None)
        n = int(known.sum())
        outcome = Outcome(
            own=share(np.nan_to_num(gains[0]), known),
            donors=donors,
            strata=[0] * len(known),
            clusters=list(range(len(known))),
            chance=0.0,
            n=n,
            details={
                "n_unanswered": int((~known).sum()),
                "per_word": float(gains[0][known].mean()) / max(1, len(words.split())),
                "strength": steered.strength,
                "kl": steered.kl,
                "kl_reached": steered.reached,
                "example": steered.texts[0] if steered.texts else "",
            },
        )
        return self.finished(job, outcome, heard)


def ending_logprob(answer: Response, ending: str) -> float:
    """log p of the tokens that hold the last characters of a prompt, in nats.

    A token that begins before the ending and reaches into it is counted whole: it is the same
    after every text.
    """
    total, left = 0.0, len(ending)
    for token in reversed(answer.logprobs or ()):
        if left <= 0:
            break
        total += token.logprob
        left -= len(token.token)
    return total
