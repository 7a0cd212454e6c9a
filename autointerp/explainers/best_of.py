"""The best of several explanations, chosen by a score on the `calibrate` split.

A run makes the choice (`autointerp.selecting`): it needs other explainers' explanations and a
scorer. Here is what is chosen among.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.explainers.base import Explaining, ExplainView
from autointerp.records import AutointerpError, Explanation, Status, UnitId, content_key

VERSION = 1
"""Raise when the same candidates and scores give another choice."""


@dataclass(frozen=True)
class Candidate:
    """One text that may be chosen."""

    text: str
    explainer: str
    """Who found it."""

    explanation_key: str
    """Of the explanation it was found with."""


class BestOf:
    """Stands for the choice among other explainers' explanations; sees no window itself."""

    needs_llm = False

    def __init__(self, name: str = "best_of", *, of: Sequence[str], by: str = "simulation") -> None:
        """Set it up.

        Args:
            name: as in the config.
            of: names of the explainers whose explanations are candidates: all samples and all items
                of their lists.
            by: name of the scorer that chooses.
        """
        self.name = name
        self.of = tuple(of)
        self.by = by
        self.fingerprint = content_key("explainer", type="best_of", version=VERSION)

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Not here.

        Raises:
            AutointerpError: the choice reads `calibrate`, which no explainer sees.
        """
        raise AutointerpError(f"explainer {self.name!r} chooses in a run, and not from a view")


def candidates_of(explanations: Sequence[Explanation]) -> list[Candidate]:
    """All texts of some explanations that differ, in their order.

    Those of several samples, or of a numbered list, stand in an explanation's details.
    """
    found: dict[str, Candidate] = {}
    for explanation in explanations:
        listed: Any = explanation.details.get("candidates") or ()
        texts = [entry.get("text") for entry in listed if isinstance(entry, dict)]
        own = explanation.text if explanation.status is Status.OK else None
        for text in (own, *texts):
            if isinstance(text, str) and text:
                one = Candidate(text, explanation.explainer, explanation.key)
                found.setdefault(" ".join(text.casefold().split()), one)
    return list(found.values())


def donors_of(explanation: Explanation) -> tuple[Explanation, ...]:
    """The controls of a choice: every donor's best text on the same `calibrate` windows."""
    return tuple(
        Explanation(
            UnitId.parse(entry["unit"]),
            explanation.explainer,
            entry["text"],
            Status.OK,
            content_key("shuffled choice", key=explanation.key, place=place),
        )
        for place, entry in enumerate(explanation.details.get("shuffled") or ())
    )


def best(values: Sequence[float | None]) -> int | None:
    """Place of the largest value, the first of equals; `None` where there is none."""
    known = [(value, -place) for place, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None
