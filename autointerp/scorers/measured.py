"""Scorers that ask a model on this machine for a number per window: embedding, surprisal.

    score = average precision (AUPRC) of the numbers, active windows against silent ones
    lift  = score(own explanation) - mean over donors of score(donor's explanation)

as in detection, but graded by a model that answers no question: nothing is parsed, nothing refused,
and the number is the same on every run. Chance is the share of active windows.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np

from autointerp import stats
from autointerp.llm import Response, ResponseStatus, Usage
from autointerp.llm.capabilities import Needs
from autointerp.llm.schemas import MalformedAnswerError
from autointerp.records import Status
from autointerp.scorers.judged import (
    NEGATIVES,
    FloatArray,
    Item,
    Judging,
    Plan,
    Problem,
    Sampled,
    kind_of,
)
from autointerp.scorers.simulation import ScoreJob


@dataclass(frozen=True)
class Measurement:
    """A question to a model on this machine: how well do these texts go with an explanation?"""

    explanation: str
    texts: tuple[str, ...]

    def made_up(self) -> Response:
        """An answer that can be read, for a dry run."""
        return measured([1.0 / (1 + place) for place in range(len(self.texts))], 0, "dry run")


class Reader(Protocol):
    """A model on this machine that measures texts."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of everything its numbers depend on."""
        ...

    def answer(self, requests: list[Measurement]) -> list[Response]:
        """A number per text of every request (`measured`)."""
        ...


def measured(values: Sequence[float], n_tokens: int, model: str) -> Response:
    """The answer of a reader.

    Args:
        values: one per text, higher where it goes better; NaN where it cannot be measured.
        n_tokens: that were read for it.
        model: the reader's name.
    """
    found = [None if math.isnan(value) else float(value) for value in values]
    return Response(json.dumps(found), ResponseStatus.OK, Usage(n_tokens), model=model)


@dataclass(frozen=True)
class Measuring(Judging):
    """What the scorers by a model on this machine share; subclasses name the model."""

    metric: ClassVar[str] = "average precision"

    model: str = ""
    """Who measures."""

    negatives: tuple[str, ...] = NEGATIVES
    """Kinds of silent windows that are measured (`judged.NEGATIVES`)."""

    def __post_init__(self) -> None:
        """Name it; there is no template."""
        if not self.name:
            object.__setattr__(self, "name", self.kind)

    @property
    def needs(self) -> Needs:
        """Nothing: no language model is asked."""
        return Needs()

    def identity(self) -> dict[str, Any]:
        """What a score depends on besides its inputs and the model."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "prompt"}
        return {**settings, "kind": self.kind, "version": self.version}

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """Every active window and every silent one, once."""
        silent = windows.silent(self.negatives)
        if not silent:
            reason = f"no silent window among {len(windows.active)} to tell apart"
            return Problem(Status.INSUFFICIENT_DATA, reason)
        items = (
            *(Item((window,), 1.0, "active") for window in windows.active),
            *(Item((window,), 0.0, kind_of(window)) for window in silent),
        )
        places = tuple(range(len(items)))
        return Plan(items, (places,), {"n_contradicted": windows.n_contradicted})

    def request(self, explanation: str, items: Sequence[Item]) -> Any:
        """The texts as they are: nothing in them is read as anything but text."""
        texts = tuple("".join(item.windows[0].tokens) for item in items)
        return Measurement(explanation, texts)

    def read(self, request: Any, response: Response) -> Sequence[float]:
        """The numbers; NaN for a text that could not be measured."""
        if response.text is None:
            raise MalformedAnswerError(response.reason or "the model gave no numbers")
        return [math.nan if value is None else value for value in json.loads(response.text)]

    @property
    def why_missing(self) -> str:
        """Of a text without a number."""
        return "a text holds nothing that can be measured"

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Average precision."""
        return stats.weighted_auprc(weights, truth, answers)

    def chance(self, truth: FloatArray) -> float:
        """The share of active windows."""
        return float(truth.mean())

    def undefined(self, truth: FloatArray) -> str:
        """Active and silent windows are needed."""
        if truth.size and 0 < truth.mean() < 1:
            return ""
        return super().undefined(truth) or "the others are all active or all silent"

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """AUPRC, AUROC, and the mean number of active and of silent windows."""
        truth = plan.truth[places] == 1
        return {
            "auprc": stats.auprc(truth, answers).value,
            "auroc": stats.auroc(truth, answers).value,
            "prevalence": float(truth.mean()),
            "n_negative": int((~truth).sum()),
            "mean_active": float(np.mean(answers[truth])),
            "mean_silent": float(np.mean(answers[~truth])),
        }
