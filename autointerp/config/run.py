"""Config of a whole run."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import Name, Stage
from autointerp.config.controls import CONTROL_NAMES, ControlName
from autointerp.config.corpus import CorpusConfig
from autointerp.config.cost import CascadeConfig
from autointerp.config.explaining import BASELINE_EXPLAINERS, ExplainerConfig
from autointerp.config.llm import BudgetConfig, LlmConfig
from autointerp.config.recording import RecordConfig, UnitsConfig
from autointerp.config.scorers import ScorerConfig
from autointerp.config.scoring import ScoreConfig, SimulatorConfig
from autointerp.config.sources import RecordedConfig, UnitSourceConfig
from autointerp.config.subjects import SubjectConfig
from autointerp.records import UsageError


class RunConfig(Stage):
    """A whole run."""

    name: Name = "run"
    """Of the run; also of its folder under `results/` unless `output` is set."""
    output: str | None = None
    """The run's folder; `results/NAME` if left out."""
    preset: str | None = None
    """A published protocol that this config starts from: `bills2023`, `bricken2023`, `delphi`,
    `neuronpedia`, `saebench` or `transluce` (`autointerp presets`, docs/presets/). Whatever is set
    here comes before what it says."""
    faithful: bool = Field(default=False, strict=True)
    """With `preset`: as published also where the preset does otherwise, such as negatives that
    nobody checked. Results say so."""
    seed: int = 0
    """All random choices are hashes of this, the unit and the purpose."""
    subjects: dict[Name, SubjectConfig] = {}
    """Language models under study, by a name that sources refer to."""
    corpus: CorpusConfig | None = None
    sources: dict[Name, UnitSourceConfig] = Field(min_length=1)
    """What has units, by name; `type` is `neurons`, `sae`, `directions`, `attention_heads` or
    `recorded`."""
    record: RecordConfig = RecordConfig()
    units: UnitsConfig = UnitsConfig()
    llm: LlmConfig = LlmConfig()
    budget: BudgetConfig = BudgetConfig()
    explainers: list[ExplainerConfig] = Field(min_length=1)
    simulator: SimulatorConfig = SimulatorConfig()
    score: ScoreConfig = ScoreConfig()
    scorers: list[ScorerConfig] = [ScorerConfig(name="simulation", type="simulation")]
    """How explanations are scored; all of them use the windows and donors of `score`."""
    cascade: CascadeConfig | None = None
    """Score by cheap scorers first, and by expensive ones only where those leave it open."""
    controls: bool | list[ControlName] = ["permuted", "sign_flip"]
    """What is scored beside every explanation, as well as the `shuffled_donors` of `score`:
    `empty`, `generic` and `narrow` are explanations that should do worse, and cost a simulation or
    a judge's answers each; `permuted` and `sign_flip` cost nothing (docs/trust.md). `true` for all
    five, `false` for none."""
    executor: Literal["local"] = "local"
    """Where work items run; `local` is this process."""

    @property
    def control_names(self) -> tuple[ControlName, ...]:
        """The controls that are asked for, in the order in which they are shown."""
        given = self.controls
        wanted = CONTROL_NAMES if given is True else () if given is False else given
        return tuple(name for name in CONTROL_NAMES if name in wanted)

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        """What the preset says stands under what is said here."""
        from autointerp.presets import with_preset

        try:
            return with_preset(given) if isinstance(given, dict) else given
        except UsageError as error:
            raise ValueError(str(error)) from None

    def without_remote_code(self) -> Self:
        """The same, where no subject may bring Python code of its own.

        For configs that lie in a run's folder, which may be somebody else's: who is to be trusted
        is said by a config that its user names.
        """
        subjects = {
            name: subject.model_copy(update={"trust_remote_code": False})
            for name, subject in self.subjects.items()
        }
        return self.model_copy(update={"subjects": subjects})

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.faithful and self.preset is None:
            raise ValueError("`faithful` is of a `preset`: name one, or leave it out")
        for name, source in self.sources.items():
            if name.endswith(".statistics"):
                raise ValueError(f"sources.{name}: no source's name may end in .statistics")
            if isinstance(source, RecordedConfig):
                continue
            if source.subject not in self.subjects:
                known = ", ".join(self.subjects) or (
                    f"none; add `subjects: {{{source.subject}: {{model: smollm2}}}}`, or another "
                    "model"
                )
                raise ValueError(
                    f"sources.{name}.subject is {source.subject!r}, but `subjects` has: {known}"
                )
            if self.corpus is None:
                raise ValueError(f"sources.{name} is recorded from a subject: set `corpus:`")
        if self.corpus and all(isinstance(s, RecordedConfig) for s in self.sources.values()):
            raise ValueError("`corpus:` is read by no source: all were recorded elsewhere")
        names = [explainer.name for explainer in self.explainers]
        if len(set(names)) != len(names):
            raise ValueError(f"explainers need different names, not {names}")
        scorers = [scorer.name for scorer in self.scorers]
        if len(set(scorers)) != len(scorers):
            raise ValueError(f"scorers need different names, not {scorers}")
        for explainer in self.explainers:
            if explainer.type == "best_of":
                self._check_choice(explainer)
        if sum(scorer.type == "simulation" for scorer in self.scorers) > 1:
            raise ValueError("only one of the scorers can be of type simulation")
        self._check_savings()
        return self

    def _check_savings(self) -> None:
        """Raises `ValueError` for a cascade of scorers that are not there, or without a measure."""
        stop, cascade = self.score.stop, self.cascade
        if cascade and stop:
            raise ValueError("`cascade` and `score.stop` both choose what is scored: keep one")
        for stage in cascade.stages if cascade else ():
            if stage not in [scorer.name for scorer in self.scorers]:
                names = ", ".join(scorer.name for scorer in self.scorers)
                raise ValueError(f"cascade.stages names {stage!r}, but `scorers` has: {names}")
        for key, part in (("cascade", cascade), ("score.stop", stop)):
            if part and part.measure == "lift" and self.score.shuffled_donors == 0:
                raise ValueError(
                    f"{key}.measure is lift, but score.shuffled_donors is 0: set measure to score"
                )

    def _check_choice(self, chooser: ExplainerConfig) -> None:
        """Raises `ValueError` where there is nothing to choose from, or nobody who can."""
        usable = [
            explainer.name
            for explainer in self.explainers
            if explainer.type not in ("best_of", *BASELINE_EXPLAINERS)
        ]
        missing = [name for name in chooser.of or () if name not in usable]
        if missing:
            raise ValueError(
                f"explainers.{chooser.name}.of names {missing[0]!r}; the explainers in words are "
                f"{', '.join(usable) or 'none'}"
            )
        by = chooser.by or "simulation"
        if by not in [scorer.name for scorer in self.scorers]:
            names = ", ".join(scorer.name for scorer in self.scorers)
            raise ValueError(f"explainers.{chooser.name}.by is {by!r}, but `scorers` has: {names}")
