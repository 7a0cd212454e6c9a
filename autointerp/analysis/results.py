"""What a finished run holds, gathered for tables, figures, exports and pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autointerp.analysis.scorer_facts import ScorerFacts, scorer_facts
from autointerp.records import (
    ActivationRecord,
    Explanation,
    Score,
    Simulation,
    Status,
    UnitId,
    UnitRecord,
)

SIMULATION = "simulation"
"""Name under which scores by simulation are kept, whatever the config calls them."""


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
    """By explainer: by simulation, or by the scorer that `RunResults.under` asks for; missing where
    nothing was scored."""

    scored_windows: tuple[ActivationRecord, ...]
    """The `test` windows that were scored, most active stratum first."""

    simulations: Mapping[str, tuple[Simulation, ...]]
    """By explainer: own explanation on `scored_windows`, in the same order."""

    judged: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    """Scores by scorers that ask a language model: by scorer, then by explainer."""

    status: Status = Status.OK
    """`dead` where it never fired in `explain`."""

    def scores_by(self, scorer: str) -> Mapping[str, Score]:
        """Its scores by one scorer, by explainer."""
        return self.scores if scorer == SIMULATION else self.judged.get(scorer, {})


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

    staged: Mapping[str, Any] = field(default_factory=dict)
    """What a cascade or a stopping rule left out and why (`autointerp.cascade`,
    `autointerp.stopping`); empty without one."""

    def of_source(self, source: str) -> tuple[UnitResult, ...]:
        """The units of one source."""
        return tuple(unit for unit in self.units if unit.unit.source == source)

    @property
    def scorers(self) -> tuple[ScorerFacts, ...]:
        """All scorers in config order."""
        configured = self.config.get("scorers") or [{"name": SIMULATION, "type": SIMULATION}]
        return tuple(
            scorer_facts(
                SIMULATION if entry["type"] == SIMULATION else str(entry["name"]),
                str(entry["type"]),
            )
            for entry in configured
        )

    @property
    def primary_scorer(self) -> ScorerFacts:
        """The scorer of the headline: simulation, or the first of the config without it."""
        return next((s for s in self.scorers if s.name == SIMULATION), self.scorers[0])

    def under(self, scorer: str) -> "RunResults":
        """The same run as one scorer sees it: its scores stand in `scores` of every unit.

        What is simulated is shown by simulation alone.
        """
        if scorer == SIMULATION:
            return self
        units = tuple(
            replace(unit, scores=self._every_explainer(unit.scores_by(scorer)), simulations={})
            for unit in self.units
        )
        return replace(self, units=units)

    def _every_explainer(self, scores: Mapping[str, Score]) -> Mapping[str, Score]:
        """A score of the unit, kept under no explainer, is the same for all of them."""
        return dict.fromkeys(self.explainers, scores[""]) if "" in scores else scores
