"""What a finished run holds, gathered for tables, figures, exports and pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autointerp.records import (
    ActivationRecord,
    Explanation,
    Score,
    Simulation,
    Status,
    UnitId,
    UnitRecord,
)


@dataclass(frozen=True)
class UnitResult:
    """One selected unit: what was recorded, said, predicted and scored."""

    unit: UnitId
    record: UnitRecord
    density: float
    """Share of `explain` tokens on which it is active."""

    explanations: Mapping[str, Explanation]
    """By explainer; empty for a dead unit."""

    scores: Mapping[str, Score]
    """By explainer; missing where nothing was scored."""

    scored_windows: tuple[ActivationRecord, ...]
    """The `test` windows that were scored, most active stratum first."""

    simulations: Mapping[str, tuple[Simulation, ...]]
    """By explainer: own explanation on `scored_windows`, in the same order."""

    judged: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    """Scores by scorers that ask a language model: by scorer, then by explainer."""

    status: Status = Status.OK
    """`dead` where it never fired in `explain`."""


@dataclass(frozen=True)
class RunResults:
    """A run's results under its present config."""

    name: str
    explainers: tuple[str, ...]
    """Explainer names in config order."""

    baseline_explainers: tuple[str, ...]
    """Those that are controls rather than words: the token look-up table."""

    sources: tuple[str, ...]
    """Unit source names in config order."""

    units: tuple[UnitResult, ...]
    recorded: Mapping[str, Mapping[str, int]]
    """Source → `n_units` recorded and `n_dead` of them."""

    sequence_texts: Mapping[str, Mapping[str, str]]
    """sequence_id → `text`, `document_name`, `kind`."""

    char_spans: Mapping[str, tuple[Any, Any]]
    """sequence_id → (char_starts, char_ends) of its tokens in that text, int32 arrays."""

    provenance: Mapping[str, Any]
    config: Mapping[str, Any]
    """The resolved config as plain values."""

    ledger: tuple[Mapping[str, Any], ...] = ()
    """Requests, tokens and seconds per purpose and model."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time per stage of the last invocation."""

    def of_source(self, source: str) -> tuple[UnitResult, ...]:
        """The units of one source."""
        return tuple(unit for unit in self.units if unit.unit.source == source)
