"""Scorers whose numbers are known, for runs that choose what they score."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp import judging
from autointerp.config import RunConfig
from autointerp.records import Score, Status
from autointerp.scorers import SCORERS
from tests.run_helpers import small_config


class MadeScorer:
    """Asks one question about every explanation; its number is the subclass's `value`."""

    metric = "made score"
    bounds = (-1.0, 1.0)
    reads_explanation = True

    def __init__(self, design: str, *, name: str, **_: Any) -> None:
        self.design, self.name = design, name

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "design": self.design}

    def value(self, index: int) -> float:
        """The number of a unit."""
        raise NotImplementedError

    def facts(self, job: Any) -> dict[str, Any]:
        """What a score says besides its number."""
        return {
            "unit": job.record.unit, "explanation_key": job.explanation.key, "key": job.key,
            "explainer": job.explanation.explainer, "scorer": self.name, "simulator": "made",
            "design": self.design,
        }  # fmt: skip

    def score(self, job: Any) -> Iterator[Any]:
        yield [self.name]
        value = self.value(job.record.unit.index)
        return Score(**self.facts(job), value=value, status=Status.OK, control_mean=0.0, lift=value)


def install(monkeypatch: pytest.MonkeyPatch, **scorers: type[MadeScorer]) -> None:
    """Let configs name made scorers by their type, and let nobody answer what they ask."""
    for kind, scorer in scorers.items():
        monkeypatch.setitem(SCORERS, kind, scorer)
    real = judging.judge_of

    def judge_of(of: Any, scorer: Any) -> Any:
        if isinstance(scorer, MadeScorer):
            return judging.Judge("made", "made", {str: lambda requests: [None] * len(requests)})
        return real(of, scorer)

    monkeypatch.setattr(judging, "judge_of", judge_of)


def sixty_units(folder: Path, model: Path, **changes: Any) -> RunConfig:
    """A run of 60 neurons under one explanation each."""
    settings = {
        "units": {"sample": 60, "min_active_documents": 1},
        "explainers": [{"name": "top_tokens", "type": "top_tokens"}],
    }
    return small_config(folder, model, **{**settings, **changes})
