"""Score an explanation by fuzzing (Paulo et al. 2024): a judge says which marks it fits.

A judge sees the explanation and active windows of the unit's `test` split with some tokens between
`<<` and `>>`, and says for each window whether those are the tokens that a unit explained so would
respond to. Every window comes twice: with its true marks, and with false ones on tokens at which
the unit is silent (`scorers.marks`), in different questions. So text, length and number of marks
say nothing, and half of all answers should be yes.

    score = average precision (AUPRC) of the answers; chance is 1/2
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autointerp.explainers.windows import highlighted_where
from autointerp.records import ActivationRecord, Status
from autointerp.scorers.detection import YesOrNo
from autointerp.scorers.judged import SILENT_SHARE, Item, Plan, Problem, Sampled, two_passes
from autointerp.scorers.marks import Marks, TokenFacts, false_marks, kind_of_token, true_marks
from autointerp.scorers.prompts import fenced
from autointerp.scorers.simulation import ScoreJob


@dataclass(frozen=True)
class FuzzingScorer(YesOrNo):
    """Scores by fuzzing on the active `test` windows."""

    kind: ClassVar[str] = "fuzzing"

    def shown(self, item: Item) -> str:
        """A window with its marks."""
        return fenced(highlighted_where(item.windows[0].tokens, item.payload))

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """Every active window that can bear false marks, twice."""
        bound = SILENT_SHARE * job.record.explain_maximum()
        everything = (*windows.active, *windows.silent(("silent", "hard", "near")))
        found = false_marks(windows.active, TokenFacts(everything, bound))
        pairs = [
            (window, true_marks(window), false)
            for window, false in zip(windows.active, found.marks, strict=True)
            if false is not None
        ]
        if len({window.document_id for window, _, _ in pairs}) < self.min_active_documents:
            return Problem(
                Status.INSUFFICIENT_DATA,
                f"{len(pairs)} of {len(windows.active)} active windows have as many silent tokens "
                "as active ones: too few to mark falsely",
            )
        items = tuple(
            Item((window,), truth, "true" if truth else "false", bundle, marks)
            for bundle, (window, true, false) in enumerate(pairs)
            for truth, marks in ((1.0, true), (0.0, false))
        )
        groups = two_passes(len(pairs), self.n_per_prompt, self.generator(job))
        facts = {
            "n_contradicted": windows.n_contradicted,
            "n_without_false_marks": len(windows.active) - len(pairs),
            "n_marks_nearby": found.n_nearby,
            "same_kind_of_token": _likeness(pairs),
        }
        return Plan(items, tuple(groups), facts)


def _likeness(pairs: list[tuple[ActivationRecord, Marks, Marks]]) -> float:
    """How alike the kinds of truly and of falsely marked tokens are distributed, up to 1.

    Σ over kinds of min(share among the true, share among the false).
    """
    true = [k for window, marks, _ in pairs for k in _kinds(window, marks)]
    false = [k for window, _, marks in pairs for k in _kinds(window, marks)]
    return sum(
        min(true.count(kind) / len(true), false.count(kind) / len(false)) for kind in set(true)
    )


def _kinds(window: ActivationRecord, marks: Marks) -> list[str]:
    return [kind_of_token(window.tokens[place]) for place in np.flatnonzero(marks)]
