"""What every scorer has that asks by a template: its settings, and what its scores depend on."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from autointerp.llm.capabilities import Needs
from autointerp.records import Split, derived_seed
from autointerp.scorers.prompts import JudgePrompt, load_prompt
from autointerp.scorers.simulation import ScoreJob


@dataclass(frozen=True)
class AskingScorer:
    """A scorer with a prompt.

    Subclasses are frozen dataclasses: their fields are their settings, and enter the key of every
    score.
    """

    kind: ClassVar[str]
    """The type in the config; also names the template."""

    version: ClassVar[int] = 1
    """Raise when the same answers give another score, or the same windows other questions."""

    metric: ClassVar[str]
    """What the score is, in words."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Least and largest score."""

    reads_explanation: ClassVar[bool] = True
    """Whether the score is of an explanation; else it is of the unit, and the same for all."""

    needs_others: ClassVar[bool] = False
    """Whether `ScoreJob.others` is read."""

    asks: ClassVar[bool] = True
    """Whether a language model is asked, by a template."""

    design: str
    """Name of the sampling design the windows came from."""

    name: str = ""
    """As in the config; the type if left out."""

    min_active_documents: int = 4
    n_replicates: int = 1000
    seed: int = 0
    split: Split = Split.TEST
    prompt: str | None = None
    """Template in `prompts/`, or the path of a `.j2` file; the type's own if `None`."""

    def __post_init__(self) -> None:
        """Name it; a wrong template is refused now."""
        if not self.name:
            object.__setattr__(self, "name", self.kind)
        if self.asks:
            _ = self.template

    @cached_property
    def template(self) -> JudgePrompt:
        """The prompt."""
        return load_prompt(self.prompt or self.kind)

    @property
    def needs(self) -> Needs:
        """What the language model must be able to do."""
        return Needs(json_schema=True) if self.asks else Needs()

    def identity(self) -> dict[str, Any]:
        """What a score depends on besides its inputs."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "prompt"}
        digest = self.template.digest if self.asks else None
        return {**settings, "kind": self.kind, "version": self.version, "prompt": digest}

    def generator(self, job: ScoreJob, *purpose: str) -> np.random.Generator:
        """Random numbers that depend on nothing but seed, unit and purpose."""
        return np.random.default_rng(derived_seed(self.seed, self.kind, job.record.unit, *purpose))
