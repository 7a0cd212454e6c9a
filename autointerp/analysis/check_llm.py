"""Is this language model fit to judge explanations by detection? Known answers say so.

For every planted unit the model is asked which windows fit the true explanation, a broader, a
narrower and an unrelated one, in the prompt of the scorer `detection`. An explanation's score is
Youden's J over the windows,

    J = P(yes | the unit is active) - P(yes | it is silent)

1 for an oracle under the true explanation, 0 for a judge that always says the same, negative for
one that says the opposite. What is left unanswered counts half a yes: it tells nothing apart.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from autointerp.analysis.check_judge import MIN_GROUP, JudgedUnit, JudgeGroup, group_of, verdict_of
from autointerp.analysis.known_answers import GROUPS, TEXTS, KnownAnswer
from autointerp.analysis.rating_calibration import record_of
from autointerp.llm import CachedClient, LlmClient, Request, Response, ResponseStatus, drive
from autointerp.llm.capabilities import check_needs
from autointerp.llm.prices import Price
from autointerp.llm.repair import problem_with
from autointerp.llm.schemas import MalformedAnswerError
from autointerp.records import AutointerpError, Explanation, Status, UsageError
from autointerp.scorers import DetectionScorer
from autointerp.scorers.judged import Plan, Problem
from autointerp.scorers.simulation import ScoreJob
from autointerp.stats.agreement import weighted_kappa

SILENT = 0.1
"""A prediction up to this, of 10, is silence (`recording.design`: 1 % of the maximum)."""

BATCH = 64
"""Requests that a hosted model is given together."""

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LlmJudgeReport:
    """What is known of one language model as a judge."""

    judge: str
    scorer: str
    units: list[JudgedUnit]
    """`correlations` hold Youden's J."""

    groups: list[JudgeGroup]
    """All units first, then each of `GROUPS`."""

    not_asked: list[str]
    """Names of readable units that detection cannot ask about: active in every window."""

    oracle_agreement: float | None
    """Share of answers, under all four explanations, that are an oracle's: the explanation predicts
    something in the window, or nothing."""

    oracle_kappa: float | None
    """The same beyond chance (Cohen's kappa)."""

    order_changed: float | None
    """Share of answers about the true explanation that change when the same texts are asked about
    in the reverse order; 0 is right."""

    missing_share: float
    """Share of windows without a usable answer, after the second asking."""

    malformed_share: float
    """Share of first answers that did not follow the form that was asked for, refused or cut off
    ones included."""

    n_requests: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    """`None` where the model's price is not known."""

    seconds: float
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        for group, plain in zip(self.groups, found["groups"], strict=True):
            plain["margin"] = group.margin
        return found


@dataclass(frozen=True)
class _Heard:
    """What a judge said about one unit's windows under one explanation."""

    plan: Plan
    answers: FloatArray
    """[n_items] 1 yes, 0 no, NaN for no usable answer."""


_Unit: TypeAlias = dict[str, _Heard]
"""Name in `TEXTS`, and `reversed`, → what was said."""


def check_llm(
    client: LlmClient,
    answers: Sequence[KnownAnswer],
    *,
    n_units: int | None = None,
    price: Price | None = None,
    on_unit: Callable[[], None] | None = None,
    seed: int = 0,
) -> LlmJudgeReport:
    """Ask a language model about the readable units.

    Args:
        client: the language model; must be able to follow a JSON schema.
        answers: of `known_answers`.
        n_units: ask about so many only, spread over kinds; all if left out.
        price: an `autointerp.llm.prices.Price`, where one is known.
        on_unit: called after each unit.
        seed: of the order of windows.

    Raises:
        UsageError: where `n_units` is no number of units.
        AutointerpError: where the model cannot be asked at all.
    """
    scorer = judge_scorer(seed)
    could = askable(answers, scorer)
    asked_of = {answer.unit for answer in could}
    chosen = spread_units(could, n_units)
    asked = CachedClient(client, None)
    check_needs("check-judge", scorer.needs, asked)
    counter = _Counter(asked, price)
    heard: dict[str, _Unit] = {}
    errors: list[AutointerpError] = []

    def done(unit: str, said: _Unit) -> None:
        heard[unit] = said
        if on_unit is not None:
            on_unit()

    def failed(_: str, error: AutointerpError) -> None:
        errors.append(error)

    started = time.monotonic()
    drive(
        ((answer.unit, _steps(scorer, answer)) for answer in chosen),
        {Request: counter.ask},
        done,
        failed,
        batch_size=BATCH if asked.max_concurrency else 8,
    )
    if errors:
        raise errors[0]
    seconds = time.monotonic() - started
    said = [(answer, heard[answer.unit]) for answer in chosen]
    units = [_judged(answer, found) for answer, found in said]
    groups = [group_of("all", units)]
    groups += [group_of(n, [u for u in units if u.kind in kinds]) for n, kinds in GROUPS.items()]
    agreement, kappa = _with_oracle(said)
    some = f"On {len(chosen)} of {len(could)} units: " if len(chosen) < len(could) else ""
    return LlmJudgeReport(
        judge=client.name,
        scorer=scorer.name,
        units=units,
        groups=groups,
        not_asked=[a.name for a in answers if a.readable and a.unit not in asked_of],
        oracle_agreement=agreement,
        oracle_kappa=kappa,
        order_changed=_order_changed([found for _, found in said]),
        missing_share=1 - mean(unit.known_share for unit in units),
        malformed_share=counter.n_malformed / max(1, counter.n_first),
        n_requests=counter.n_requests,
        input_tokens=counter.input_tokens,
        output_tokens=counter.output_tokens,
        usd=counter.usd,
        seconds=seconds,
        verdict=some + _verdict(groups),
    )


def _verdict(groups: Sequence[JudgeGroup]) -> str:
    """One sentence; where no group could be beyond chance, that this is so."""
    if max(group.n for group in groups[1:]) < MIN_GROUP:
        return (
            f"too few to tell; no group has {MIN_GROUP} units, the least that can be beyond chance."
        )
    return verdict_of(groups)


def judge_scorer(seed: int = 0) -> DetectionScorer:
    """The scorer whose questions are asked."""
    return DetectionScorer("known answers", min_active_documents=1, n_replicates=2, seed=seed)


def askable(
    answers: Sequence[KnownAnswer], scorer: DetectionScorer | None = None
) -> list[KnownAnswer]:
    """The readable units with active and silent windows."""
    asks = scorer or judge_scorer()
    return [
        answer for answer in answers if answer.readable and isinstance(_plan(asks, answer), Plan)
    ]


def spread_units(readable: Sequence[KnownAnswer], n: int | None) -> list[KnownAnswer]:
    """`n` units: of every group and kind in turn, in a fixed order.

    Raises:
        UsageError: where there are not so many.
    """
    if n is None:
        return list(readable)
    if not 1 <= n <= len(readable):
        raise UsageError(f"--units {n}: give a number from 1 to {len(readable)}")
    piles = [
        _in_turn([[a for a in readable if a.kind == kind] for kind in kinds])
        for kinds in GROUPS.values()
    ]
    return _in_turn(piles)[:n]


def _in_turn(piles: Sequence[Sequence[KnownAnswer]]) -> list[KnownAnswer]:
    longest = max(map(len, piles))
    return [pile[i] for i in range(longest) for pile in piles if i < len(pile)]


Asking: TypeAlias = Generator[Sequence[Request], Sequence[Response], _Unit]


def _steps(scorer: DetectionScorer, answer: KnownAnswer) -> Asking:
    """Ask about one unit: all its explanations at once, and the true one in reverse order."""
    plan = _plan(scorer, answer)
    assert isinstance(plan, Plan), "only askable units are asked about"
    backwards = replace(plan, groups=tuple(group[::-1] for group in plan.groups))
    questions = {name: (plan, answer.explanations[name]) for name in TEXTS}
    questions["reversed"] = (backwards, answer.explanations["true"])
    requests = [
        scorer.request(text, [one.items[i] for i in group])
        for one, text in questions.values()
        for group in one.groups
    ]
    replies = yield requests
    pairs = iter(zip(requests, replies, strict=True))
    return {
        name: _Heard(one, _read(scorer, one, [next(pairs) for _ in one.groups]))
        for name, (one, _) in questions.items()
    }


def _plan(scorer: DetectionScorer, answer: KnownAnswer) -> Plan | Problem:
    record = record_of(answer)
    words = Explanation(record.unit, "true", answer.explanations["true"], Status.OK, answer.unit)
    job = ScoreJob(record, words, (), "judge", "judge", answer.unit)
    return scorer.plan(job, scorer.windows(job))


def _read(
    scorer: DetectionScorer, plan: Plan, pairs: Sequence[tuple[Request, Response]]
) -> FloatArray:
    values = np.full(len(plan.items), np.nan)
    for group, (request, response) in zip(plan.groups, pairs, strict=True):
        try:
            values[list(group)] = scorer.read(request, response)
        except MalformedAnswerError:
            continue
    return values


def _judged(answer: KnownAnswer, said: _Unit) -> JudgedUnit:
    known = np.concatenate([~np.isnan(said[name].answers) for name in TEXTS])
    return JudgedUnit(
        answer.unit,
        answer.name,
        answer.kind,
        {name: youden(said[name].plan.truth, said[name].answers) for name in TEXTS},
        float(known.mean()),
    )


def youden(truth: FloatArray, answers: FloatArray) -> float:
    """P(yes | active) - P(yes | silent); an answer that is missing (NaN) is half a yes."""
    yes = np.where(np.isnan(answers), 0.5, answers)
    return float(yes[truth == 1].mean() - yes[truth == 0].mean())


def _with_oracle(said: Sequence[tuple[KnownAnswer, _Unit]]) -> tuple[float | None, float | None]:
    """Share of answers that are the oracle's, and Cohen's kappa."""
    ours: list[FloatArray] = []
    oracles: list[FloatArray] = []
    for answer, found in said:
        for name in TEXTS:
            places = [int(i.windows[0].window.sequence_id, 16) for i in found[name].plan.items]
            right = [float(answer.predictions[name][p].max() > SILENT) for p in places]
            known = ~np.isnan(found[name].answers)
            ours.append(found[name].answers[known])
            oracles.append(np.array(right)[known])
    a, b = np.concatenate(ours), np.concatenate(oracles)
    if not a.size:
        return None, None
    return float((a == b).mean()), weighted_kappa(a, b, 2)


def _order_changed(said: Sequence[_Unit]) -> float | None:
    there = np.concatenate([found["true"].answers for found in said])
    back = np.concatenate([found["reversed"].answers for found in said])
    known = ~(np.isnan(there) | np.isnan(back))
    return float((there != back)[known].mean()) if known.any() else None


class _Counter:
    """Asks, and counts what it takes."""

    def __init__(self, client: CachedClient, price: Price | None) -> None:
        self.n_first = self.n_requests = self.n_malformed = 0
        self.input_tokens = self.output_tokens = 0
        self.usd: float | None = 0.0 if price else None
        self._client, self._price = client, price

    def ask(self, requests: Sequence[Request]) -> list[Response]:
        """Answers to requests in their order.

        Raises:
            AutointerpError: where the first requests all fail: the model cannot be reached.
        """
        answers = self._client.complete(requests)
        if not self.n_requests and all(a.status is ResponseStatus.FAILED for a in answers):
            raise AutointerpError(f"{self._client.name} answers nothing: {answers[0].reason}")
        for request, answer in zip(requests, answers, strict=True):
            self.n_requests += 1
            self.input_tokens += answer.usage.input_tokens
            self.output_tokens += answer.usage.output_tokens
            if not request.purpose.endswith("repair"):
                self.n_first += 1
                is_right = answer.status is ResponseStatus.OK
                self.n_malformed += not is_right or problem_with(request, answer) is not None
            if self._price is not None and self.usd is not None:
                usd = self._price.usd(answer.usage)
                self.usd = None if usd is None else self.usd + usd
        return answers
