"""Config of what saves calls: cascades of scorers, and stopping when a mean is known."""

from typing import Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import Name, Stage

Measure = Literal["lift", "score"]


class CascadeConfig(Stage):
    """Cheap scorers first, the expensive one where they leave it open (docs/cost.md)."""

    stages: list[Name] = Field(min_length=2)
    """Names of scorers, cheapest first. The last is the gold one that decides what is true."""
    gold_share: float = Field(default=0.1, gt=0, le=1)
    """Share of the units of every source, drawn by chance, on which all stages are run: thresholds
    and means of the dictionary rest on them."""
    decide: bool = True
    """Whether a stage decides for later ones. `false` scores only the gold units by later stages:
    enough for a mean over the dictionary."""
    bar: float = 0.1
    """An explanation is good where the gold stage's measure is at least this."""
    measure: Measure = "lift"
    """Which number of a score counts: above other units' explanations, or as it is."""
    max_error: float = Field(default=0.1, gt=0, lt=1)
    """Most decisions of either kind of a stage that may be wrong, as a share."""
    delta: float = Field(default=0.05, gt=0, lt=1)
    """Chance that any stage's decisions are wrong more often than that."""

    @model_validator(mode="after")
    def _stages_differ(self) -> Self:
        if len(set(self.stages)) != len(self.stages):
            raise ValueError(f"a scorer can be one stage only: {', '.join(self.stages)}")
        return self


class StopConfig(Stage):
    """Units are scored in random order until the mean is known well enough (docs/cost.md)."""

    half_width: float = Field(gt=0, lt=1)
    """Half of the interval's width at which to stop, such as 0.05."""
    measure: Measure = "lift"
    """Which number of a score counts."""
    first: int = Field(default=16, ge=2)
    """Units of a source before the first look."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Coverage of the interval, at all looks together."""
