"""What all scorers share that ask about windows or texts: plan, questions, answers, score.

A scorer says what is asked about (`plan`), how (`request`, `read`), and what number comes out of
the answers (`statistic`); the rest is the same for all:

    score = statistic(truth, answers)
    lift  = score(own explanation) - mean over donors of score(donor's explanation)

on the same items in the same groups. An answer that cannot be used leaves its items without one.
Such items are left out of own score and controls alike, together with those they are balanced
against (`Item.bundle`), and counted; nothing is put in their place. Every score's details hold

    metric, chance      which number it is, and what no explanation at all would score
    base_rate           share of positives; of the most frequent right answer where there are others
    n                   items that were scored
    n_unanswered        items without a usable answer under the own explanation
    n_left_out          items left out of score and controls, those included
    reasons             why answers could not be used, three at most
    requests, input_tokens, output_tokens, own_input_tokens, own_output_tokens
                        cost with and without the controls
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autointerp import stats
from autointerp.explainers.windows import distinct, unmasked_maximum
from autointerp.llm import Request, Response
from autointerp.llm.schemas import MalformedAnswerError
from autointerp.records import (
    ActivationRecord,
    ControlScore,
    HardBy,
    Interval,
    Score,
    Split,
    Status,
    Strata,
    UnitRecord,
    derived_seed,
)
from autointerp.scorers.base import AskingScorer
from autointerp.scorers.prompts import read_answers
from autointerp.scorers.simulation import ScoreJob

MIN_KNOWN_SHARE = 0.5
"""A donor must have answers for this share of the items that the own explanation has."""

SILENT_SHARE = 0.01
"""A window is silent up to this share of the unit's maximum in `explain` (`recording.design`)."""

_ROUNDING = 1e-3
"""Activations are stored with so little error, relative to the value."""

NEGATIVES = ("silent", "hard", "near")
"""Kinds of negatives: silent by chance; hard by a top token or the unit's neighbour; near: beside
an active window in the same sequence."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Why there is nothing to ask."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Item:
    """One thing that is asked about."""

    windows: tuple[ActivationRecord, ...]
    """What it is made of; the first gives its stratum and document."""

    truth: float
    """The right answer: 1 or 0, or the number of the right choice."""

    kind: str = ""
    """What sort of item it is, for counts and metrics by kind."""

    bundle: int = -1
    """Items of one bundle are scored together or not at all, so that what they balance (order,
    text) stays balanced; -1 for an item by itself."""

    payload: Any = None
    """What else the question needs, such as which tokens are marked."""

    weight: float = 1.0
    """How many items of the corpus it stands for; all alike where the score is of the sample."""


@dataclass(frozen=True)
class Plan:
    """What is asked about one unit, the same for own explanation and donors."""

    items: tuple[Item, ...]
    groups: tuple[tuple[int, ...], ...]
    """Places of the items in each question; every item is in one group."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the score's details."""

    @property
    def truth(self) -> FloatArray:
        """[n_items] right answers."""
        return np.array([item.truth for item in self.items], np.float64)


@dataclass(frozen=True)
class Arm:
    """One explanation, or what stands in for one, and its questions."""

    requests: Sequence[Request]
    """One per group of the plan; none for a control that is not asked about."""

    control: ControlScore | None = None
    """What it is a control by; `None` for the own explanation."""


@dataclass(frozen=True)
class Heard:
    """What an arm's answers say."""

    answers: FloatArray
    """[n_items]; NaN where there is no usable answer."""

    reasons: tuple[str, ...]
    """Why not."""


@dataclass(frozen=True)
class Sampled:
    """A unit's windows of the scored split, each checked against its activations."""

    active: tuple[ActivationRecord, ...]
    """Most active stratum first."""

    negatives: Mapping[str, tuple[ActivationRecord, ...]]
    """Silent windows by kind (`NEGATIVES`)."""

    n_contradicted: int
    """Windows left out because their activations contradict their stratum."""

    def silent(self, kinds: Sequence[str]) -> tuple[ActivationRecord, ...]:
        """The negatives of some kinds; hard ones where near ones are wanted and none recorded."""
        wanted = list(kinds)
        if "near" in wanted and "hard" not in wanted and not self.negatives["near"]:
            wanted.append("hard")
        return tuple(w for kind in NEGATIVES if kind in wanted for w in self.negatives[kind])


def sampled_windows(record: UnitRecord, split: Split) -> Sampled:
    """The windows of a split's partition (`random` is left out), checked.

    Active ones hold an unmasked activation above the silent bound, negatives hold none: recorded
    elsewhere, a stratum may be wrong.
    """
    bound = SILENT_SHARE * record.explain_maximum()
    active: list[ActivationRecord] = []
    negatives: dict[str, list[ActivationRecord]] = {kind: [] for kind in NEGATIVES}
    n_contradicted = 0
    for window in distinct(record.of(split)):
        if window.stratum == Strata.RANDOM or window.masked.all():
            continue
        maximum = unmasked_maximum(window)
        if Strata.is_active(window.stratum) and maximum > bound * (1 - _ROUNDING):
            active.append(window)
        elif not Strata.is_active(window.stratum) and maximum <= bound * (1 + _ROUNDING):
            negatives[kind_of(window)].append(window)
        else:
            n_contradicted += 1
    found = {kind: tuple(windows) for kind, windows in negatives.items()}
    return Sampled(tuple(active), found, n_contradicted)


def kind_of(window: ActivationRecord) -> str:
    """What kind of negative a silent window is."""
    if window.stratum != Strata.HARD:
        return "silent"
    return "near" if window.hard_by is HardBy.BESIDE else "hard"


def grouped(n: int, size: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Places 0 to n - 1, shuffled and cut into groups, so that a group's make-up says nothing."""
    order = [int(place) for place in generator.permutation(n)]
    return [tuple(order[i : i + size]) for i in range(0, n, size)]


def two_passes(n: int, size: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Groups of 2n items, of which 2k and 2k + 1 are two versions of one thing.

    The first pass has one version of everything, by a coin's toss, the second the other: no group
    has both, so that none says what the other must be.
    """
    first = generator.integers(0, 2, n)
    return [
        tuple(2 * place + int(version[place]) for place in group)
        for version in (first, 1 - first)
        for group in grouped(n, size, generator)
    ]


@dataclass(frozen=True)
class Judging(AskingScorer):
    """A scorer that asks about the `test` windows of a unit; see the module's docstring.

    Subclasses set the class variables and implement `plan`, `request`, `statistic` and `chance`.
    """

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """What is asked about: items and groups, or why there is nothing to ask."""
        raise NotImplementedError

    def request(self, explanation: str, items: Sequence[Item]) -> Request:
        """The question about a group of items."""
        raise NotImplementedError

    def read(self, request: Request, response: Response) -> Sequence[float]:
        """The answers of one group, in the order of its items; NaN for one that cannot be used.

        Raises:
            MalformedAnswerError: where none of them can be used.
        """
        return [float(value) for value in read_answers(request, response)]

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """[n_replicates] the score under weights [n_replicates, n_items] of the items."""
        raise NotImplementedError

    def chance(self, truth: FloatArray) -> float:
        """What no explanation at all would score."""
        raise NotImplementedError

    def base_rate(self, truth: FloatArray) -> float | None:
        """Share of positives; of the most frequent right answer where there are others."""
        return float(truth.mean())

    def strata(self, items: Sequence[Item]) -> Sequence[Any]:
        """[n_items] the stratum of each, neighbouring ones adjacent."""
        return [item.windows[0].stratum for item in items]

    def clusters(self, items: Sequence[Item]) -> Sequence[Any]:
        """[n_items] what items are not independent within: documents."""
        return [item.windows[0].document_id for item in items]

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """Further numbers for the details, of the items at `places` of the plan."""
        return {}

    def undefined(self, truth: FloatArray) -> str:
        """Why some items have no score, in words; nothing where they have one."""
        return "" if truth.size else "no item has a usable answer"

    def arms(self, job: ScoreJob, plan: Plan) -> list[Arm]:
        """The own explanation's questions, then the controls'."""
        own = job.explanation.text or ""
        donors = [
            (donor.text or "", ControlScore("shuffled", None, Status.FAILED, donor.unit, donor.key))
            for donor in job.donors
        ]
        return [
            Arm(
                [self.request(text, [plan.items[i] for i in group]) for group in plan.groups],
                control,
            )
            for text, control in [(own, None), *donors]
        ]

    def interval(
        self, job: ScoreJob, items: Sequence[Item], truth: FloatArray, answers: FloatArray
    ) -> Interval | None:
        """Interval of the score: documents are resampled within strata (Rao-Wu)."""
        return self.bootstrap(
            job, items, lambda w: self.statistic(w, truth, answers), bounds=self.bounds
        )

    def windows(self, job: ScoreJob) -> Sampled:
        """The unit's windows of the scored split."""
        return sampled_windows(job.record, self.split)

    def score(self, job: ScoreJob) -> Generator[Sequence[Request], Sequence[Response], Score]:
        """Ask all that is planned under the own and the donors' explanations; return the score."""
        windows = self.windows(job)
        plan = self._problem(job, windows) or self.plan(job, windows)
        if isinstance(plan, Problem):
            shown = (*windows.active, *windows.silent(NEGATIVES))
            return Score(
                **self._facts(job, shown), value=None, status=plan.status, reason=plan.reason
            )
        arms = self.arms(job, plan)
        answers = yield [request for arm in arms for request in arm.requests]
        return self._score(job, plan, arms, answers)

    def bootstrap(
        self, job: ScoreJob, items: Sequence[Item], statistic: Any, bounds: tuple[float, float]
    ) -> Interval | None:
        """Interval of a statistic of weighted items over documents within strata."""
        found = stats.stratified_bootstrap(
            statistic,
            self.strata(items),
            self.clusters(items),
            weights=_weights(items),
            bounds=bounds,
            n_replicates=self.n_replicates,
            seed=derived_seed(self.seed, "bootstrap", job.record.unit),
        )
        return None if found is None else plain_interval(found)

    def _problem(self, job: ScoreJob, windows: Sampled) -> Problem | None:
        if self.reads_explanation and (
            job.explanation.status != Status.OK or job.explanation.text is None
        ):
            return Problem(job.explanation.status, job.explanation.reason)
        n_active = len({window.document_id for window in windows.active})
        if n_active < self.min_active_documents:
            return Problem(
                Status.INSUFFICIENT_DATA,
                f"active in {n_active} sampled {self.split} documents, "
                f"{self.min_active_documents} needed",
            )
        return None

    def _facts(self, job: ScoreJob, windows: Sequence[ActivationRecord]) -> dict[str, Any]:
        windows = distinct(windows)
        active = {w.document_id for w in windows if Strata.is_active(w.stratum)}
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
            "n_active_documents": len(active),
            "n_tokens": sum(int((~w.masked).sum()) for w in windows),
        }

    def _score(
        self, job: ScoreJob, plan: Plan, arms: Sequence[Arm], answers: Sequence[Response]
    ) -> Score:
        heard = self.heard(plan, arms, answers)
        known = [~np.isnan(one.answers) for one in heard]
        usable = [
            int((k & known[0]).sum()) >= MIN_KNOWN_SHARE * max(1, int(known[0].sum()))
            for k in known[1:]
        ]
        kept = [known[0], *(k for k, is_usable in zip(known[1:], usable, strict=True) if is_usable)]
        places = _whole_bundles(plan, np.logical_and.reduce(kept))
        items = [plan.items[place] for place in places]
        truth = plan.truth[places]
        base = self._facts(job, [window for item in plan.items for window in item.windows])
        details = self._details(plan, places, heard[0], known[0], arms, answers)
        undefined = self.undefined(truth)
        if undefined:
            reasons = details["reasons"]
            reason = (
                f"{details['n_left_out']} of {len(plan.items)} items have no usable answer: "
                f"{undefined}; the first reason: {reasons[0] if reasons else 'unknown'}"
            )
            return Score(**base, value=None, status=Status.FAILED, reason=reason, details=details)
        own = heard[0].answers[places]
        value = self._value(items, truth, own)
        donors = [h.answers[places] if u else None for h, u in zip(heard[1:], usable, strict=True)]
        controls = tuple(
            self._control(arm, items, truth, one) for arm, one in zip(arms[1:], donors, strict=True)
        )
        values = [control.value for control in controls if control.value is not None]
        others = [one for one in donors if one is not None]
        is_constant = bool((own == own[0]).all())
        control_mean = float(np.mean(values)) if values else None
        return Score(
            **base,
            value=value,
            status=Status.CONSTANT_PREDICTION if is_constant else Status.OK,
            interval=self.interval(job, items, truth, own),
            controls=controls,
            control_mean=control_mean,
            lift=None if control_mean is None else value - control_mean,
            lift_interval=self._lift_interval(job, items, truth, own, others),
            reason="the judge gave the same answer to everything" if is_constant else "",
            details={**details, **self.metrics(plan, places, own)},
        )

    def _details(
        self,
        plan: Plan,
        places: Sequence[int],
        own: Heard,
        known: npt.NDArray[np.bool_],
        arms: Sequence[Arm],
        answers: Sequence[Response],
    ) -> dict[str, Any]:
        truth = plan.truth[places]
        spent = [answer.usage for answer in answers]
        n_own = len(arms[0].requests)
        is_scored = not self.undefined(truth)
        reasons = own.reasons or tuple(
            answer.reason for answer in answers if answer.reason and answer.text is None
        )
        return {
            "metric": self.metric,
            "chance": self.chance(truth) if is_scored else None,
            "base_rate": self.base_rate(truth) if is_scored else None,
            "n": len(places),
            "n_unanswered": int((~known).sum()),
            "n_left_out": len(plan.items) - len(places),
            "reasons": sorted(set(reasons))[:3],
            **plan.facts,
            "requests": len(answers),
            "input_tokens": sum(usage.input_tokens for usage in spent),
            "output_tokens": sum(usage.output_tokens for usage in spent),
            "own_input_tokens": sum(usage.input_tokens for usage in spent[:n_own]),
            "own_output_tokens": sum(usage.output_tokens for usage in spent[:n_own]),
        }

    def heard(self, plan: Plan, arms: Sequence[Arm], answers: Sequence[Response]) -> list[Heard]:
        """What every arm's answers say."""
        heard: list[Heard] = []
        found = iter(answers)
        for arm in arms:
            values, reasons = np.full(len(plan.items), np.nan), list[str]()
            groups = plan.groups if arm.requests else ()
            for group, request in zip(groups, arm.requests, strict=True):
                try:
                    values[list(group)] = self.read(request, next(found))
                except MalformedAnswerError as error:
                    reasons.append(str(error))
                    continue
                if np.isnan(values[list(group)]).any():
                    reasons.append(self.why_missing)
            heard.append(Heard(values, tuple(reasons)))
        return heard

    @property
    def why_missing(self) -> str:
        """Why one answer among others could not be used."""
        return "an answer could not be used"

    def _value(self, items: Sequence[Item], truth: FloatArray, answers: FloatArray) -> float:
        return float(self.statistic(_weights(items)[None, :], truth, answers)[0])

    def _control(
        self, arm: Arm, items: Sequence[Item], truth: FloatArray, answers: FloatArray | None
    ) -> ControlScore:
        assert arm.control is not None
        if answers is None:
            return arm.control
        is_constant = bool((answers == answers[0]).all())
        status = Status.CONSTANT_PREDICTION if is_constant else Status.OK
        return replace(arm.control, value=self._value(items, truth, answers), status=status)

    def _lift_interval(
        self,
        job: ScoreJob,
        items: Sequence[Item],
        truth: FloatArray,
        own: FloatArray,
        others: Sequence[FloatArray],
    ) -> Interval | None:
        """Interval of the paired difference to the controls."""
        if not others:
            return None

        def lift(weights: FloatArray) -> FloatArray:
            mean = np.mean([self.statistic(weights, truth, one) for one in others], axis=0)
            return self.statistic(weights, truth, own) - mean

        low, high = self.bounds
        return self.bootstrap(job, items, lift, bounds=(low - high, high - low))


def _weights(items: Sequence[Item]) -> FloatArray:
    """[n_items] design weights."""
    return np.array([item.weight for item in items], np.float64)


def _whole_bundles(plan: Plan, kept: npt.NDArray[np.bool_]) -> list[int]:
    """Places of the items that are kept, of bundles that are kept as a whole."""
    broken = {item.bundle for item, keep in zip(plan.items, kept, strict=True) if not keep} - {-1}
    return [
        place
        for place, (item, keep) in enumerate(zip(plan.items, kept, strict=True))
        if keep and item.bundle not in broken
    ]


def plain_interval(interval: Interval) -> Interval:
    """The interval in numbers that JSON knows."""
    low, high = float(interval.low), float(interval.high)
    return Interval(low, high, float(interval.level), interval.method)
