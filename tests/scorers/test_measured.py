"""Scorers by a model on this machine: what it measures, and the score made of it."""

import math

import numpy as np
import pytest

from autointerp import stats
from autointerp.llm import Response, ResponseStatus
from autointerp.records import Split, Status
from autointerp.scorers.embedding import EmbeddingScorer
from autointerp.scorers.measured import Measurement, measured
from autointerp.scorers.surprisal import SurprisalScorer
from tests.scorers.made import job, scored, unit, window, windows


@pytest.fixture(params=[EmbeddingScorer, SurprisalScorer])
def scorer(request):
    return request.param("made", n_replicates=200)


def knowing(request: Measurement) -> Response:
    values = [float("ANIMAL" in text and request.explanation == "animals")
              for text in request.texts]  # fmt: skip
    return measured(values, 5, "reader")


def test_a_model_that_is_right_gives_one_and_other_words_chance(scorer):
    silent = windows(n_hard=0)
    score, requests = scored(scorer, job("stones", "rivers", record=unit(silent)), knowing)
    assert (score.value, score.status) == (1.0, Status.OK)
    prevalence = 40 / 60
    assert score.control_mean == pytest.approx(prevalence) == score.details["chance"]
    assert score.lift == pytest.approx(1 - prevalence)
    assert score.details["auroc"] == 1.0
    assert len(requests) == 3
    assert score.interval is None or score.interval.high <= 1


def test_the_score_is_the_average_precision_of_the_numbers(scorer):
    generator = np.random.default_rng(0)
    values = generator.normal(size=72)
    score, requests = scored(scorer, job(), lambda r: measured(values, 5, "reader"))
    labels = [i < 40 for i in range(72)]
    assert score.value == pytest.approx(stats.auprc(labels, values).value)
    assert score.details["auroc"] == pytest.approx(stats.auroc(labels, values).value)
    assert score.interval is not None
    assert score.interval.low <= score.value <= score.interval.high
    assert len(requests[0].texts) == 72


def test_random_constant_and_length_are_chance(scorer):
    generator = np.random.default_rng(1)
    found = [
        scored(scorer, job(), lambda r: measured(generator.normal(size=len(r.texts)), 1, "r"))[0]
        for _ in range(60)
    ]
    mean = np.mean([score.value for score in found])
    assert mean == pytest.approx(40 / 72, abs=0.03)
    constant, _ = scored(scorer, job("x"), lambda r: measured([0.3] * len(r.texts), 1, "r"))
    assert constant.status is Status.CONSTANT_PREDICTION
    assert constant.value == pytest.approx(40 / 72) and constant.lift == 0
    # A number that depends on the text alone is the same under every explanation: no lift.
    by_length, _ = scored(scorer, job("x", "y"), lambda r: measured(
        [float(len(text)) for text in r.texts], 1, "r"))  # fmt: skip
    assert by_length.lift == pytest.approx(0)


def test_what_cannot_be_measured_is_left_out_and_counted(scorer):
    def partly(request):
        values = [1.0 if "ANIMAL" in text else 0.0 for text in request.texts]
        return measured([math.nan, *values[1:]], 5, "reader")

    score, _ = scored(scorer, job("x"), partly)
    assert score.details["n_unanswered"] == score.details["n_left_out"] == 1
    assert score.details["n"] == 71
    failed, _ = scored(scorer, job(), lambda r: Response(None, ResponseStatus.FAILED, reason="no"))
    assert (failed.value, failed.status) == (None, Status.FAILED)


def test_only_the_scored_split_is_measured(scorer):
    others = [w for s in (Split.EXPLAIN, Split.CALIBRATE, Split.AUDIT) for w in windows(split=s)]
    _, alone = scored(scorer, job(), knowing)
    _, among = scored(scorer, job(record=unit([*others, *windows()])), knowing)
    assert alone == among


def test_too_little_to_compare_is_said(scorer):
    few = [window(i, 5.0) for i in range(2)] + windows(0)
    assert scored(scorer, job(record=unit(few)), knowing)[0].status is Status.INSUFFICIENT_DATA
    none = [window(i, 5.0) for i in range(9)]
    score, _ = scored(scorer, job(record=unit(none)), knowing)
    assert score.status is Status.INSUFFICIENT_DATA and "silent" in score.reason


def test_no_language_model_is_needed(scorer):
    assert not scorer.needs.json_schema and not scorer.needs.logprobs
