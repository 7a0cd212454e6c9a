"""Judges of known quality get the score that follows from it; judges of none get chance."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from autointerp.llm import Request, Response, ResponseStatus, TokenLogprobs, Usage
from autointerp.records import Status
from tests.scorers.world import (
    SCORERS,
    job,
    judge_of,
    options,
    record,
    scored,
    things,
    truth,
)

N = 300
"""Active windows, silent windows, trials and pairs: enough for a standard error of 3 %."""

SIGMAS = 4.0


def large(name: str) -> Any:
    """A scorer that asks about all windows of a large unit."""
    sizes = {"intruder": {"n_trials": N}, "pair": {"n_pairs": N}, "sort": {"n_pairs": N}}
    return SCORERS[name](**sizes.get(name.split("_")[0], {}))


def noisy(tpr: float, fpr: float, seed: int):
    """Says yes with known rates; chooses right with the first of them."""
    generator = np.random.default_rng(seed)

    def answer(request: Request, thing: tuple[str, ...], _: int) -> Any:
        right = truth(request, thing)
        if options(request) == [True, False]:
            return bool(generator.random() < (tpr if right else fpr))
        if generator.random() < tpr:
            return right
        wrong = [option for option in options(request) if option != right]
        return wrong[int(generator.integers(len(wrong)))]

    return judge_of(answer)


def slope(value: Callable[[float, float], float], tpr: float, fpr: float) -> tuple[float, float]:
    step = 1e-5
    return (
        (value(tpr + step, fpr) - value(tpr - step, fpr)) / (2 * step),
        (value(tpr, fpr + step) - value(tpr, fpr - step)) / (2 * step),
    )


def average_precision(tpr: float, fpr: float, share: float) -> float:
    """Two thresholds: all that was answered yes, then everything."""
    precision = share * tpr / (share * tpr + (1 - share) * fpr)
    return tpr * precision + (1 - tpr) * share


def f1(tpr: float, fpr: float, share: float) -> float:
    return 2 * share * tpr / (share * tpr + (1 - share) * fpr + share)


def balanced(tpr: float, fpr: float, share: float) -> float:
    return (tpr + 1 - fpr) / 2


@pytest.mark.parametrize("rates", [(0.9, 0.1), (0.7, 0.3), (0.6, 0.05), (0.95, 0.6)])
@pytest.mark.parametrize("name", ["detection", "detection_alone", "fuzzing"])
def test_rates_of_true_and_false_yes_decide_every_metric(name, rates):
    """Expected values in closed form; tolerance 4 binomial standard errors, by the delta method."""
    n_silent = N // 2 if name.startswith("detection") else 0
    score = scored(large(name), job(record(N, n_silent)), noisy(*rates, seed=len(name)))
    n_positive, n_negative = score.details["n_positive"], score.details["n_negative"]
    share = n_positive / (n_positive + n_negative)
    assert share == (0.5 if name == "fuzzing" else 2 / 3)
    errors = [
        math.sqrt(r * (1 - r) / n) for r, n in zip(rates, (n_positive, n_negative), strict=True)
    ]
    for metric, formula in (
        ("auprc", average_precision), ("f1", f1), ("balanced_accuracy", balanced),
        ("auroc", balanced),
    ):  # fmt: skip
        value = lambda t, f, formula=formula: formula(t, f, share)  # noqa: E731
        gradient = slope(value, *rates)
        error = math.hypot(*(g * e for g, e in zip(gradient, errors, strict=True)))
        assert score.details[metric] == pytest.approx(value(*rates), abs=SIGMAS * error), metric
    assert score.value == pytest.approx(score.details["auprc"])


@pytest.mark.parametrize("quality", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("name", ["intruder", "pair", "sort"])
def test_a_judge_that_chooses_right_so_often_has_that_accuracy(name, quality):
    score = scored(large(name), job(record(2 * N, N)), noisy(quality, 0, seed=len(name)))
    n = score.details["n"]
    error = math.sqrt(quality * (1 - quality) / n)
    assert n >= N
    assert score.value == pytest.approx(quality, abs=SIGMAS * error)
    assert score.interval is not None and score.interval.low < quality < score.interval.high


def test_intervals_of_choices_cover_the_judges_quality():
    what = job(record(20, 20))
    for name in ("intruder", "pair", "sort"):
        scorer, inside = SCORERS[name](), []
        for seed in range(60):
            score = scored(scorer, what, noisy(0.7, 0, seed=seed))
            assert score.interval is not None
            inside.append(score.interval.low <= 0.7 <= score.interval.high)
        assert sum(inside) >= 54, name  # of 60 at 95 %: fewer than 54 has a chance of 2 in 10,000


@pytest.mark.parametrize("name", SCORERS)
def test_a_judge_that_is_always_right_gets_the_best_score(name):
    unit = halves() if name == "intruder_within" else record()
    judge = judge_of(
        lambda r, thing, _: (
            bool(truth(r, thing)) if options(r) == [True, False] else truth(r, thing)
        )
    )
    score = scored(SCORERS[name](), job(unit), judge)
    assert (score.value, score.status) == (1.0, Status.OK)
    assert 0 < score.details["chance"] < 1
    # No replicate of a bootstrap differs here: the interval is exact, and not of zero width.
    assert score.interval is not None and score.interval.low < 1 == score.interval.high


def halves():
    """A unit that is strong in one half of its windows and weak in the other."""
    from tests.scorers.world import UNIT, UnitRecord, statistics, window

    windows = [window(i, 10.0 - i / 100 if i < 10 else 1.0 + i / 100) for i in range(20)]
    return UnitRecord(UNIT, tuple(windows), statistics())


# ---------------------------------------------------------------------- judges of no quality


def at_random(seed: int) -> Any:
    generator = np.random.default_rng(seed)
    return judge_of(lambda r, _, __: options(r)[int(generator.integers(len(options(r))))])


def by_length(longest: bool) -> Any:
    """Yes to long texts; of several the longest (or shortest)."""

    def answer(request: Request, thing: tuple[str, ...], _: int) -> Any:
        lengths = [len(text) if longest else -len(text) for text in thing]
        if options(request) == [True, False]:
            return lengths[0] > (75 if longest else -75)
        return 1 + int(np.argmax(lengths))

    return judge_of(answer)


BLIND: dict[str, Callable[[], Any]] = {
    "at random": lambda: at_random(1),
    "always yes, always the first": lambda: judge_of(lambda r, _, __: options(r)[0]),
    "always no, always the last": lambda: judge_of(lambda r, _, __: options(r)[-1]),
    "by the place in the question": lambda: judge_of(
        lambda r, _, place: options(r)[place % len(options(r))]
    ),
    "yes to the first in a question": lambda: judge_of(lambda r, _, i: options(r)[min(i, 1)]),
    "long texts": lambda: by_length(True),
    "short texts": lambda: by_length(False),
}


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("judge", BLIND)
def test_a_judge_that_does_not_read_scores_chance(name, judge):
    """Tolerance: 4 standard errors of an average precision or an accuracy at chance."""
    n_silent = N if name.startswith("detection") else N // 2
    score = scored(large(name), job(record(N, n_silent)), BLIND[judge]())
    chance, n = score.details["chance"], score.details["n"]
    assert score.value is not None
    # An accuracy is binomial, and an average precision varies less. Two versions of one text are
    # not independent: half as many items.
    error = math.sqrt(chance * (1 - chance) / (n / 2))
    assert score.value == pytest.approx(chance, abs=SIGMAS * error)
    if judge.startswith("always"):
        assert score.status is Status.CONSTANT_PREDICTION
        assert score.value == pytest.approx(chance, abs=1e-12)


@pytest.mark.parametrize("judge", ["long texts", "short texts", *list(BLIND)[1:3]])
def test_every_text_bears_both_kinds_of_marks_so_that_texts_alone_give_exactly_chance(judge):
    score = scored(SCORERS["fuzzing"](), job(), BLIND[judge]())
    assert score.value == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("name", ["pair", "sort"])
def test_every_pair_comes_in_both_orders_so_that_places_alone_give_exactly_chance(name):
    for judge in list(BLIND)[1:3]:
        score = scored(SCORERS[name](), job(), BLIND[judge]())
        assert (score.value, score.details["n_tied"]) == (0.5, score.details["n_pairs"])


def test_a_judge_of_marks_places_alone_scores_chance_in_fuzzing():
    """False marks have the places of true ones, as a set: the rule is right half of the time."""
    rules: dict[str, Callable[[str], bool]] = {
        "early": lambda text: text.index("<<") < 30,
        "late": lambda text: text.index("<<") > 45,
        "exactly there": lambda text: len(text.split("<<")[0].split()) == 6,
    }
    for rule in rules.values():
        judge = judge_of(lambda r, thing, _, rule=rule: rule(thing[0]))
        score = scored(large("fuzzing"), job(record(N, 0)), judge)
        assert score.details["balanced_accuracy"] == pytest.approx(0.5, abs=0.02)


def test_the_mixture_finds_a_judge_that_goes_by_the_marks():
    """It looks for marks on words in capitals, whatever they are: the mixture shows it."""
    capitals = ("ANIMAL", "HORN", "GLASS", "SNOW", "IRON", "SILK", "MOON")

    def answer(request: Request, thing: tuple[str, ...], _: int) -> int:
        odd = [i for i, t in enumerate(thing, 1) if not any(f"<<{c}>>" in t for c in capitals)]
        return odd[0]

    score = scored(SCORERS["intruder"](), job(n_others=6), judge_of(answer))
    assert score.value == 1.0
    (mixture,) = score.controls
    assert (mixture.name, mixture.value, score.lift) == ("mixture", 1.0, 0.0)


def test_the_mixture_is_at_chance_for_a_judge_that_reads_what_members_share():
    generator = np.random.default_rng(5)

    def answer(request: Request, thing: tuple[str, ...], _: int) -> int:
        words = [text.split("<<")[1].split(">>")[0] for text in thing]
        common = max(set(words), key=words.count)
        if words.count(common) < 3:
            return int(generator.integers(1, 6))
        return next(i for i, word in enumerate(words, 1) if word != common)

    score = scored(SCORERS["intruder"](n_trials=200), job(n_others=6), judge_of(answer))
    assert score.value == 1.0 and score.control_mean is not None
    assert score.control_mean == pytest.approx(0.2, abs=SIGMAS * math.sqrt(0.16 / 200))
    assert score.lift == pytest.approx(1 - score.control_mean)


# ---------------------------------------------------------------------- how sure a judge is


def sure(probabilities: list[float], *, mass: float = 1.0, tokens: str = "plain") -> Response:
    """A JSON answer with log-probabilities at its values, as a tokenizer would cut it."""
    found = [TokenLogprobs('{"answers":', -0.01, ())]
    for place, p in enumerate(probabilities):
        lead = " [" if place == 0 else ", "
        values = {"true": mass * p, "false": mass * (1 - p), "maybe": 1 - mass}
        chosen = "true" if p >= 0.5 else "false"
        if tokens == "merged":
            forms = {lead + word: v for word, v in values.items()}
            chosen = lead + chosen
        elif tokens == "split":
            found.append(TokenLogprobs(lead, -0.01, ()))
            forms = {word[:2]: v for word, v in values.items()}
        else:
            found.append(TokenLogprobs(lead, -0.01, ()))
            forms = values
        top = tuple((w, math.log(v)) for w, v in forms.items() if v > 0)
        if tokens == "split":
            found.append(TokenLogprobs(chosen[:2], math.log(forms[chosen[:2]]), top))
            found.append(TokenLogprobs(chosen[2:], -0.001, ()))
        else:
            found.append(TokenLogprobs(chosen, math.log(forms[chosen]), top))
    found.append(TokenLogprobs("]}", -0.01, ()))
    text = "".join(token.token for token in found)
    return Response(text, ResponseStatus.OK, Usage(10, 0, 3), logprobs=tuple(found))


@pytest.mark.parametrize("tokens", ["plain", "merged", "split"])
@pytest.mark.parametrize("name", ["detection", "detection_alone", "fuzzing"])
def test_graded_answers_have_the_area_of_two_normal_distributions(name, tokens):
    """log-odds of yes are N(±d/2, 1): AUROC = Φ(d / √2), whatever a tokenizer makes of true."""
    d, generator = 1.5, np.random.default_rng(3)

    def judge(request: Request) -> Response:
        right = [truth(request, thing) for thing in things(request)]
        odds = generator.normal([d / 2 if r else -d / 2 for r in right])
        return sure([float(1 / (1 + np.exp(-x))) for x in odds], mass=0.9, tokens=tokens)

    scorer = SCORERS[name](confidence="p_yes")
    score = scored(scorer, job(record(N, N)), judge)
    expected = float(scipy_stats.norm.cdf(d / math.sqrt(2)))
    error = math.sqrt(expected * (1 - expected) / N)
    assert score.details["auroc"] == pytest.approx(expected, abs=SIGMAS * error)
    assert score.details["n_unanswered"] == 0
    assert score.value is not None and score.details["chance"] == 0.5 < score.value
    assert score.interval is not None and score.interval.low < score.value < score.interval.high


def test_answers_without_mass_on_yes_and_no_are_missing_and_counted():
    def judge(request: Request) -> Response:
        low = "w00003" in str(things(request))
        right = [truth(request, thing) for thing in things(request)]
        return sure([0.9 if r else 0.1 for r in right], mass=0.3 if low else 0.9)

    score = scored(SCORERS["detection_alone"](confidence="p_yes"), job(), judge)
    assert (score.value, score.details["n_unanswered"]) == (1.0, 1)
    assert "0.5 of the probability" in score.details["reasons"][0]
    lenient = SCORERS["detection_alone"](confidence="p_yes", mass_floor=0.2)
    assert scored(lenient, job(), judge).details["n_unanswered"] == 0


def test_without_log_probabilities_there_is_no_confidence_and_no_score():
    score = scored(SCORERS["detection"](confidence="p_yes"), job(), at_random(0))
    assert (score.value, score.status) == (None, Status.FAILED)
    assert "log-probabilities" in score.reason


def test_what_a_judge_must_be_able_to_do_is_declared():
    for name, make in SCORERS.items():
        assert make().needs.json_schema and make().needs.logprobs == 0, name
    assert SCORERS["fuzzing"](confidence="p_yes").needs.logprobs == 5
