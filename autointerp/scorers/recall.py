"""Score an explanation as Neuronpedia's `recall_alt` does: do activations and words agree?

A judge sees one text a question, every token with the unit's activation on it, and the explanation,
and says whether they agree. The right answer is yes on up to 20 of the unit's most active texts,
and no on up to 5 in which it is silent and on 5 decoys: fixed texts with activations made up.

    score = (share of yes on active texts + share of no on the others) / 2; chance is 0.5

Neuronpedia counts right answers (`accuracy` in the details), which is 0.67 for a judge that always
says yes; and an answer that cannot be used is a wrong one there, and missing here. Activations are
shown, so that silent texts give themselves away: of the negatives the decoys say something
(`false_positive_rate_decoy`), and of the rest the shuffled control.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp.explainers.windows import unmasked_maximum, visible
from autointerp.explainers.words import shown_token
from autointerp.llm import Request
from autointerp.scorers.judged import FloatArray, Item, Judging, Plan, Problem, Sampled
from autointerp.scorers.logit_weight import balanced
from autointerp.scorers.prompts import answer_schema
from autointerp.scorers.simulation import ScoreJob
from autointerp.stats import normalise_levels

N_ACTIVE, N_SILENT = 20, 5
"""Most texts in which the unit is active, and in which it is silent."""

DECOYS: tuple[tuple[tuple[str, int], ...], ...] = (
    ((" The", 0), (" ferry", 9), (" leaves", 0), (" the", 0), (" harbour", 0), (" at", 0),
     (" noon", 0), (" on", 0), (" weekdays", 0), (".", 0)),
    ((" Add", 0), (" two", 0), (" spoons", 0), (" of", 0), (" flour", 0), (" and", 0),
     (" stir", 10), (" until", 0), (" smooth", 0)),
    ((" Her", 0), (" second", 0), (" novel", 0), (",", 0), (" set", 0), (" in", 0),
     (" Lisbon", 8), (",", 0), (" sold", 0), (" poorly", 0), (" at", 3), (" first", 0)),
    ((" return", 0), (" sorted", 0), ("(", 10), ("values", 0), (",", 0), (" key", 0), ("=", 0),
     ("len", 0), (")", 0)),
    ((" The", 0), (" patients", 0), (" were", 0), (" followed", 7), (" for", 0), (" six", 0),
     (" months", 0), (" after", 0), (" surgery", 0)),
)  # fmt: skip
"""Texts with activations that follow no rule: no explanation says what they have in common."""


@dataclass(frozen=True)
class RecallAltScorer(Judging):
    """Scores by whether a judge finds explanation and shown activations in agreement."""

    kind: ClassVar[str] = "recall_alt"
    metric: ClassVar[str] = "balanced accuracy"

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """The most active texts, some silent ones, and the decoys; one text a question."""
        maximum = job.record.explain_maximum()
        ranked = sorted(windows.active, key=lambda w: (-unmasked_maximum(w), w.window))
        by_text = {window.tokens: window for window in reversed(ranked)}
        active = list(by_text.values())[::-1][:N_ACTIVE]
        silent = windows.silent(("silent",)) or windows.silent(("hard", "near"))
        mixed = self.generator(job).permutation(len(silent))[:N_SILENT]
        items = (
            *(Item((w,), 1.0, "active", payload=_levels(w, maximum)) for w in active),
            *(
                Item((silent[i],), 0.0, "silent", payload=_levels(silent[i], maximum))
                for i in mixed
            ),
            *(Item((), 0.0, "decoy", payload=decoy) for decoy in DECOYS),
        )
        return Plan(items, tuple((place,) for place in range(len(items))))

    def request(self, explanation: str, items: Sequence[Item]) -> Request:
        """The question about one text."""
        (item,) = items
        activations = [{"token": token, "activation": level} for token, level in item.payload]
        shown = {"activations": activations, "explanation": explanation}
        return self.template.request(
            {"shown": json.dumps(shown, ensure_ascii=False)},
            answer_schema(1),
            max_tokens=32,
            purpose=self.kind,
        )

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Balanced accuracy."""
        return balanced(weights, truth, answers)

    def chance(self, truth: FloatArray) -> float:
        """0.5."""
        return 0.5

    def undefined(self, truth: FloatArray) -> str:
        """Texts of both kinds are needed."""
        if truth.size and 0 < truth.mean() < 1:
            return ""
        return super().undefined(truth) or "the others are all active or all silent"

    def strata(self, items: Sequence[Item]) -> Sequence[Any]:
        """Decoys, which are of no document, are a stratum of their own."""
        return [item.windows[0].stratum if item.windows else "decoy" for item in items]

    def clusters(self, items: Sequence[Item]) -> Sequence[Any]:
        """Documents; every decoy is one."""
        return [
            item.windows[0].document_id if item.windows else f"decoy {place}"
            for place, item in enumerate(items)
        ]

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """Neuronpedia's own number, recall, and how often each kind of negative was taken."""
        truth = plan.truth[places]
        kinds = np.array([plan.items[place].kind for place in places])
        found: dict[str, Any] = {
            "accuracy": float((answers == truth).mean()),
            "accuracy_of_always_yes": float(truth.mean()),
            "recall": float(answers[truth == 1].mean()),
        }
        for kind in ("silent", "decoy"):
            own = answers[kinds == kind]
            found[f"n_{kind}"] = int(own.size)
            found[f"false_positive_rate_{kind}"] = float(own.mean()) if own.size else None
        return found


def _levels(window: Any, maximum: float) -> tuple[tuple[str, int], ...]:
    """Tokens with their levels from 0 to 10, of the unit's maximum in `explain`."""
    found = visible(window)
    levels = np.where(found > 0, np.maximum(1, normalise_levels(found, maximum)), 0)
    return tuple(
        (shown_token(token), int(level)) for token, level in zip(window.tokens, levels, strict=True)
    )
