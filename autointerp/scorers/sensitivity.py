"""Score an explanation by sensitivity (Tian et al. 2025): does the unit still fire in other words?

A language model rewrites active windows: what the explanation names is kept, everything else is
changed. The subject reads the rewrites.

    score = share of rewrites in which the unit fires

An explanation that names what matters keeps the unit firing; one that names something else lets it
be written away. A donor's score is that of the same windows rewritten under its explanation: what
is left of the unit because of shared words alone.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp.llm import Request
from autointerp.records import ActivationRecord, Score, Split, Status
from autointerp.scorers.judged import Problem
from autointerp.scorers.live import Heard, LiveScorer, Outcome, Statistic, share
from autointerp.scorers.prompts import answer_schema, shown_text
from autointerp.scorers.simulation import ScoreJob
from autointerp.subject.requests import Activated, ActivationRequest

_TEXT = {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class SensitivityScorer(LiveScorer):
    """Scores by whether the unit fires in rewrites that keep what the explanation names."""

    kind: ClassVar[str] = "sensitivity"
    metric: ClassVar[str] = "share of rewrites that fire"

    n_windows: int = 10
    """Active windows rewritten, spread over the strata."""

    n_per_prompt: int = 5
    """Windows in one question."""

    fires_at: float = 0.1
    """The unit fires where it passes this share of its maximum in `explain`."""

    def chosen(self, job: ScoreJob) -> list[ActivationRecord]:
        """The windows that are rewritten: evenly from the most active to the least."""
        active = self.active(job)
        places = np.linspace(0, len(active) - 1, min(self.n_windows, len(active)))
        return [active[i] for i in sorted({round(p) for p in places.tolist()})]

    def request(self, explanation: str, windows: Sequence[ActivationRecord]) -> Request:
        """The order for rewrites of some windows."""
        return self.template.request(
            {"explanation": explanation, "texts": [shown_text(w.tokens) for w in windows]},
            answer_schema(len(windows), _TEXT),
            max_tokens=sum(40 + 4 * len(w.tokens) for w in windows),
            purpose=self.kind,
        )

    def score(self, job: ScoreJob) -> Generator[Sequence[Any], Sequence[Any], Score]:
        """Have windows rewritten, run the rewrites."""
        problem = self.problem(job, windows=True)
        if problem is not None:
            return self.missing(job, problem)
        windows = self.chosen(job)
        size = self.n_per_prompt
        groups = [windows[i : i + size] for i in range(0, len(windows), size)]
        words = [job.explanation.text or "", *(donor.text or "" for donor in job.donors)]
        requests = [self.request(text, group) for text in words for group in groups]
        answers = yield requests
        heard = Heard()
        rewrites: list[str | None] = []
        pairs = iter(zip(requests, answers, strict=True))
        for _ in words:
            for group in groups:
                found = heard.read(*next(pairs)) or [None] * len(group)
                rewrites += [text if text and str(text).strip() else None for text in found]
        texts = tuple(text for text in rewrites if text is not None)
        ran: list[Activated] = (yield [ActivationRequest(job.record.unit, texts)])[0]
        bound = self.fires_at * job.record.explain_maximum()
        maxima = iter(one.maximum for one in ran)
        fired = np.array(
            [math.nan if text is None else float(next(maxima) > bound) for text in rewrites]
        ).reshape(len(words), len(windows))
        return self._finished(job, windows, fired, ran, rewrites, heard)

    def _finished(
        self,
        job: ScoreJob,
        windows: Sequence[ActivationRecord],
        fired: np.ndarray,
        ran: Sequence[Activated],
        rewrites: Sequence[str | None],
        heard: Heard,
    ) -> Score:
        known = ~np.isnan(fired[0])
        if not known.any():
            why = heard.reasons[0] if heard.reasons else "no text"
            return self.missing(job, Problem(Status.FAILED, f"nothing was rewritten: {why}"), heard)
        donors: list[Statistic | None] = []
        for row in fired[1:]:
            both = known & ~np.isnan(row)
            is_enough = both.sum() >= known.sum() / 2
            donors.append(share(np.nan_to_num(row), both) if is_enough else None)
        n = int(known.sum())
        length = float(np.mean([len(one.tokens) for one in ran]))
        outcome = Outcome(
            own=share(np.nan_to_num(fired[0]), known),
            donors=donors,
            strata=[w.stratum for w in windows],
            clusters=[w.document_id for w in windows],
            chance=self._chance(job, length),
            n=n,
            details={
                "n_unanswered": len(windows) - n,
                "fires_at": self.fires_at,
                "example": next(text for text in rewrites if text is not None),
                "subject_tokens": int(sum(len(one.tokens) for one in ran)),
            },
        )
        return self.finished(job, outcome, heard)

    def _chance(self, job: ScoreJob, length: float) -> float | None:
        """1 - (1 - density)^length: how often any text of this length has an active token.

        An upper bound, as tokens that are active at all are counted and these come in bursts.
        """
        statistics = job.record.statistics.get(Split.EXPLAIN)
        return None if statistics is None else 1 - (1 - statistics.density) ** length
