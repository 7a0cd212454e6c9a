"""Score an explanation by the unit's logit weights (Bricken et al. 2023, "logit weights").

A judge is given the explanation and tokens, and says which of them the unit makes likelier. Half
are the tokens that the unit promotes most; each has a counterpart of the same form (leading space,
letters or not, capital, length) that other units promote.

The nearer half of the donors are controls; the units of the others lend the counterparts. A unit
does not do both: its explanation is right about its own tokens, and scores below chance where
these are the wrong ones.

    score = (share of promoted tokens taken + share of the others left) / 2; chance is 0.5

It reads weights, no text of any split. An explanation that was made from the promoted tokens
themselves repeats them here: `n_named` counts those that stand in it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from autointerp.explainers.words import shown_token
from autointerp.llm import Request
from autointerp.records import ControlScore, Status
from autointerp.scorers.judged import (
    Arm,
    FloatArray,
    Item,
    Judging,
    Plan,
    Problem,
    Sampled,
    grouped,
)
from autointerp.scorers.prompts import answer_schema
from autointerp.scorers.simulation import ScoreJob

MIN_PAIRS = 4
"""Fewer promoted tokens with a counterpart say nothing."""


@dataclass(frozen=True)
class LogitWeightScorer(Judging):
    """Scores by which tokens a judge expects the unit to promote."""

    kind: ClassVar[str] = "logit_weight"
    metric: ClassVar[str] = "balanced accuracy"
    needs_others: ClassVar[bool] = True
    version: ClassVar[int] = 2

    n_per_prompt: int = 20
    """Tokens in one question."""

    n_tokens: int = 10
    """Most promoted tokens that are asked about."""

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """The promoted tokens, and one of the same form for each."""
        if not job.record.promoted:
            return Problem(
                Status.INSUFFICIENT_DATA,
                "what the unit writes into the logits is not stored: it writes nothing known, or "
                "was recorded with record.output_tokens: 0",
            )
        own = _distinct([one.token for one in job.record.promoted])
        lent = job.others[n_controls(len(job.others)) :]
        others = _distinct([one.token for record in lent for one in record.promoted or ()])
        generator = self.generator(job)
        pairs = matched(own[: self.n_tokens], own, others, generator)
        if len(pairs) < MIN_PAIRS:
            return Problem(
                Status.INSUFFICIENT_DATA,
                f"{len(pairs)} promoted tokens have a counterpart among {len(others)} that other "
                f"units promote, {MIN_PAIRS} needed",
            )
        items = tuple(
            Item((), truth, "promoted" if truth else "other", bundle=number, payload=token)
            for number, pair in enumerate(pairs)
            for token, truth in zip(pair, (1.0, 0.0), strict=True)
        )
        words = set(re.findall(r"\w+", (job.explanation.text or "").casefold()))
        named = [token for token, _ in pairs if token.strip().casefold() in words]
        return Plan(
            items,
            tuple(grouped(len(items), self.n_per_prompt, generator)),
            {"n_named": len(named)},
        )

    def request(self, explanation: str, items: Sequence[Item]) -> Request:
        """The question about some tokens."""
        tokens = [shown_token(item.payload).replace('"', '\\"') for item in items]
        return self.template.request(
            {"explanation": explanation, "tokens": tokens},
            answer_schema(len(items)),
            max_tokens=24 + 8 * len(items),
            purpose=self.kind,
        )

    def arms(self, job: ScoreJob, plan: Plan) -> list[Arm]:
        """The own explanation's questions, and those of the donors whose units lend no tokens."""
        n = n_controls(len(job.others))
        lenders = [
            Arm([], ControlScore("shuffled", None, Status.NOT_RUN, donor.unit, donor.key))
            for donor in job.donors[n:]
        ]
        return [*super().arms(replace(job, donors=job.donors[:n]), plan), *lenders]

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Balanced accuracy."""
        return balanced(weights, truth, answers)

    def chance(self, truth: FloatArray) -> float:
        """0.5."""
        return 0.5

    def undefined(self, truth: FloatArray) -> str:
        """Both kinds of token are needed."""
        if truth.size and 0 < truth.mean() < 1:
            return ""
        return super().undefined(truth) or "the others are all promoted or none of them is"

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """How many promoted tokens were taken, and how many others."""
        truth = plan.truth[places] == 1
        return {
            "true_positive_rate": float(answers[truth].mean()),
            "false_positive_rate": float(answers[~truth].mean()),
        }

    def strata(self, items: Sequence[Item]) -> Sequence[Any]:
        """All tokens are one."""
        return ["tokens"] * len(items)

    def clusters(self, items: Sequence[Item]) -> Sequence[Any]:
        """A promoted token and its counterpart are resampled together."""
        return [item.bundle for item in items]

    def _problem(self, job: ScoreJob, windows: Sampled) -> Problem | None:
        # No window is read: a unit may be active in none.
        if job.explanation.status != Status.OK or job.explanation.text is None:
            return Problem(job.explanation.status, job.explanation.reason)
        return None


def n_controls(n_others: int) -> int:
    """How many of the donors are controls; the units of the others lend the counterparts."""
    return n_others // 2


def balanced(weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
    """Balanced accuracy of yes-or-no answers to weighted items.

    Args:
        weights: [n_replicates, n_items] >= 0.
        truth: [n_items] 0 or 1.
        answers: [n_items] 0 or 1.

    Returns:
        [n_replicates]; a side without weight counts as 0.5.
    """
    rates: list[FloatArray] = []
    for value in (1.0, 0.0):
        own = weights * (truth == value)
        total = own.sum(1)
        right = own @ (answers == value).astype(np.float64)
        rates.append(np.divide(right, total, out=np.full_like(total, 0.5), where=total > 0))
    return (rates[0] + rates[1]) / 2


def matched(
    wanted: Sequence[str],
    own: Sequence[str],
    others: Sequence[str],
    generator: np.random.Generator,
) -> list[tuple[str, str]]:
    """Tokens with counterparts: of the same form where there is one, and never the unit's own.

    Args:
        wanted: tokens that want a counterpart, in order of importance.
        own: tokens that cannot be one, in any spelling.
        others: tokens that can.
        generator: breaks ties.
    """
    taken = {_spelling(token) for token in own}
    left = [token for token in others if _spelling(token) not in taken]
    left = [left[place] for place in generator.permutation(len(left))]
    pairs: list[tuple[str, str]] = []
    for token in wanted:
        if not left:
            break
        best = min(left, key=lambda other: _distance(token, other))
        pairs.append((token, best))
        left = [other for other in left if _spelling(other) != _spelling(best)]
    return pairs


def _distinct(tokens: Sequence[str]) -> list[str]:
    """Tokens of different spelling that hold more than white space."""
    return list({_spelling(t): t for t in reversed(tokens) if t.strip()}.values())[::-1]


def _spelling(token: str) -> str:
    return token.strip().casefold()


def _distance(one: str, other: str) -> tuple[int, int]:
    """In how many ways two tokens differ in form, then by how many characters."""
    a, b = one.strip(), other.strip()
    differs = (
        one.startswith(" ") != other.startswith(" "),
        a.isalpha() != b.isalpha(),
        a[:1].isupper() != b[:1].isupper(),
        a.isascii() != b.isascii(),
    )
    return sum(differs), abs(len(a) - len(b))
