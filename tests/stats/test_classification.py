import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp.records import Status
from autointerp.stats import auprc, auroc, balanced_accuracy, f1, weighted_auprc


def test_auroc_counts_pairs_and_half_of_ties():
    labels, scores = [1, 1, 1, 0, 0], [3.0, 1.0, 2.0, 1.0, 2.0]
    pairs = itertools.product([3.0, 1.0, 2.0], [1.0, 2.0])
    wins = sum((p > q) + (p == q) / 2 for p, q in pairs)
    assert auroc(labels, scores).value == pytest.approx(wins / 6)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=60))
def test_auroc_is_mann_whitney_and_turns_with_the_sign(items):
    labels, scores = [label for label, _ in items], [float(score) for _, score in items]
    if len(set(labels)) == 1:
        assert auroc(labels, scores).value is None
        return
    positives = [s for y, s in zip(labels, scores, strict=True) if y]
    negatives = [s for y, s in zip(labels, scores, strict=True) if not y]
    u = stats.mannwhitneyu(positives, negatives).statistic
    value = auroc(labels, scores).value
    assert value == pytest.approx(u / (len(positives) * len(negatives)))
    assert auroc(labels, [-s for s in scores]).value == pytest.approx(1 - value)


def test_auprc_is_average_precision():
    # Ranked 1 0 1 1 0: precisions 1, 2/3, 3/4 at the three positives.
    estimate = auprc([1, 0, 1, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert estimate.value == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert estimate.prevalence == pytest.approx(0.6)
    assert estimate.n == 5


def test_auprc_lets_tied_items_enter_together():
    assert auprc([1, 0, 1, 0], [1.0, 1.0, 0.0, 0.0]).value == pytest.approx(0.5)
    assert auprc([0, 1, 0, 1], [1.0, 1.0, 0.0, 0.0]).value == pytest.approx(0.5)


def test_auprc_of_random_scores_is_the_prevalence():
    rng = np.random.default_rng(0)
    labels = rng.random(50_000) < 0.05
    assert auprc(labels, rng.random(50_000)).value == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(("tpr", "fpr", "prevalence"), [(0.8, 0.2, 0.5), (0.9, 0.4, 0.1)])
def test_a_judge_of_known_rates_gets_its_closed_form(tpr, fpr, prevalence):
    n = 1000
    positives = round(n * prevalence)
    labels = np.arange(n) < positives
    hits, alarms = round(tpr * positives), round(fpr * (n - positives))
    answers = np.zeros(n, dtype=bool)
    answers[:hits] = True
    answers[positives : positives + alarms] = True
    assert balanced_accuracy(labels, answers).value == pytest.approx((tpr + 1 - fpr) / 2)
    expected = 2 * tpr * prevalence / (tpr * prevalence + fpr * (1 - prevalence) + prevalence)
    assert f1(labels, answers).value == pytest.approx(expected)


def test_one_answer_for_everything_is_chance_and_flagged():
    labels = [1, 0, 0, 0]
    for estimate in (balanced_accuracy(labels, [1] * 4), auroc(labels, [0.3] * 4)):
        assert estimate.value == pytest.approx(0.5)
        assert estimate.status is Status.CONSTANT_PREDICTION
    assert auprc(labels, [0.3] * 4).value == pytest.approx(0.25)
    assert f1(labels, [1] * 4).value == pytest.approx(2 * 0.25 / 1.25)
    assert f1(labels, [0] * 4).value == 0
    assert auroc([1, 1, 0, 0], [1.0, 0.0, 1.0, 0.0]).status is Status.OK


@pytest.mark.parametrize("metric", [auroc, auprc, balanced_accuracy, f1])
@pytest.mark.parametrize(
    ("labels", "prevalence"), [([], None), ([1, 1], 1.0), ([0, 0], 0.0), ([True], 1.0)]
)
def test_a_missing_class_is_undefined(metric, labels, prevalence):
    estimate = metric(labels, [k % 2 for k in range(len(labels))])
    assert estimate.value is None
    assert estimate.status is Status.UNDEFINED_TRUTH
    assert estimate.prevalence == prevalence


def test_unusable_inputs_are_refused():
    with pytest.raises(ValueError, match="2 labels, but 1 scores"):
        auroc([0, 1], [0.5])
    with pytest.raises(ValueError, match=r"labels must be 0 or 1, got 2.0 at position 1"):
        auroc([0, 2], [0.5, 0.6])
    with pytest.raises(ValueError, match=r"answers must be 0 or 1, got 0.7"):
        f1([0, 1], [0.7, 1])
    with pytest.raises(ValueError, match="scores holds nan at position 1"):
        auprc([0, 1], [0.7, float("nan")])


@given(st.integers(0, 10_000))
def test_a_weight_is_worth_as_many_copies_of_an_item_also_for_graded_scores(seed):
    generator = np.random.default_rng(seed)
    labels = generator.random(30) < 0.5
    labels[:2] = True, False
    scores = generator.integers(0, generator.integers(1, 9), 30) / 8
    weights = generator.integers(0, 4, (5, 30))
    weights[:, :2] = 1
    found = weighted_auprc(weights, labels, scores)
    expected = [auprc(np.repeat(labels, w), np.repeat(scores, w)).value for w in weights]
    assert found == pytest.approx(expected)


def test_without_weight_on_a_positive_average_precision_is_zero():
    assert weighted_auprc([[0.0, 1.0]], [True, False], [0.3, 0.2]).tolist() == [0.0]
