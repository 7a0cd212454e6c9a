"""Output-side choice on planted directions: what a unit writes is known."""

import random
import re

import pytest

from autointerp.llm import Response, ResponseStatus
from autointerp.records import Explanation, Status, UnitId
from autointerp.scorers.output_choice import OutputChoiceScorer
from tests.planted_subject import (
    N_ORTHOGONAL,
    NAMES,
    Planted,
    answers,
    count_words,
    explained,
)


@pytest.fixture(scope="module")
def planted():
    return Planted()


def shown_sets(request):
    parts = re.split(r"Set \d:\n", request.messages[-1].content)[1:]
    assert len(parts) == 3
    return parts


class RuleJudge:
    """Takes the set with most words of the category that is named; a coin where none has more."""

    def __init__(self) -> None:
        self.coin = random.Random(0)

    def __call__(self, request):
        counts = [count_words(part, explained(request)) for part in shown_sets(request)]
        best = [i for i, count in enumerate(counts) if count == max(counts)]
        return answers(self.coin.choice(best) + 1)


def others(index):
    return tuple(i for i in range(len(NAMES)) if i != index)[:5]


SCORER = OutputChoiceScorer("made", n_trials=20, max_new_tokens=12)


def test_planted_directions_are_found_and_donors_stay_at_chance(planted):
    judge = RuleJudge()
    scores = [
        planted.score(SCORER, planted.job(index, donors=others(index)), judge)
        for index in range(len(NAMES))
    ]
    n = sum(score.details["n"] for score in scores)
    assert sum(score.details["n_right"] for score in scores) / n >= 0.9
    for score in scores:
        assert score.status == Status.OK and score.details["chance"] == pytest.approx(1 / 3)
        assert [c.status for c in score.controls] == [Status.FAILED] * 2 + [Status.OK] * 3
        assert score.interval.low <= score.value <= score.interval.high
        assert score.details["kl"] == pytest.approx(1.0, rel=0.06)
        assert score.lift == pytest.approx(score.value - score.control_mean)
    controls = [c.value for score in scores for c in score.controls if c.value is not None]
    # A share of 360 questions at chance 1/3 has a standard error of 0.025.
    assert sum(controls) / len(controls) == pytest.approx(1 / 3, abs=0.1)


def test_orthogonal_directions_are_at_a_third(planted):
    judge, right, n = RuleJudge(), 0, 0
    for index in range(len(NAMES), len(NAMES) + N_ORTHOGONAL):
        donors = tuple(range(len(NAMES), len(NAMES) + N_ORTHOGONAL))
        job = planted.job(index, own=NAMES[index % len(NAMES)])
        sets = tuple(planted.record(d) for d in donors if d != index)[:2]
        job = type(job)(**{**vars(job), "others": sets})
        score = planted.score(SCORER, job, judge)
        assert not score.details["kl_reached"] or score.details["kl"] < 1.1
        right, n = right + score.details["n_right"], n + score.details["n"]
    # 120 questions: a standard error of 0.043.
    assert right / n == pytest.approx(1 / 3, abs=0.12)


def test_the_order_of_the_sets_says_nothing(planted):
    first = planted.score(SCORER, planted.job(0, donors=others(0)), lambda request: answers(1))
    assert first.value == pytest.approx(1 / 3, abs=0.25)
    assert first.lift == pytest.approx(0.0)


def test_without_other_units_there_is_nothing_to_choose_from(planted):
    score = planted.score(SCORER, planted.job(0, donors=(1,)), RuleJudge())
    assert score.value is None and score.status == Status.INSUFFICIENT_DATA
    assert "2 needed" in score.reason


def test_an_explanation_that_failed_is_not_scored(planted):
    job = planted.job(0, donors=others(0))
    failed = Explanation(UnitId("d", 0), "words", None, Status.FAILED, "k", "no answer")
    score = planted.score(SCORER, type(job)(**{**vars(job), "explanation": failed}), RuleJudge())
    assert score.status == Status.FAILED and score.reason == "no answer"


def test_answers_that_cannot_be_used_are_counted_not_scored(planted):
    judge, calls = RuleJudge(), []

    def broken(request):
        calls.append(request)
        if len(calls) % 4 == 0:
            return answers(7)
        return judge(request)

    score = planted.score(SCORER, planted.job(1, donors=others(1)), broken)
    assert score.details["n_unanswered"] == 5 and score.details["n"] == 15
    silent = planted.score(
        SCORER,
        planted.job(1, donors=others(1)),
        lambda request: Response(None, ResponseStatus.REFUSED, reason="no"),
    )
    assert silent.value is None and silent.status == Status.FAILED and "refused" in silent.reason


def test_settings_and_prompt_enter_the_key():
    identity = SCORER.identity()
    assert identity["kl"] == 1.0 and identity["kind"] == "output_choice" and identity["prompt"]
    assert OutputChoiceScorer("made", kl=2.0).identity() != identity
