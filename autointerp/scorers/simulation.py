"""Score an explanation by simulation (Bills et al. 2023), with its shuffled control.

    score = pearson(true activations, simulated levels), all tokens of all windows pooled
    lift  = score(own explanation) - mean over donors of score(donor's explanation)

on the same windows of the same unit. The second is the headline: a unit has a score of its own
that any explanation would get, and only what is above it is due to the words.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from autointerp import stats
from autointerp.explainers.windows import distinct
from autointerp.records import (
    ActivationRecord,
    ControlScore,
    Explanation,
    Interval,
    Score,
    Simulation,
    Split,
    Status,
    Strata,
    UnitRecord,
    content_key,
    derived_seed,
)
from autointerp.simulators import SimulationRequest
from autointerp.stats.estimate import is_constant

VERSION = 3
"""Raise when the same simulations give another score, or its controls other numbers."""

MIN_KNOWN_SHARE = 0.5
"""A donor must know this share of the tokens that the own simulation knows. Tokens are scored only
where all are known, so one donor that the simulator cannot read would leave nothing of a score."""

IMPORTED_DESIGN = "imported"
"""Name of the design of windows that were chosen elsewhere: their probabilities are unknown."""


@dataclass(frozen=True)
class ScoreJob:
    """One explanation of one unit, and the explanations of other units to compare it with."""

    record: UnitRecord
    explanation: Explanation
    donors: tuple[Explanation, ...]
    """Explanations of other units, status ok; rate-matched, no near copies."""

    simulator: str
    """Name of the simulator that will answer."""

    simulator_fingerprint: str
    key: str
    others: tuple[UnitRecord, ...] = ()
    """Records of the donors' units, for scorers that need windows to compare with."""


@dataclass(frozen=True)
class SimulationScorer:
    """Scores by simulation on `test` windows; those of the partition, without `sample`."""

    design: str
    """Name of the sampling design the windows came from."""

    min_active_documents: int = 4
    n_replicates: int = 1000
    seed: int = 0
    split: Split = Split.TEST
    name: str = "simulation"
    calibration: str = "none"
    """`none`, `linear`, `percentile` or `isotonic`: how levels become activations."""

    sample: Literal["partition", "top_and_random"] = "partition"
    """Which windows are scored: those of all strata but `random`, or those of `top` and `random`
    alone, as in Bills et al. (2023)."""

    def windows(
        self, record: UnitRecord, split: Split | None = None
    ) -> tuple[ActivationRecord, ...]:
        """The windows of the scored split, or of another, neighbouring strata adjacent."""
        found = record.of(split or self.split)
        if self.sample == "partition":
            return tuple(r for r in found if r.stratum != Strata.RANDOM)
        # A random window may be one of the top ones, too.
        chosen = distinct([r for r in found if r.stratum in (Strata.TOP, Strata.RANDOM)])
        return tuple(sorted(chosen, key=lambda r: r.stratum != Strata.TOP))

    def identity(self) -> dict[str, Any]:
        """What a score depends on besides its inputs."""
        settings = dict(vars(self))
        if self.sample == "partition":  # scores have the keys that they had before there was it
            del settings["sample"]
        return settings

    def score(
        self, job: ScoreJob
    ) -> Generator[Sequence[SimulationRequest], Sequence[list[Simulation]], Score]:
        """Ask for the simulations under the own and the donors' explanations; return the score."""
        windows = self.windows(job.record)
        active = {w.document_id for w in windows if Strata.is_active(w.stratum)}
        facts = _Facts(
            n_windows=len(windows),
            n_documents=len({w.document_id for w in windows}),
            n_active_documents=len(active),
        )
        if job.explanation.status != Status.OK or job.explanation.text is None:
            return self._missing(job, facts, job.explanation.status, job.explanation.reason)
        if len(active) < self.min_active_documents:
            return self._missing(
                job,
                facts,
                Status.INSUFFICIENT_DATA,
                f"active in {len(active)} sampled {self.split} documents, "
                f"{self.min_active_documents} needed",
            )
        asked = self.requests(job)
        answers = yield [*asked, *self._calibration_requests(job)]
        score = self._score(job, facts, windows, answers[0], list(answers[1 : len(asked)]))
        return replace(
            score,
            details={**score.details, **self._calibrated(job, answers[0], answers[len(asked) :])},
        )

    def requests(self, job: ScoreJob) -> list[SimulationRequest]:
        """What the score needs: the own explanation first, then the donors' in order."""
        sequences = tuple(window.tokens for window in self.windows(job.record))
        texts = [job.explanation.text, *(donor.text for donor in job.donors)]
        return [SimulationRequest(text or "", sequences) for text in texts]

    def _calibration_requests(self, job: ScoreJob) -> list[SimulationRequest]:
        """The own explanation on the windows that calibration is fitted on, if there are any."""
        windows = self.windows(job.record, Split.CALIBRATE)
        if self.calibration == "none" or not windows:
            return []
        return [SimulationRequest(job.explanation.text or "", tuple(w.tokens for w in windows))]

    def _calibrated(
        self, job: ScoreJob, own: list[Simulation], fitted_on: Sequence[list[Simulation]]
    ) -> dict[str, float | str | int | None]:
        """Scores in activation units, after a calibration on `calibrate`; nothing without one."""
        if self.calibration == "none":
            return {}
        found: dict[str, float | str | int | None] = {
            "calibration": self.calibration,
            "calibration_status": str(Status.INSUFFICIENT_DATA),
            "n_calibration_tokens": 0,
            "calibrated_correlation": None,
            "calibrated_rsquared_score": None,
            "calibrated_absolute_dev_explained_score": None,
        }
        windows = self.windows(job.record, Split.CALIBRATE)
        if not fitted_on:
            return found
        true, levels = _known_pairs(windows, fitted_on[0])
        fit = stats.fit_calibration(self.calibration, levels, true)
        if fit is None:
            return found
        test_true, test_levels = _known_pairs(self.windows(job.record), own)
        result = stats.score_simulation([test_true], [fit(test_levels)])
        return found | {
            "calibration_status": str(fit.status),
            "n_calibration_tokens": len(levels),
            "calibrated_correlation": result.ev_correlation_score,
            "calibrated_rsquared_score": result.rsquared_score,
            "calibrated_absolute_dev_explained_score": result.absolute_dev_explained_score,
        }

    def _missing(self, job: ScoreJob, facts: "_Facts", status: Status, reason: str) -> Score:
        return Score(
            **self._identity(job),
            value=None,
            status=status,
            reason=reason,
            n_windows=facts.n_windows,
            n_documents=facts.n_documents,
            n_active_documents=facts.n_active_documents,
        )

    def _identity(self, job: ScoreJob) -> dict:
        return {
            "unit": job.record.unit,
            "explanation_key": job.explanation.key,
            "explainer": job.explanation.explainer,
            "scorer": self.name,
            "simulator": job.simulator,
            "key": job.key,
            "split": self.split,
            "design": self.design,
        }

    def _score(
        self,
        job: ScoreJob,
        facts: "_Facts",
        windows: tuple[ActivationRecord, ...],
        own: list[Simulation],
        donors: list[list[Simulation]],
    ) -> Score:
        # One set of tokens for all: what the own simulation or any usable donor's does not know is
        # left out of every score, so that own and control are compared on the same tokens.
        usable = [_knows_enough(windows, own, parts) for parts in donors]
        read = [own, *(parts for parts, is_usable in zip(donors, usable, strict=True) if is_usable)]
        kept = [
            ~window.masked & np.logical_and.reduce([part[i].known for part in read])
            for i, window in enumerate(windows)
        ]
        n_unknown = sum(int((~w.masked & ~k).sum()) for w, k in zip(windows, kept, strict=True))
        used = [i for i, keep in enumerate(kept) if keep.any()]
        true = [windows[i].activations[kept[i]].astype(np.float64) for i in used]

        def predicted(parts: list[Simulation]) -> list[np.ndarray]:
            return [parts[i].expected[kept[i]].astype(np.float64) for i in used]

        expected = predicted(own)
        others = [predicted(parts) for parts in read[1:]]
        strata = [windows[i].stratum for i in used]
        clusters = [windows[i].document_id for i in used]
        weights = [1.0 / windows[i].probability for i in used]
        result = stats.score_simulation(true, expected)
        predictions = iter(others)
        controls = tuple(
            _control(true, next(predictions), donor) if is_usable else _unread_control(donor)
            for donor, is_usable in zip(job.donors, usable, strict=True)
        )
        seed = derived_seed(self.seed, "bootstrap", job.record.unit)
        options = {"n_replicates": self.n_replicates, "seed": seed}
        interval = lift_interval = control_mean = lift = None
        if result.status != Status.UNDEFINED_TRUTH:
            interval = stats.bootstrap_pooled_pearson(true, expected, strata, clusters, **options)
        if others and result.status != Status.UNDEFINED_TRUTH:
            counted = [_counted(c.value, c.status) for c in controls if c.status != Status.FAILED]
            control_mean = float(np.mean(counted))
            lift = _counted(result.ev_correlation_score, result.status) - control_mean
            lift_interval = stats.bootstrap_lift(
                true, expected, others, strata, clusters, **options
            )
        value, status = result.ev_correlation_score, result.status
        reason = _reason(status)
        if status == Status.UNDEFINED_TRUTH and not _is_constant(windows):
            # Not the unit's doing: with every token known there would be a score.
            status = Status.FAILED
            reason = (
                f"the simulator put too little mass on levels on {n_unknown} tokens; on the "
                f"{sum(len(t) for t in true)} others the true activations do not vary"
            )
        # Windows recorded elsewhere come without inclusion probabilities; top and random windows
        # overlap in what they stand for.
        population = (
            stats.Estimate(None, Status.NOT_RUN)
            if self.design == IMPORTED_DESIGN or self.sample != "partition"
            else stats.pooled_pearson(true, expected, weights=weights)
        )
        spearman = stats.pooled_spearman(true, expected)
        intensity = stats.pooled_spearman(true, expected, active_only=True)
        return Score(
            **self._identity(job),
            value=value,
            status=status,
            interval=_plain(interval),
            controls=controls,
            control_mean=control_mean,
            lift=lift,
            lift_interval=_plain(lift_interval),
            n_tokens=sum(len(t) for t in true),
            n_windows=facts.n_windows,
            n_documents=facts.n_documents,
            n_active_documents=facts.n_active_documents,
            n_unknown_tokens=n_unknown,
            reason=reason,
            details={
                "rsquared_score": result.rsquared_score,
                "absolute_dev_explained_score": result.absolute_dev_explained_score,
                "population_correlation": population.value,
                "population_correlation_status": str(population.status),
                "spearman": spearman.value,
                "spearman_status": str(spearman.status),
                "intensity_spearman": intensity.value,
                "intensity_spearman_status": str(intensity.status),
                "mean_level_mass": float(
                    np.mean(np.concatenate([part.level_mass for part in own]))
                ),
                "simulation_key": simulation_key(self.requests(job)[0], job.simulator_fingerprint),
            },
        )


@dataclass(frozen=True)
class _Facts:
    n_windows: int
    n_documents: int
    n_active_documents: int


def simulation_key(request: SimulationRequest, simulator_fingerprint: str) -> str:
    """Key of the answer to a request: depends on the texts read and on who reads, nothing else."""
    return content_key(
        "simulation",
        explanation=request.explanation,
        simulator=simulator_fingerprint,
        sequences=request.sequences,
    )


def _control(true: list, expected: list, donor: Explanation) -> ControlScore:
    found = stats.pooled_pearson(true, expected)
    return ControlScore("shuffled", found.value, found.status, donor.unit, donor.key)


def _unread_control(donor: Explanation) -> ControlScore:
    """A donor whose simulation knows too little: left out of the control's mean, and counted."""
    return ControlScore("shuffled", None, Status.FAILED, donor.unit, donor.key)


def _knows_enough(
    windows: Sequence[ActivationRecord], own: list[Simulation], donor: list[Simulation]
) -> bool:
    """Whether a donor's simulation knows `MIN_KNOWN_SHARE` of what the own one knows."""
    known = [~w.masked & part.known for w, part in zip(windows, own, strict=True)]
    n_known = sum(int(mask.sum()) for mask in known)
    n_both = sum(int((m & part.known).sum()) for m, part in zip(known, donor, strict=True))
    return n_both >= MIN_KNOWN_SHARE * n_known


def _known_pairs(
    windows: Sequence[ActivationRecord], simulations: list[Simulation]
) -> tuple[np.ndarray, np.ndarray]:
    """True activations and predicted levels [n] of all tokens that are known and not masked."""
    pairs = [
        (w.activations[keep], part.expected[keep])
        for w, part in zip(windows, simulations, strict=True)
        for keep in [~w.masked & part.known]
    ]
    true, levels = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    return true.astype(np.float64), levels.astype(np.float64)


def _is_constant(windows: Sequence[ActivationRecord]) -> bool:
    """Whether the true activations are the same on all unmasked tokens, up to rounding."""
    true = np.concatenate([window.activations[~window.masked] for window in windows])
    return is_constant(true.astype(np.float64))


def _counted(value: float | None, status: Status) -> float:
    """A constant prediction counts 0; an undefined truth never gets here."""
    return 0.0 if value is None or status == Status.CONSTANT_PREDICTION else value


def _plain(interval: Interval | None) -> Interval | None:
    if interval is None:
        return None
    low, high = float(interval.low), float(interval.high)
    return Interval(low, high, float(interval.level), interval.method)


def _reason(status: Status) -> str:
    return {
        Status.UNDEFINED_TRUTH: "the true activations are constant on the scored tokens",
        Status.CONSTANT_PREDICTION: "the simulator predicted the same level on every token",
    }.get(status, "")
