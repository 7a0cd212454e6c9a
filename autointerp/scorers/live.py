"""What scorers share that touch the live subject: missing scores, intervals, controls, facts.

A scorer gathers numbers under the own explanation and under those of other units (donors), on the
same unit, and hands over functions of item weights; the rest is the same for all:

    lift = value(own explanation) - mean over donors of value(donor's explanation)

Every score's details hold the names that `scorers.judged` explains: metric, chance, n, reasons,
requests, input_tokens, output_tokens.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from autointerp import stats
from autointerp.llm import Request, Response
from autointerp.llm.schemas import MalformedAnswerError
from autointerp.records import (
    ActivationRecord,
    ControlScore,
    Explanation,
    Interval,
    Score,
    Status,
    Strata,
    derived_seed,
)
from autointerp.scorers.base import AskingScorer
from autointerp.scorers.judged import Problem, plain_interval
from autointerp.scorers.prompts import read_answers
from autointerp.scorers.simulation import ScoreJob

FloatArray = npt.NDArray[np.float64]

Statistic = Callable[[FloatArray], FloatArray]
"""From item weights [n_replicates, n_items] to values [n_replicates], all finite."""


@dataclass(frozen=True)
class Outcome:
    """What was found under the own explanation and the donors'."""

    own: Statistic
    donors: Sequence[Statistic | None]
    """One per donor; `None` where it has no usable answers."""

    strata: Sequence[Hashable]
    """[n_items], neighbouring ones adjacent."""

    clusters: Sequence[Hashable]
    """[n_items] what items are not independent within."""

    chance: float | None
    """What an explanation without content scores."""

    n: int
    """Items under the own explanation."""

    right: tuple[int, int] | None = None
    """Right answers and all answers, where the score is their share: its interval is exact."""

    is_constant: bool = False
    """Whether the own explanation gave the same everywhere."""

    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class Heard:
    """What a language model was asked and answered, for the costs."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reasons: list[str] = field(default_factory=list[str])

    def read(self, request: Request, response: Response) -> list[Any]:
        """The values of an answer; none, and the reason noted, where it cannot be used."""
        self.requests += 1
        self.input_tokens += response.usage.input_tokens
        self.output_tokens += response.usage.output_tokens
        try:
            return read_answers(request, response)
        except MalformedAnswerError as error:
            self.reasons.append(str(error))
            return []


@dataclass(frozen=True)
class LiveScorer(AskingScorer):
    """A scorer that touches the live subject; subclasses implement `score`."""

    touches_subject: ClassVar[bool] = True

    def active(self, job: ScoreJob) -> list[ActivationRecord]:
        """The active windows of the scored split, most active stratum first."""
        own = job.record.of(self.split)
        return [w for w in own if Strata.is_active(w.stratum) and not w.masked.all()]

    def problem(self, job: ScoreJob, *, windows: bool = False) -> Problem | None:
        """Why there is nothing to do.

        Args:
            windows: whether active windows of the split are needed.
        """
        if self.reads_explanation and (
            job.explanation.status != Status.OK or not job.explanation.text
        ):
            return Problem(job.explanation.status, job.explanation.reason)
        if job.record.explain_maximum() <= 0:
            return Problem(Status.DEAD, "the unit never fired in the explain split")
        n = len({w.document_id for w in self.active(job)})
        if windows and n < self.min_active_documents:
            return Problem(
                Status.INSUFFICIENT_DATA,
                f"active in {n} sampled {self.split} documents, {self.min_active_documents} needed",
            )
        return None

    def missing(self, job: ScoreJob, problem: Problem, heard: Heard | None = None) -> Score:
        """A score that is not there, and why."""
        return Score(
            **self._facts(job),
            value=None,
            status=problem.status,
            reason=problem.reason,
            details={"metric": self.metric, **_costs(heard or Heard())},
        )

    def finished(self, job: ScoreJob, outcome: Outcome, heard: Heard) -> Score:
        """The score of what was found."""
        one = np.ones((1, len(outcome.strata)))
        value = float(outcome.own(one)[0])
        usable = [donor for donor in outcome.donors if donor is not None]
        controls = tuple(
            _control(explanation, None if donor is None else float(donor(one)[0]))
            for explanation, donor in zip(job.donors, outcome.donors, strict=True)
        )
        mean = float(np.mean([donor(one)[0] for donor in usable])) if usable else None
        low, high = self.bounds

        def lift(weights: FloatArray) -> FloatArray:
            return outcome.own(weights) - np.mean([donor(weights) for donor in usable], axis=0)

        return Score(
            **self._facts(job),
            value=value,
            status=Status.CONSTANT_PREDICTION if outcome.is_constant else Status.OK,
            interval=self._own_interval(job, outcome),
            controls=controls,
            control_mean=mean,
            lift=None if mean is None else value - mean,
            lift_interval=(
                self._interval(job, outcome, lift, (low - high, high - low)) if usable else None
            ),
            details={
                "metric": self.metric,
                "chance": outcome.chance,
                "n": outcome.n,
                **_costs(heard),
                **outcome.details,
            },
        )

    def _own_interval(self, job: ScoreJob, outcome: Outcome) -> Interval | None:
        if outcome.right is None:
            return self._interval(job, outcome, outcome.own, self.bounds)
        exact = stats.exact_binomial(*outcome.right).interval
        return None if exact is None else plain_interval(exact)

    def _interval(
        self, job: ScoreJob, outcome: Outcome, statistic: Statistic, bounds: tuple[float, float]
    ) -> Interval | None:
        found = stats.stratified_bootstrap(
            statistic,
            outcome.strata,
            outcome.clusters,
            bounds=bounds,
            n_replicates=self.n_replicates,
            seed=derived_seed(self.seed, "bootstrap", job.record.unit),
        )
        return None if found is None else plain_interval(found)

    def _facts(self, job: ScoreJob) -> dict[str, Any]:
        windows = job.record.of(self.split)
        return {
            "unit": job.record.unit,
            "explanation_key": job.explanation.key if self.reads_explanation else "",
            "explainer": job.explanation.explainer if self.reads_explanation else "",
            "scorer": self.name,
            "simulator": job.simulator,
            "key": job.key,
            "split": self.split,
            "design": self.design,
            "n_windows": len(windows),
            "n_documents": len({w.document_id for w in windows}),
            "n_active_documents": len({w.document_id for w in self.active(job)}),
        }


def _costs(heard: Heard) -> dict[str, Any]:
    return {
        "requests": heard.requests,
        "input_tokens": heard.input_tokens,
        "output_tokens": heard.output_tokens,
        "reasons": sorted(set(heard.reasons))[:3],
    }


def _control(donor: Explanation, value: float | None) -> ControlScore:
    status = Status.FAILED if value is None else Status.OK
    return ControlScore("shuffled", value, status, donor.unit, donor.key)


def gini(values: npt.ArrayLike, own: npt.ArrayLike, others: npt.ArrayLike) -> Statistic:
    """2 AUC - 1 of some items against others, signed: from -1 to 1, 0 for no difference.

    sum over pairs of w_i w_j sign(v_i - v_j) / sum over pairs of w_i w_j

    Args:
        values: [n_items].
        own: [n_items] bool: the items that should have the larger values.
        others: [n_items] bool.

    Returns:
        A function of item weights; 0 where one side has no weight.
    """
    v = np.asarray(values, np.float64)
    mine, theirs = np.asarray(own, bool), np.asarray(others, bool)
    signs = np.sign(v[mine][:, None] - v[theirs][None, :])

    def statistic(weights: FloatArray) -> FloatArray:
        a, b = weights[:, mine], weights[:, theirs]
        total = a.sum(1) * b.sum(1)
        won = ((a @ signs) * b).sum(1)
        return np.divide(won, total, out=np.zeros_like(won), where=total > 0)

    return statistic


def share(values: npt.ArrayLike, own: npt.ArrayLike) -> Statistic:
    """Weighted mean of some items' values; 0 where none has weight."""
    v, mine = np.asarray(values, np.float64), np.asarray(own, bool)

    def statistic(weights: FloatArray) -> FloatArray:
        w = weights[:, mine]
        total = w.sum(1)
        return np.divide(w @ v[mine], total, out=np.zeros_like(total), where=total > 0)

    return statistic
