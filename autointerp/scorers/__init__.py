"""Scorers: how far an explanation can be trusted, from records it was not made from.

A third party's scorer is found by the entry point group `autointerp.scorers`: the entry point's
name is the `type` in the config, its value a callable that takes the `ScorerConfig`, the
`ScoreConfig`, the name of the sampling design and the run's seed, and returns a `JudgedScorer`:

    [project.entry-points."autointerp.scorers"]
    my_scorer = "my_package.scorers:make"
"""

from collections.abc import Generator, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from autointerp.llm import Request, Response
from autointerp.records import AutointerpError, Score
from autointerp.scorers.ablate_to_simulation import AblateToSimulationScorer
from autointerp.scorers.bricken60 import Bricken60Scorer
from autointerp.scorers.choices import PairScorer, SortScorer
from autointerp.scorers.detection import DetectionScorer
from autointerp.scorers.embedding import EmbeddingScorer
from autointerp.scorers.fuzzing import FuzzingScorer
from autointerp.scorers.generative import GenerativeScorer
from autointerp.scorers.injection import InjectionScorer
from autointerp.scorers.intervention_surprisal import InterventionSurprisalScorer
from autointerp.scorers.intruder import IntruderScorer
from autointerp.scorers.judged import Judging
from autointerp.scorers.logit_weight import LogitWeightScorer
from autointerp.scorers.output_choice import OutputChoiceScorer
from autointerp.scorers.rating import RatingScorer
from autointerp.scorers.recall import RecallAltScorer
from autointerp.scorers.responsiveness import PurityScorer, ResponsivenessScorer
from autointerp.scorers.saebench import SaebenchScorer
from autointerp.scorers.sensitivity import SensitivityScorer
from autointerp.scorers.simulation import ScoreJob, SimulationScorer
from autointerp.scorers.surprisal import SurprisalScorer

if TYPE_CHECKING:
    from autointerp.config import ScoreConfig, ScorerConfig

__all__ = [
    "ENTRY_POINTS",
    "SCORERS",
    "Bricken60Scorer",
    "DetectionScorer",
    "EmbeddingScorer",
    "FuzzingScorer",
    "IntruderScorer",
    "JudgedScorer",
    "Judging",
    "LogitWeightScorer",
    "PairScorer",
    "RatingScorer",
    "RecallAltScorer",
    "SaebenchScorer",
    "ScoreJob",
    "SimulationScorer",
    "SortScorer",
    "SurprisalScorer",
    "load_scorer",
]

ENTRY_POINTS = "autointerp.scorers"
"""Group of entry points in which third parties' scorers are found."""

SCORERS: dict[str, type[Any]] = {
    "detection": DetectionScorer,
    "fuzzing": FuzzingScorer,
    "generative": GenerativeScorer,
    "output_choice": OutputChoiceScorer,
    "sensitivity": SensitivityScorer,
    "responsiveness": ResponsivenessScorer,
    "purity": PurityScorer,
    "injection": InjectionScorer,
    "intervention_surprisal": InterventionSurprisalScorer,
    "ablate_to_simulation": AblateToSimulationScorer,
    "intruder": IntruderScorer,
    "pair": PairScorer,
    "sort": SortScorer,
    "rating": RatingScorer,
    "logit_weight": LogitWeightScorer,
    "bricken60": Bricken60Scorer,
    "recall_alt": RecallAltScorer,
    "saebench": SaebenchScorer,
    "embedding": EmbeddingScorer,
    "surprisal": SurprisalScorer,
}
"""Our own but simulation, by the `type` in the config; their keys there: `config.SCORER_KEYS`."""


class JudgedScorer(Protocol):
    """Scores an explanation by what a language model answers about it."""

    @property
    def name(self) -> str:
        """As in the config."""
        ...

    def identity(self) -> dict[str, Any]:
        """What a score depends on besides explanation, donors and judge: prompt, settings."""
        ...

    def score(self, job: ScoreJob) -> Generator[Sequence[Request], Sequence[Response], Score]:
        """Ask what is needed; return the score (`autointerp.llm.driver`)."""
        ...


def load_scorer(
    config: "ScorerConfig", score: "ScoreConfig", design: str, seed: int = 0
) -> JudgedScorer:
    """Make the scorer a config describes.

    Args:
        config: its `type` is one of `SCORERS`, or the name of an entry point.
        score: what all scorers of a run share.
        design: name of the sampling design of the windows.
        seed: the run's.

    Raises:
        AutointerpError: where there is no such type, or its package cannot be loaded.
    """
    if config.type in SCORERS:
        return SCORERS[config.type](
            design,
            name=config.name,
            min_active_documents=score.min_active_documents,
            n_replicates=score.bootstrap,
            seed=seed,
            **config.options(),
        )
    found = entry_points(group=ENTRY_POINTS)
    if config.type not in found.names:
        known = ", ".join([*sorted([*SCORERS, "simulation"]), *sorted(found.names)])
        raise AutointerpError(
            f"scorer {config.name!r}: there is no type {config.type!r}; known are {known}"
        )
    try:
        make: Any = found[config.type].load()
    except (ImportError, AttributeError) as error:
        raise AutointerpError(f"scorer type {config.type!r} cannot be loaded: {error}") from error
    return make(config, score, design, seed)
