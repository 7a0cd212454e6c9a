"""SAEBench's fourteen texts: closed forms, what is shown, and what its negatives hide."""

from dataclasses import replace

import numpy as np
import pytest

from autointerp.config import ScoreConfig, ScorerConfig
from autointerp.records import Split, Status, Strata, UnitRecord, Window
from autointerp.scorers import SaebenchScorer, load_scorer
from tests.scorers.world import (
    UNIT,
    job,
    judge_of,
    question,
    record,
    scored,
    statistics,
    texts,
    window,
)

RIGHT = judge_of(lambda request, thing, place: "ANIMAL" in thing[0])


def scorer(**settings):
    return SaebenchScorer("made", n_replicates=100, **settings)


def random_windows(density, n, seed, length=21):
    """Windows in which every token is the unit's with some probability, by themselves."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(n):
        one = window(50_000 + number, 0.0, length=length)
        values = np.where(generator.random(length) < density, 5.0, 0.0).astype(np.float32)
        tokens = tuple(" ANIMAL" if v else " stone" for v in values)
        where = Window(f"r{seed}.{number}", 0, length)
        found.append(replace(one, tokens=tokens, activations=values, masked=np.zeros(length, bool),
                             stratum=Strata.RANDOM, window=where))  # fmt: skip
    return found


def test_all_fourteen_texts_stand_in_one_question_two_two_and_ten():
    asked = []

    def judge(request):
        asked.append(request)
        return RIGHT(request)

    score = scored(scorer(), job(record(n_active=12, n_silent=30)), judge)
    assert len(asked) == 1 and len(texts(asked[0])) == 14
    assert score.details["n_positive"] == 4 and score.details["n_negative"] == 10
    assert "14" not in question(asked[0]).split("<text")[0] and score.value == 1.0
    # The two most active windows are among them, whatever is drawn.
    assert {"level01000", "level00921"} <= {t.split()[1] for t in texts(asked[0])}


@pytest.mark.parametrize(("says", "expected"), [(False, 10 / 14), (True, 4 / 14)])
def test_the_same_answer_to_everything_scores_the_published_base_rate(says, expected):
    score = scored(scorer(), job(record(n_silent=30)), judge_of(lambda *_: says))
    assert score.value == pytest.approx(expected) and score.details["chance"] == 10 / 14
    assert score.status == Status.CONSTANT_PREDICTION


@pytest.mark.parametrize(
    ("density", "published"), [(0.001, 0.985), (0.01, 0.864), (0.03, 0.662), (0.1, 0.364)]
)
def test_unverified_negatives_cost_a_perfect_judge_what_the_closed_form_says(density, published):
    """The expected accuracy of a judge that is never wrong, tokens firing independently."""
    expected = 1 - 10 / 14 * (1 - (1 - density) ** 21)
    assert expected == pytest.approx(published, abs=5e-4)
    base = record(n_active=12, n_silent=10)
    values, firing = [], []
    for seed in range(60):
        windows = (*base.records, *random_windows(density, 10, seed))
        unit = UnitRecord(UNIT, windows, statistics())
        score = scored(scorer(verified=False), job(unit), RIGHT)
        values.append(score.value)
        firing.append(score.details["n_firing_negatives"])
        assert score.value == pytest.approx(1 - firing[-1] / 14)
    assert abs(np.mean(values) - expected) < 4 * max(np.std(values), 0.01) / np.sqrt(60)
    assert not scored(scorer(), job(unit), RIGHT).details["n_firing_negatives"]


def test_texts_are_cut_to_21_tokens_and_hold_the_strongest_one():
    shown = []

    def judge(request):
        shown.extend(texts(request))
        return RIGHT(request)

    score = scored(scorer(), job(record(n_silent=30, length=60)), judge)
    assert score.value == 1.0 and sum("ANIMAL" in text for text in shown) == 4
    assert all(len(text.split()) <= 21 for text in shown)


def test_a_random_window_that_was_drawn_for_its_stratum_too_still_counts_as_random():
    base = record(n_active=12)
    twice = [replace(one, stratum=Strata.RANDOM) for one in base.records[:12]]
    unit = UnitRecord(UNIT, (*base.records, *twice), statistics())
    score = scored(scorer(verified=False), job(unit), RIGHT)
    # No text is both: of the twelve four are shown as active ones.
    assert score.details["n_negative"] == score.details["n_firing_negatives"] == 8
    assert score.value == pytest.approx(4 / 12)


def test_without_random_windows_there_is_nothing_unverified_to_score():
    score = scored(scorer(verified=False), job(record()), RIGHT)
    assert score.value is None and score.status == Status.INSUFFICIENT_DATA
    assert "no random window" in score.reason


def test_windows_of_other_splits_are_never_shown():
    hidden = window(7, 9.0, split=Split.AUDIT, word=" ZEBRA")
    base = record()
    unit = UnitRecord(UNIT, (*base.records, hidden), statistics())
    shown = []
    scored(scorer(), job(unit), lambda r: shown.append(question(r)) or RIGHT(r))
    assert "ZEBRA" not in "".join(shown)


def test_an_answer_to_the_wrong_number_of_texts_is_missing_not_wrong():
    score = scored(scorer(), job(record(n_silent=30)), lambda _: '{"answers": [true]}')
    assert score.value is None and score.status == Status.FAILED


def test_it_is_made_from_a_config():
    config = ScorerConfig(name="s", type="saebench", verified=False)
    made = load_scorer(config, ScoreConfig(), "made")
    assert isinstance(made, SaebenchScorer) and not made.verified
    assert made.identity() != scorer().identity()
