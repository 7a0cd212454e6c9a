"""Score an explanation by predicting 60 windows at once (Bricken et al. 2023).

"Automated interpretability: activations": a judge is given the explanation and 60 short texts, 6 of
the top of 13 value intervals, 2 of each other, 10 random ones and 20 in which the unit's top tokens
stand and it is silent, and says for every token how strongly the unit responds, from 0 to 9.

    score = Spearman correlation of predictions and activations, tokens weighted by 1 / π

π the probability with which a token's window came into the 60: that of its record, times the share
of its interval that was drawn. So the score is of the whole corpus, in which nearly all tokens are
silent; the correlation on the 60 as they are stands beside it. Chance is 0.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp.explainers.windows import unmasked_maximum, visible
from autointerp.explainers.words import shown_token
from autointerp.llm import Request, Response
from autointerp.records import ActivationRecord, HardBy, Status
from autointerp.scorers.judged import FloatArray, Item, Judging, Plan, Problem, Sampled
from autointerp.scorers.prompts import answer_schema, read_answers
from autointerp.scorers.simulation import IMPORTED_DESIGN, ScoreJob
from autointerp.stats.weighted_ranks import weighted_spearman

N_INTERVALS = 13
"""The top interval and 12 others, of equal width, from 0 to the unit's maximum."""

N_TOP, N_OTHER, N_RANDOM, N_OUT_OF_CONTEXT = 6, 2, 10, 20
"""Windows of the top interval, of each other one, random ones, top tokens out of context."""

BEST = 9
"""Levels run from 0 to this."""


@dataclass(frozen=True)
class Bricken60Scorer(Judging):
    """Scores by levels predicted for every token of 60 short texts of the `test` split."""

    kind: ClassVar[str] = "bricken60"
    metric: ClassVar[str] = "weighted Spearman correlation"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    version: ClassVar[int] = 2

    n_per_prompt: int = 60
    """Texts in one question; all of them in the source."""

    n_context: int = 9
    """Tokens of a text, the one for which it was chosen among them."""

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """The tokens of 60 texts, or of as many as there are."""
        drawn = self._drawn(job, windows)
        length = min(
            self.n_context, *(int((~window.masked).sum()) for window, _, _ in drawn)
        )  # fmt: skip
        generator = self.generator(job, "places")
        top = {
            word for window, kind, _ in drawn if kind == "active" for word in [_strongest(window)]
        }
        items: list[Item] = []
        groups: list[tuple[int, ...]] = []
        places: list[int] = []
        for number, (window, kind, weight) in enumerate(drawn):
            where = _stretch(window, kind, top, length, generator)
            places += range(len(items), len(items) + length)
            items += [
                Item((window,), float(window.activations[place]), kind, payload=(number, place),
                     weight=weight)
                for place in where
            ]  # fmt: skip
            if (number + 1) % self.n_per_prompt == 0 or number + 1 == len(drawn):
                groups.append(tuple(places))
                places = []
        counts = {
            f"n_texts_{kind}": sum(kind == one for _, one, _ in drawn)
            for kind in ("active", "random", "out_of_context")
        }
        return Plan(tuple(items), tuple(groups), {**counts, "n_context": length})

    def request(self, explanation: str, items: Sequence[Item]) -> Request:
        """The question about some texts."""
        texts: dict[int, list[str]] = {}
        for item in items:
            number, place = item.payload
            token = shown_token(item.windows[0].tokens[place])
            texts.setdefault(number, []).append(token)
        length = len(next(iter(texts.values())))
        level = {"type": "integer", "minimum": 0, "maximum": BEST}
        levels = {"type": "array", "items": level, "minItems": length, "maxItems": length}
        return self.template.request(
            {
                "explanation": explanation,
                "texts": [json.dumps(text, ensure_ascii=False) for text in texts.values()],
            },
            answer_schema(len(texts), levels),
            max_tokens=48 + (8 + 4 * length) * len(texts),
            purpose=self.kind,
        )

    def read(self, request: Request, response: Response) -> Sequence[float]:
        """The levels of all texts in turn."""
        return [float(level) for levels in read_answers(request, response) for level in levels]

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Spearman correlation."""
        return weighted_spearman(weights, truth, answers)

    def chance(self, truth: FloatArray) -> float:
        """0."""
        return 0.0

    def base_rate(self, truth: FloatArray) -> float | None:
        """Share of tokens on which the unit is active."""
        return float((truth > 0).mean())

    def undefined(self, truth: FloatArray) -> str:
        """Activations must vary."""
        if truth.size and (truth != truth[0]).any():
            return ""
        return super().undefined(truth) or "the activations of the others do not vary"

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """The correlation on the texts as they are, and on active tokens alone."""
        truth = plan.truth[places]
        equal = np.ones((1, len(truth)))
        active = truth > 0
        return {
            "spearman_of_the_sample": float(weighted_spearman(equal, truth, answers)[0]),
            "intensity_spearman": float(
                weighted_spearman(equal[:, active], truth[active], answers[active])[0]
            )
            if active.any()
            else None,
        }

    def _problem(self, job: ScoreJob, windows: Sampled) -> Problem | None:
        problem = super()._problem(job, windows)
        if problem is None and not any((~w.masked).any() for w in windows.active):
            return Problem(Status.INSUFFICIENT_DATA, "every token of its windows is masked")
        return problem

    def _drawn(self, job: ScoreJob, windows: Sampled) -> list[tuple[ActivationRecord, str, float]]:
        """The windows in random order, what each is for, and how many of the corpus it stands for.

        Intervals, windows with top tokens, and all other silent ones are a partition: every window
        of the corpus is stood for by those drawn from its own part.
        """
        maximum = job.record.explain_maximum()
        parts: list[list[ActivationRecord]] = [[] for _ in range(N_INTERVALS)]
        for window in windows.active:
            share = N_INTERVALS * unmasked_maximum(window) / maximum
            parts[min(N_INTERVALS, max(1, -int(-share // 1))) - 1].append(window)
        silent = windows.silent(("silent", "hard", "near"))
        with_token = [w for w in silent if w.hard_by is HardBy.TOP_TOKEN]
        others = [w for w in silent if w.hard_by is not HardBy.TOP_TOKEN]
        wanted = [
            *((part, "active", N_OTHER) for part in parts[:-1]),
            (parts[-1], "active", N_TOP),
            (others, "random", N_RANDOM),
            (with_token, "out_of_context", N_OUT_OF_CONTEXT),
        ]
        generator = self.generator(job, "windows")
        drawn: list[tuple[ActivationRecord, str, float]] = []
        for part, kind, n in wanted:
            # Every window of a part is as likely as every other, or the share would not be its
            # chance: one of a document that has several must not have less.
            chosen = [part[place] for place in generator.permutation(len(part))[:n]]
            for window in chosen:
                known = 1.0 if self.design == IMPORTED_DESIGN else window.probability
                share = 1.0 if self.design == IMPORTED_DESIGN else len(chosen) / len(part)
                drawn.append((window, kind, 1.0 / (known * share)))
        return [drawn[place] for place in generator.permutation(len(drawn))]


def _strongest(window: ActivationRecord) -> str:
    return window.tokens[int(visible(window).argmax())].strip()


def _stretch(
    window: ActivationRecord,
    kind: str,
    top: set[str],
    length: int,
    generator: np.random.Generator,
) -> list[int]:
    """Places of the tokens shown: with the strongest among them, with a top token, or anywhere.

    Where among them is random: a judge that knows only places knows nothing.
    """
    usable = np.flatnonzero(~window.masked)
    if kind == "active":
        centre = int(visible(window).argmax())
    else:
        found = [int(p) for p in usable if window.tokens[p].strip() in top]
        choices = found if kind == "out_of_context" and found else usable.tolist()
        centre = int(choices[int(generator.integers(len(choices)))])
    rank = int(np.searchsorted(usable, centre))
    first, last = max(0, rank - length + 1), min(rank, len(usable) - length)
    start = int(generator.integers(first, last + 1))
    return usable[start : start + length].tolist()
