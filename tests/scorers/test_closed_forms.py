"""Judges of known skill, and what they must score: rating, logit weights, 60 windows, recall."""

import json
from dataclasses import replace

import numpy as np
import pytest

from autointerp.records import HardBy, Status
from autointerp.scorers.bricken60 import Bricken60Scorer
from autointerp.scorers.logit_weight import LogitWeightScorer, balanced, matched
from autointerp.scorers.rating import RatingScorer
from autointerp.scorers.recall import DECOYS, RecallAltScorer
from tests.scorers.asking import PROMOTED, job_of
from tests.scorers.made import job, n_asked, scored, unit, window, windows


def texts_of(request) -> list[str]:
    return [line for line in request.messages[-1].content.splitlines() if line.startswith("<text")]


def tokens_of(request) -> list[str]:
    lines = request.messages[-1].content.splitlines()[1:]
    return [line.split(" ", 1)[1].strip('"').strip() for line in lines]


def mean_of(make, judge, what, n: int = 60, **options) -> tuple[float, float]:
    """Mean score over seeds, and its standard error."""
    values = []
    for seed in range(n):
        generator = np.random.default_rng(seed)
        scorer = make("made", n_replicates=2, seed=seed, **options)
        values.append(scored(scorer, what, lambda r, g=generator: judge(r, g))[0].value)
    return float(np.mean(values)), float(np.std(values) / np.sqrt(n))


@pytest.mark.parametrize(("tpr", "fpr"), [(0.9, 0.2), (0.5, 0.5), (0.3, 0.8), (1.0, 0.0)])
def test_logit_weights_give_balanced_accuracy(tpr, fpr):
    def judge(request, generator):
        promoted = [token in PROMOTED.split() for token in tokens_of(request)]
        return [bool(generator.random() < (tpr if p else fpr)) for p in promoted]

    mean, error = mean_of(LogitWeightScorer, judge, job_of())
    assert mean == pytest.approx((tpr + 1 - fpr) / 2, abs=4 * error + 1e-9)


def test_words_that_say_nothing_of_the_logits_have_no_lift():
    """Donors' explanations are right about their own units' tokens: no control knows one shown."""
    sets = [[f"{start}{end}" for end in "abcdefghij"] for start in ("qu", "ne", "po", "vi", "zo")]
    others = [unit([], promoted=" ".join(words)) for words in sets]
    what = job(*(f"donor {i}" for i in range(5)), own="nothing", record=job_of().record,
               others=others)  # fmt: skip

    def judge(request, generator):
        for i, own in enumerate(sets):
            if f"donor {i}" in request.messages[-1].content:
                return [token in own for token in tokens_of(request)]
        return [bool(generator.random() < 0.5) for _ in tokens_of(request)]

    lifts = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        scorer = LogitWeightScorer("made", n_replicates=2, seed=seed)
        score, _ = scored(scorer, what, lambda r, g=generator: judge(r, g))
        assert [c.status for c in score.controls] == [Status.CONSTANT_PREDICTION] * 2 + [
            Status.NOT_RUN
        ] * 3
        assert score.control_mean == 0.5
        lifts.append(score.lift)
    assert np.mean(lifts) == pytest.approx(0.0, abs=4 * np.std(lifts) / np.sqrt(60))


@pytest.mark.parametrize(("tpr", "fpr"), [(0.9, 0.2), (0.5, 0.5), (0.3, 0.8), (1.0, 0.0)])
def test_recall_gives_balanced_accuracy_and_neuronpedia_s_own_number(tpr, fpr):
    found = []

    def judge(request, generator):
        return [bool(generator.random() < (tpr if "ANIMAL" in text else fpr))
                for text in [request.messages[-1].content]]  # fmt: skip

    mean, error = mean_of(RecallAltScorer, judge, job_of())
    assert mean == pytest.approx((tpr + 1 - fpr) / 2, abs=4 * error + 1e-9)
    generator = np.random.default_rng(9)
    score, requests = scored(
        RecallAltScorer("made"), job_of(), lambda r: found.append(judge(r, generator)) or found[-1]
    )
    truth = ["ANIMAL" in r.messages[-1].content for r in requests]
    assert len(requests) == 20 + 5 + 5 == len(DECOYS) + 25
    assert score.details["accuracy"] == np.mean(
        [f == [t] for f, t in zip(found, truth, strict=True)]
    )
    assert score.details["accuracy_of_always_yes"] == pytest.approx(20 / 30)


@pytest.mark.parametrize(
    ("active", "silent"),
    [((0, 0, 0, 1), (1, 0, 0, 0)), ((0.1, 0.2, 0.3, 0.4), (0.7, 0.1, 0.1, 0.1))],
)
def test_ratings_give_the_difference_of_their_means(active, silent):
    def judge(request, generator):
        return [int(generator.choice(4, p=active if "<<ANIMAL>>" in text else silent))
                for text in texts_of(request)]  # fmt: skip

    mean, error = mean_of(RatingScorer, judge, job_of(of=windows(n_hard=0)))
    expected = (np.dot(active, range(4)) - np.dot(silent, range(4))) / 3
    assert mean == pytest.approx(expected, abs=4 * error + 1e-9)


def test_every_interval_counts_alike_whatever_it_holds():
    many = [window(i, 9.5) for i in range(10)] + [window(90, 0.5)]
    many += windows(0, n_hard=0)
    judge = lambda r: [3 if "<<ANIMAL" in t and "w90" not in t else 0  # noqa: E731
                       for t in texts_of(r)]  # fmt: skip
    score, _ = scored(RatingScorer("made", n_per_interval=10), job(record=unit(many)), judge)
    assert score.value == pytest.approx((1 + 0) / 2)
    assert (score.details["mean_interval_10"], score.details["mean_interval_01"]) == (3, 0)
    assert score.details["n_interval_10"] == 10 and score.details["mean_interval_05"] is None
    assert score.details["share_clear"] == pytest.approx(10 / 11)


def test_silent_texts_are_highlighted_where_active_ones_are():
    """As many marks, at the same places: nothing but the words tells them apart."""
    what = job_of(of=windows(n_hard=0))
    _, requests = scored(RatingScorer("made"), what, lambda r: "")
    texts = [text.split(">", 1)[1] for r in requests for text in texts_of(r)]
    places = {kind: [] for kind in ("active", "silent")}
    for text in texts:
        assert text.count("<<") == text.count(">>") == 1
        words = text.split("</text")[0].split()
        place = next(i for i, word in enumerate(words) if word.startswith("<<"))
        places["active" if "<<ANIMAL" in text else "silent"].append(place)
    assert set(places["silent"]) <= set(places["active"])
    assert len(places["silent"]) == 15 and len(places["active"]) == 30


def levels_of(request) -> list[list[str]]:
    lines = request.messages[-1].content.splitlines()[1:]
    return [json.loads(line.split(" ", 1)[1]) for line in lines]


def binary(n_silent: int = 20, probability: float = 1.0):
    """A unit that is on or off."""
    made = [window(i, 9.5, place=2 + i % 9, probability=0.5) for i in range(6)]
    made += [window(100 + i, 0.0, probability=probability) for i in range(n_silent)]
    made += [window(200 + i, 0.0, hard_by=HardBy.TOP_TOKEN, place=4, probability=probability)
             for i in range(10)]  # fmt: skip
    return made


def test_of_two_levels_the_correlation_is_phi_weighted_by_one_over_the_probability():
    """phi = (ad - bc) / sqrt((a+b)(c+d)(a+c)(b+d)) of the four weights."""
    generator = np.random.default_rng(3)
    said, truth, weight = [], [], []

    def judge(request):
        answers = []
        for text in levels_of(request):
            is_silent = any(token.strip()[1:4].isdigit() for token in text)
            for token in text:
                true = token == " ANIMAL" and not is_silent
                yes = generator.random() < (0.8 if true else 0.1)
                said.append(yes)
                truth.append(true)
                # Ten silent windows of twenty are drawn; of hard and active ones all.
                hard = is_silent and any(" w2" in t for t in text)
                weight.append(1 / 0.5 if not is_silent else 1 / 0.125 * (1 if hard else 2))
            answers.append([9 if yes else 0 for yes in said[-len(text) :]])
        return answers

    score, _ = scored(
        Bricken60Scorer("made", n_replicates=100),
        job(record=unit(binary(probability=0.125))),
        judge,
    )
    y, t, w = np.array(said), np.array(truth), np.array(weight)
    a, b, c, d = (w[m].sum() for m in (y & t, y & ~t, ~y & t, ~y & ~t))
    phi = (a * d - b * c) / np.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    assert score.value == pytest.approx(phi)
    sample = [np.sum(m) for m in (y & t, y & ~t, ~y & t, ~y & ~t)]
    a, b, c, d = map(float, sample)
    assert score.details["spearman_of_the_sample"] == pytest.approx(
        (a * d - b * c) / np.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    )
    assert score.interval is not None and score.interval.low < phi < score.interval.high
    assert score.details["n_texts_active"] == 6 and score.details["n_texts_random"] == 10


def test_a_judge_that_knows_every_level_scores_one_and_its_opposite_minus_one():
    def judge(request, sign):
        answers = []
        for text in levels_of(request):
            others = [t for t in text if t not in (" ANIMAL", " stone")]
            owner = next(r for r in windows() if others[0] in r.tokens)
            values = dict(zip(owner.tokens, owner.activations, strict=True))
            answers.append([int(np.ceil(values[t] * 0.9)) if sign > 0
                            else 9 - int(np.ceil(values[t] * 0.9)) for t in text])  # fmt: skip
        return answers

    own, _ = scored(Bricken60Scorer("made"), job_of(), lambda r: judge(r, 1))
    assert own.value == pytest.approx(1.0, abs=1e-4)  # two of ten levels fall together
    assert own.details["intensity_spearman"] == pytest.approx(1.0, abs=0.02)
    opposite, _ = scored(Bricken60Scorer("made"), job_of(), lambda r: judge(r, -1))
    assert opposite.value == pytest.approx(-own.value)


def test_a_window_of_a_document_with_several_is_drawn_as_often_as_its_weight_says():
    """Thirty windows without a top token, of which ten are drawn; twenty are of one document."""
    made = [window(i, 5.0) for i in range(4)]
    silent = [window(200 + i, 0.0) for i in range(30)]
    made += [replace(w, document_id="long") if i < 20 else w for i, w in enumerate(silent)]
    long = {w.window for w in made if w.document_id == "long"}
    shares = []
    for seed in range(60):
        scorer = Bricken60Scorer("made", n_replicates=2, seed=seed)
        what = job(record=unit(made))
        plan = scorer.plan(what, scorer.windows(what))
        drawn = {item.windows[0].window for item in plan.items if item.kind == "random"}
        assert len(drawn) == 10
        shares.append(len(drawn & long) / 10)
    assert np.mean(shares) == pytest.approx(2 / 3, abs=0.06)


def test_sixty_windows_are_those_of_the_source():
    made = [window(i, 10 * (i % 13 + 0.5) / 13) for i in range(13 * 9)]
    made += [window(200 + i, 0.0) for i in range(30)]
    made += [window(300 + i, 0.0, hard_by=HardBy.TOP_TOKEN) for i in range(30)]
    score, (request,) = scored(Bricken60Scorer("made"), job_of(of=made), lambda r: "")
    texts = levels_of(request)
    assert n_asked(request) == len(texts) == 60
    counts = [score.details[f"n_texts_{k}"] for k in ("active", "random", "out_of_context")]
    assert counts == [6 + 2 * 12, 10, 20]
    assert sum(" ANIMAL" in text for text in texts) == 50
    assert all(len(text) == 9 for text in texts)


def test_without_promoted_tokens_or_counterparts_there_is_no_question():
    what = job_of()
    nothing = replace(what, record=replace(what.record, promoted=None))
    score, requests = scored(LogitWeightScorer("made"), nothing, lambda r: "")
    assert (score.status, requests) == (Status.INSUFFICIENT_DATA, [])
    assert "output_tokens" in score.reason
    same = replace(what, others=(unit([], promoted=PROMOTED),))
    score, requests = scored(LogitWeightScorer("made"), same, lambda r: "")
    assert (score.status, requests) == (Status.INSUFFICIENT_DATA, [])


def test_counterparts_have_the_same_form_and_are_nobody_s_own():
    generator = np.random.default_rng(0)
    others = [" dog", "}", " River", "ing", " 7", " hills", "Dog", ";"]
    pairs = matched([" Lake", "{", " stone"], [" Lake", "{", " stone", " dog"], others, generator)
    assert pairs == [(" Lake", " River"), ("{", pairs[1][1]), (" stone", " hills")]
    assert pairs[1][1] in "};" and " dog" not in dict(pairs).values()
    assert matched([" a"], [" a"], [], generator) == []


def test_a_token_that_the_explanation_names_is_counted():
    score, _ = scored(LogitWeightScorer("made"), job_of(own="the words horse and Dog"),
                      lambda r: [True] * n_asked(r))  # fmt: skip
    assert score.details["n_named"] == 2
    assert score.details["base_rate"] == score.details["chance"] == 0.5


def test_a_side_without_weight_counts_as_a_coin():
    truth, answers = np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 0, 0])
    rows = np.array([[1.0, 1, 1, 1], [2, 0, 0, 0], [0, 0, 1, 1]])
    assert balanced(rows, truth, answers) == pytest.approx([0.75, 0.75, 0.75])
