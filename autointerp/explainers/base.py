"""What every explainer offers, and the only thing it sees: the `explain` split of one unit."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from autointerp.llm import Request, Response
from autointerp.records import (
    ActivationRecord,
    Explanation,
    Split,
    SplitStatistics,
    Status,
    TokenLogit,
    UnitId,
    UnitRecord,
)

Explaining = Generator[Sequence[Request], Sequence[Response], Explanation]
"""An explanation in the making: yields requests, is sent responses (`autointerp.llm.driver`)."""


@dataclass(frozen=True)
class ExplainView:
    """What an explainer may know of a unit. Other splits cannot be reached from here."""

    unit: UnitId

    records: tuple[ActivationRecord, ...]
    """The windows of the `explain` split, most active stratum first."""

    statistics: SplitStatistics | None
    """Of the `explain` split; `None` for units that were recorded elsewhere without any."""

    maximum: float
    """Largest activation in the `explain` split; 0 for a dead unit."""

    promoted: tuple[TokenLogit, ...] | None = None
    """Tokens whose logits it raises most (`UnitRecord.promoted`): of its weights, of no split."""

    suppressed: tuple[TokenLogit, ...] | None = None
    """Tokens whose logits it lowers most."""

    @classmethod
    def of(cls, record: UnitRecord) -> "ExplainView":
        """The view of a unit record."""
        return cls(
            unit=record.unit,
            records=record.of(Split.EXPLAIN),
            statistics=record.statistics.get(Split.EXPLAIN),
            maximum=record.explain_maximum(),
            promoted=record.promoted,
            suppressed=record.suppressed,
        )


class Explainer(Protocol):
    """Finds words for a unit."""

    name: str
    """As in the config: it tells the explanations of one run apart."""

    fingerprint: str
    """Hash of everything an explanation depends on besides view and model: prompt, settings."""

    needs_llm: bool
    """Whether it asks a language model; one that does not is free, and the same under any model."""

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Explain one unit.

        Args:
            view: what may be known of it.
            key: of the explanation: hash of everything it is made from.

        Yields:
            Requests to a language model; explainers that need none yield nothing.

        Returns:
            An explanation, with a status that says why where there are no words.
        """
        ...


def dead(view: ExplainView, explainer: str, key: str) -> Explanation | None:
    """The explanation of a unit that never fired in the `explain` split; `None` for others."""
    if view.maximum > 0:
        return None
    reason = "the unit never fired in the explain split"
    return Explanation(view.unit, explainer, None, Status.DEAD, key, reason)
