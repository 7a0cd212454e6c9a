"""Several labels for a unit of several meanings."""

import numpy as np
import pytest

from autointerp.explainers import Clusters
from autointerp.explainers.best_of import candidates_of
from autointerp.explainers.clusters import cluster_labels, embed_surroundings, mean_silhouette
from autointerp.llm import Response, ResponseStatus
from autointerp.records import Status, UnitRecord
from tests.explainers.asked import answered, asked, text_of
from tests.explainers.planted import UNIT, animals, record

SEA = [" the", " ship", " sank", " at", " sea"]
TAX = [" they", " owe", " tax", " this", " year"]


def two_meanings() -> UnitRecord:
    """Fires on ships and on taxes, the ships a little more strongly."""
    ships = [record([*SEA, f" n{i}"], {1: 10.0 - i / 10}, number=i) for i in range(5)]
    taxes = [record([*TAX, f" m{i}"], {2: 9.0 - i / 10}, number=9 + i) for i in range(5)]
    return UnitRecord(UNIT, (*ships, *taxes), {})


M = "[EXPLANATION]:"


def test_two_meanings_are_asked_for_apart_and_given_together():
    requests = asked(Clusters(), two_meanings())
    assert len(requests) == 2
    questions = [request.messages[-1].content for request in requests]
    assert "ship" in questions[0] and "tax" not in questions[0]
    assert "tax" in questions[1] and "ship" not in questions[1]
    explanation = answered(Clusters(), two_meanings(), f"{M} ships", f"{M} taxes")
    assert explanation.text == "ships; or taxes"
    assert [c["text"] for c in explanation.details["clusters"]] == ["ships", "taxes"]
    assert [len(c["sequences"]) for c in explanation.details["clusters"]] == [5, 5]


def test_one_meaning_is_asked_for_once():
    same = [record([*SEA, f" n{i}"], {1: 10.0 - i / 10}, number=i) for i in range(10)]
    assert len(asked(Clusters(), UnitRecord(UNIT, tuple(same), {}))) == 1
    assert len(asked(Clusters(), animals())) == 1


def test_the_union_alone_is_scored_and_never_the_best_of_its_labels():
    explanation = answered(Clusters(), two_meanings(), f"{M} ships", f"{M} taxes")
    assert [found.text for found in candidates_of([explanation])] == ["ships; or taxes"]
    assert [label["text"] for label in explanation.details["labels"]] == ["ships", "taxes"]
    assert "candidates" not in explanation.details
    broken = Response(None, ResponseStatus.REFUSED, reason="policy")
    assert candidates_of([answered(Clusters(), two_meanings(), f"{M} ships", broken)]) == []


def test_the_same_label_twice_is_said_once():
    explanation = answered(Clusters(), two_meanings(), f"{M} nouns")
    assert explanation.text == "nouns"


def test_a_union_that_lacks_a_label_is_a_failure_not_the_rest():
    broken = Response(None, ResponseStatus.REFUSED, reason="policy")
    explanation = answered(Clusters(), two_meanings(), f"{M} ships", broken)
    assert (explanation.status, explanation.text) == (Status.FAILED, None)
    assert "1 of 2" in explanation.reason and "policy" in explanation.reason


def test_several_samples_of_each_group_fill_in_for_one_another():
    explainer = Clusters(n_samples=2, temperature=1.0)
    answers = ["none", f"{M} ships", f"{M} taxes", "none"]
    assert answered(explainer, two_meanings(), *answers).text == "ships; or taxes"


def test_one_group_is_wanted_where_only_one_is_allowed():
    assert len(asked(Clusters(n_clusters=1), two_meanings())) == 1


@pytest.mark.parametrize("n", [2, 3, 4])
def test_planted_groups_are_found(n):
    generator = np.random.default_rng(n)
    centres = np.eye(n, 8)
    vectors = np.repeat(centres, 6, axis=0) + 0.05 * generator.normal(size=(6 * n, 8))
    labels = cluster_labels(vectors, 6)
    assert len(set(labels)) == n
    assert all(len(set(labels[i : i + 6])) == 1 for i in range(0, 6 * n, 6))


def test_noise_in_many_dimensions_makes_no_groups():
    vectors = np.random.default_rng(0).normal(size=(40, 200))
    assert len(set(cluster_labels(vectors, 4))) == 1


def test_a_single_odd_window_is_no_group_of_its_own():
    vectors = np.vstack([np.tile([1.0, 0, 0], (9, 1)), [[0, 1.0, 0]]])
    assert len(set(cluster_labels(vectors, 4))) == 1


def test_the_silhouette_is_rousseeuws():
    """a = 1, b = 3 and 4 for the pair's members, 0 for the group of one, by hand."""
    distances = np.array([[0, 1.0, 3], [1, 0, 4], [3, 4, 0]])
    assert mean_silhouette(distances, [0, 0, 1]) == pytest.approx((2 / 3 + 3 / 4 + 0) / 3)


def test_words_near_the_activation_weigh_more():
    (vector,) = embed_surroundings([record([" a", " b", " c"], {0: 5.0})])
    weights = vector / vector[0]
    assert weights == pytest.approx([1, np.exp(-1 / 4), np.exp(-2 / 4)])


def test_another_embedding_may_be_given():
    explainer = Clusters(embed=lambda windows: np.ones((len(windows), 3)))
    (request,) = asked(explainer, two_meanings())
    assert "ship" in text_of(request) and "tax" in text_of(request)
