"""Score an explanation by ablating the unit to its simulation (Bills et al. 2023, "ablation").

The unit is replaced, in the subject, by what a simulator predicts from the explanation; calibrated,
so that levels are activations. With JS the Jensen-Shannon divergence between the subject's
predictions with and without the replacement, over the tokens of windows,

    score = 1 - sum of JS(simulation) / sum of JS(mean ablation)

1 where the simulation does what the unit did, 0 where it is no better than the unit's mean, below
where it is worse. Unlike a correlation it counts errors by what they do to the predictions.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp import stats
from autointerp.records import (
    ActivationRecord,
    Score,
    Simulation,
    Split,
    Status,
    Strata,
    UnitRecord,
)
from autointerp.scorers.judged import Problem
from autointerp.scorers.live import FloatArray, Heard, LiveScorer, Outcome, Statistic
from autointerp.scorers.simulation import ScoreJob
from autointerp.simulators.base import SimulationRequest
from autointerp.subject.requests import AblationRequest, Divergences

MIN_EFFECT = 1e-9
"""Nats of mean ablation over a window below which the unit does nothing that could be missed."""


@dataclass(frozen=True)
class AblateToSimulationScorer(LiveScorer):
    """Scores by how well the simulation does the unit's work."""

    kind: ClassVar[str] = "ablate_to_simulation"
    metric: ClassVar[str] = "1 - JS(simulation) / JS(mean)"
    bounds: ClassVar[tuple[float, float]] = (-math.inf, 1.0)
    asks: ClassVar[bool] = False

    n_windows: int = 12
    """Windows of the scored split at most, evenly from the most active to the silent."""

    calibration: str = "linear"
    """How levels become activations, fitted on the `calibrate` windows (`stats`)."""

    def score(self, job: ScoreJob) -> Generator[Sequence[Any], Sequence[Any], Score]:
        """Simulate, calibrate, replace, compare the predictions."""
        problem = self.problem(job, windows=True)
        fit_on = self._windows(job, Split.CALIBRATE, None)
        if problem is None and not fit_on:
            problem = Problem(Status.INSUFFICIENT_DATA, "no calibrate window to fit levels on")
        if problem is not None:
            return self.missing(job, problem)
        windows = self._windows(job, self.split, self.n_windows)
        sequences = tuple(w.tokens for w in (*windows, *fit_on))
        words = [job.explanation.text or "", *(donor.text or "" for donor in job.donors)]
        answers: Sequence[list[Simulation]] = yield [
            SimulationRequest(text, sequences) for text in words
        ]
        mean = mean_activation(job.record)
        arms = [self._activations(found, windows, fit_on, mean) for found in answers]
        if arms[0] is None:
            reason = "the simulator knows no calibrate token"
            return self.missing(job, Problem(Status.FAILED, reason))
        usable = [arm for arm in arms if arm is not None]
        places = tuple(window.window for window in windows)
        request = AblationRequest(job.record.unit, places, mean, tuple(map(tuple, usable)))
        (effect,) = yield [request]
        return self._finished(job, windows, [arm is not None for arm in arms], effect)

    def _windows(self, job: ScoreJob, split: Split, most: int | None) -> list[ActivationRecord]:
        own = [w for w in job.record.of(split) if w.stratum != Strata.RANDOM]
        if most is None or len(own) <= most:
            return own
        places = np.linspace(0, len(own) - 1, most)
        return [own[i] for i in sorted({round(p) for p in places.tolist()})]

    def _activations(
        self,
        found: Sequence[Simulation],
        windows: Sequence[ActivationRecord],
        fit_on: Sequence[ActivationRecord],
        mean: float,
    ) -> list[np.ndarray] | None:
        """Calibrated activations of the windows; the mean where the simulator knows nothing."""
        levels, true = [], []
        for simulation, window in zip(found[len(windows) :], fit_on, strict=True):
            usable = simulation.known & ~window.masked
            levels.append(simulation.expected[usable])
            true.append(window.activations[usable])
        x, y = np.concatenate(levels), np.concatenate(true)
        if not x.size:
            return None
        fitted = stats.fit_calibration(self.calibration, x, y)
        is_constant = fitted is not None and fitted.status == Status.CONSTANT_PREDICTION
        made: list[np.ndarray] = []
        for simulation in found[: len(windows)]:
            # A simulation that never varies predicts the mean at best.
            values = (
                np.full(len(simulation.expected), mean)
                if fitted is None or is_constant
                else fitted(np.where(simulation.known, simulation.expected, 0.0))
            )
            values = np.where(simulation.known, values, mean)
            made.append(np.clip(values, 0, None).astype(np.float32))
        return made

    def _finished(
        self,
        job: ScoreJob,
        windows: Sequence[ActivationRecord],
        usable: Sequence[bool],
        effect: Divergences,
    ) -> Score:
        by_mean = np.asarray(effect.mean_ablation, np.float64)
        if by_mean.sum() <= MIN_EFFECT * len(windows):
            reason = "mean ablation of the unit changes no prediction: there is nothing to restore"
            return self.missing(job, Problem(Status.UNDEFINED_TRUTH, reason))
        rows = iter(np.asarray(row, np.float64) for row in effect.replaced)
        arms = [_restored(next(rows), by_mean) if is_usable else None for is_usable in usable]
        assert arms[0] is not None
        outcome = Outcome(
            own=arms[0],
            donors=arms[1:],
            strata=[w.stratum for w in windows],
            clusters=[w.document_id for w in windows],
            chance=0.0,
            n=len(windows),
            details={
                "js_simulation": float(np.mean(effect.replaced[0])),
                "js_mean_ablation": float(by_mean.mean()),
                "calibration": self.calibration,
            },
        )
        return self.finished(job, outcome, Heard())


def _restored(by_simulation: FloatArray, by_mean: FloatArray) -> Statistic:
    """1 - sum w JS(simulation) / sum w JS(mean); 0 where the weighted windows have no effect."""

    def statistic(weights: FloatArray) -> FloatArray:
        total = weights @ by_mean
        lost = weights @ by_simulation
        return 1 - np.divide(lost, total, out=np.ones_like(total), where=total > 0)

    return statistic


def mean_activation(record: UnitRecord) -> float:
    """Mean activation over all tokens of `explain`, zeros included; of the windows if unknown."""
    statistics = record.statistics.get(Split.EXPLAIN)
    if statistics is not None:
        return float(statistics.moments[0])
    values = [w.activations[~w.masked] for w in record.of(Split.EXPLAIN)]
    return float(np.concatenate(values).mean()) if values else 0.0
