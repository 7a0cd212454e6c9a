"""Scorers that touch the subject, on planted directions with judges that follow a rule."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from autointerp.llm import Response, ResponseStatus
from autointerp.llm.base import TokenLogprobs
from autointerp.records import Simulation, Status
from autointerp.scorers.ablate_to_simulation import AblateToSimulationScorer
from autointerp.scorers.generative import GenerativeScorer
from autointerp.scorers.injection import InjectionScorer, strongest_tokens
from autointerp.scorers.intervention_surprisal import (
    InterventionSurprisalScorer,
    ending_logprob,
)
from autointerp.scorers.live import gini, share
from autointerp.scorers.output_choice import PROMPTS
from autointerp.scorers.responsiveness import PurityScorer, ResponsivenessScorer
from autointerp.scorers.sensitivity import SensitivityScorer
from autointerp.subject.requests import GenerationRequest
from tests.planted_subject import (
    CATEGORIES,
    NAMES,
    Planted,
    answers,
    count_words,
    explained,
)

ANIMALS, _, TOOLS, FOOD = range(4)
ORTHOGONAL = len(NAMES)
REFUSED = Response(None, ResponseStatus.REFUSED, reason="no")


@pytest.fixture(scope="module")
def planted():
    return Planted()


def fenced_texts(request):
    return re.findall(r"<text \d+>(.*)</text \d+>", request.messages[-1].content)


def writer(request):
    """Writes four texts with the category's words."""
    words = CATEGORIES[explained(request)]
    return answers(*(f" so we saw the{words[i % 5]} near the gate w{i}" for i in range(4)))


# ---------------------------------------------------------------------- generative

GENERATIVE = GenerativeScorer("made", n_texts=4)


def test_texts_written_from_the_right_words_are_told_from_all_others(planted):
    score = planted.score(GENERATIVE, planted.job(ANIMALS, donors=(1, 2, 3)), writer)
    assert score.value == 1.0 and score.status == Status.OK
    assert [c.value for c in score.controls] == [0.0, 0.0, 0.0]
    assert score.lift == 1.0 and score.details["chance"] == 0.0
    assert score.details["fires_in_own"] == 1.0 and score.details["fires_in_controls"] == 0.0
    assert score.details["requests"] == 4 and score.details["n"] == 4


def test_words_for_what_the_unit_avoids_score_below_zero(planted):
    # Controls: 4 texts of animals, 4 of tools; own texts of colours lose half of all pairs.
    job = planted.job(ANIMALS, own="colours", donors=(ANIMALS, TOOLS))
    score = planted.score(GENERATIVE, job, writer)
    assert score.value == pytest.approx(-0.5)
    assert [c.value for c in score.controls] == [1.0, -1.0]
    assert score.lift == pytest.approx(-0.5)


def test_no_texts_are_a_failure_not_a_zero(planted):
    job = planted.job(ANIMALS, donors=(1, 2))
    score = planted.score(GENERATIVE, job, lambda request: REFUSED)
    assert score.value is None and score.status == Status.FAILED and "refused" in score.reason

    def only_own(request):
        return writer(request) if explained(request) == "animals" else REFUSED

    score = planted.score(GENERATIVE, job, only_own)
    assert score.value is None and "to compare with" in score.reason

    def one_donor(request):
        return REFUSED if explained(request) == "tools" else writer(request)

    score = planted.score(GENERATIVE, job, one_donor)
    assert score.value == 1.0 and score.lift is None
    assert [c.status for c in score.controls] == [Status.FAILED] * 2


def test_the_gini_is_twice_the_auc_less_one_with_ties_and_weights():
    values, own = np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False])
    # Pairs: 3>1, 3>0, 1=1, 1>0: 3 won of 4, one tie.
    assert gini(values, own, ~own)(np.ones((1, 4)))[0] == pytest.approx(0.75)
    weights = np.array([[2.0, 0.0, 1.0, 3.0], [0.0, 1.0, 2.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    assert gini(values, own, ~own)(weights) == pytest.approx([1.0, 0.0, 0.0])
    assert share(values, own)(weights) == pytest.approx([3.0, 1.0, 0.0])


# ---------------------------------------------------------------------- sensitivity


def rewriter(request):
    """Keeps words of the category that is named, and replaces everything else."""
    kept = CATEGORIES[explained(request)]
    return answers(
        *(
            " so w1 w2 w3" + "".join(word for word in kept if word in text) + " w4"
            for text in fenced_texts(request)
        )
    )


def test_the_unit_survives_a_rewrite_that_keeps_what_it_responds_to(planted):
    scorer = SensitivityScorer("made", n_windows=6, n_per_prompt=4)
    score = planted.score(scorer, planted.job(ANIMALS, donors=(1, 2)), rewriter)
    assert score.value == 1.0 and [c.value for c in score.controls] == [0.0, 0.0]
    assert score.details["n"] == 6 and score.details["requests"] == 6
    # 1 - (1 - 0.05)^n with n tokens of the rewrites on average.
    n = score.details["subject_tokens"] / 18
    assert score.details["chance"] == pytest.approx(1 - 0.95**n)


def test_windows_without_a_rewrite_are_left_out_and_counted(planted):
    scorer = SensitivityScorer("made", n_windows=6, n_per_prompt=3)
    calls = []

    def broken(request):
        calls.append(request)
        return REFUSED if len(calls) == 1 else rewriter(request)

    score = planted.score(scorer, planted.job(ANIMALS, donors=(1,)), broken)
    assert score.value == 1.0 and score.details["n"] == 3
    assert score.details["n_unanswered"] == 3
    dead = planted.score(scorer, planted.job(ANIMALS), lambda request: REFUSED)
    assert dead.value is None and dead.status == Status.FAILED


# ---------------------------------------------------------------------- responsiveness, purity


def labeller(request):
    words = explained(request)
    return answers(*(count_words(text, words) > 0 for text in fenced_texts(request)))


def contrary(request):
    return answers(*(count_words(text, "animals") == 0 for text in fenced_texts(request)))


@pytest.mark.parametrize(
    ("scorer", "own", "opposite"),
    [(ResponsivenessScorer("made"), 1.0, -1.0), (PurityScorer("made"), 1.0, None)],
)
def test_a_perfect_label_scores_one_and_its_opposite_below_chance(scorer, own, opposite, planted):
    job = planted.job(ANIMALS, donors=(TOOLS,))
    score = planted.score(scorer, job, labeller)
    assert score.value == own and score.details["responsiveness"] == 1.0
    assert score.details["purity"] == 1.0
    assert score.controls[0].value == 0.0
    reverse = planted.score(scorer, job, contrary)
    if opposite is not None:
        assert reverse.value == opposite
    else:
        # All 8 silent windows are said to hold it, behind 8 active ones: one threshold at 8/16.
        assert reverse.value == pytest.approx(0.5)
        assert reverse.details["chance"] == 0.5
        assert score.details["chance"] == pytest.approx(0.5)


def test_a_judge_that_says_the_same_of_all_is_flagged(planted):
    score = planted.score(
        ResponsivenessScorer("made"),
        planted.job(ANIMALS, donors=(TOOLS,)),
        lambda request: answers(*(True for _ in fenced_texts(request))),
    )
    assert score.status == Status.CONSTANT_PREDICTION and score.value == 0.0


# ---------------------------------------------------------------------- injection


def test_a_unit_of_tokens_fires_wherever_its_tokens_are_put(planted):
    scorer = InjectionScorer("made", n_windows=6, n_tokens=2)
    job = planted.job(ANIMALS, donors=(TOOLS, FOOD))
    assert set(strongest_tokens(job.record, 10)) == set(CATEGORIES["animals"])
    score = planted.score(scorer, job, None)
    assert score.value == 1.0 and [c.value for c in score.controls] == [0.0, 0.0]
    assert score.lift == 1.0 and score.explainer == ""
    assert score.details["requests"] == 0


def test_a_unit_of_context_does_not_fire_by_its_tokens(planted):
    # Recorded as active on animals, but in truth of food: the words alone do nothing.
    job = planted.job(ANIMALS, donors=(TOOLS,))
    other = planted.record(FOOD)
    fake = replace(job.record, unit=other.unit)
    score = planted.score(InjectionScorer("made"), replace(job, record=fake), None)
    assert score.value == 0.0


# ---------------------------------------------------------------------- ablate to simulation


def simulations(level_of):
    def answer(request):
        found = []
        for tokens in request.sequences:
            levels = np.array([level_of(request.explanation, t) for t in tokens], np.float32)
            known = np.ones(len(tokens), bool)
            found.append(Simulation(levels, known, known.astype(np.float32)))
        return found

    return answer


def oracle(words, token):
    return 10.0 * (token in CATEGORIES[words])


def test_the_true_simulation_restores_all_and_a_constant_one_nothing(planted):
    scorer = AblateToSimulationScorer("made", n_windows=8)
    job = planted.job(ANIMALS, donors=(TOOLS,))
    score = planted.score(scorer, job, None, SimulationRequest=simulations(oracle))
    assert score.value == pytest.approx(1.0, abs=1e-4)
    # Of another category's words: a constant level where this unit fires, calibrated to a mean.
    assert score.controls[0].value is not None and score.controls[0].value < 0.6
    assert score.lift is not None and score.lift > 0.4
    flat = planted.score(scorer, job, None, SimulationRequest=simulations(lambda words, token: 3.0))
    assert flat.value == pytest.approx(0.0, abs=1e-5)
    assert flat.details["js_simulation"] == pytest.approx(flat.details["js_mean_ablation"])


def test_a_unit_that_nothing_reads_has_no_effect_to_restore(planted):
    job = planted.job(ORTHOGONAL)
    # At its true value, 0, a replacement by the mean of 0 changes nothing at all.
    explain = {
        split: replace(s, moments=(0.0, 0.0, 0.0, 0.0))
        for split, s in job.record.statistics.items()
    }
    job = replace(job, record=replace(job.record, statistics=explain))
    score = planted.score(
        AblateToSimulationScorer("made"), job, None,
        SimulationRequest=simulations(lambda words, token: 0.0),
    )  # fmt: skip
    assert score.value is None and score.status == Status.UNDEFINED_TRUTH


# ---------------------------------------------------------------------- intervention surprisal


def reader(request):
    """log p of the explanation: one nat more for every word of its category in the text."""
    before, _, words = request.messages[0].content.rpartition(": ")
    text = before.split("Text:\n")[1].split("\n\nThe text above")[0]
    last = TokenLogprobs(words, -9.0 + count_words(text, words), ())
    return Response("", ResponseStatus.OK, logprobs=(TokenLogprobs(before + ": ", -50.0, ()), last))


def test_surprisal_falls_by_as_many_nats_as_steering_writes_words(planted):
    scorer = InterventionSurprisalScorer("made", n_prompts=6, max_new_tokens=10)
    score = planted.score(scorer, planted.job(ANIMALS, donors=(TOOLS, FOOD)), reader)
    expected = 0.0
    for kl, sign in ((1.0, 1), (0.0, -1)):
        found = planted.live.generated(
            GenerationRequest(planted.record(ANIMALS).unit, PROMPTS[:6], kl=kl, max_new_tokens=10)
        )
        expected += sign * sum(count_words(text, "animals") for text in found.texts) / 6
    assert score.value == pytest.approx(expected) and score.value > 0.5
    assert all(c.value < score.value for c in score.controls)
    assert score.details["requests"] == 36


def test_only_the_ending_is_counted():
    tokens = tuple(TokenLogprobs(t, lp, ()) for t, lp in [("ab", -9.0), ("c d", -2.0), ("e", -1)])
    assert ending_logprob(Response("", ResponseStatus.OK, logprobs=tokens), "de") == -3.0
    assert ending_logprob(Response("", ResponseStatus.OK, logprobs=tokens), "e") == -1.0


def test_a_reader_without_logprobs_is_a_failure(planted):
    score = planted.score(
        InterventionSurprisalScorer("made", n_prompts=2, max_new_tokens=3),
        planted.job(ANIMALS),
        lambda request: REFUSED,
    )
    assert score.value is None and score.status == Status.FAILED
    assert not math.isnan(score.details["requests"])


@pytest.mark.parametrize(
    "scorer",
    [GENERATIVE, SensitivityScorer("made"), AblateToSimulationScorer("made"),
     InterventionSurprisalScorer("made")],
)  # fmt: skip
def test_nothing_is_asked_about_an_explanation_that_is_not_there(scorer, planted):
    job = planted.job(ANIMALS, donors=(1,))
    own = replace(job.explanation, text=None, status=Status.FAILED, reason="no answer")
    steps = scorer.score(replace(job, explanation=own))
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value.status == Status.FAILED and end.value.value.reason == "no answer"
