"""Ensembles of both sides, on planted directions whose words are read and written alike."""

import re

import pytest

from autointerp.config import ExplainerConfig
from autointerp.explainers import Ensemble, load_explainer
from autointerp.llm import Response, ResponseStatus
from autointerp.records import Status, UsageError
from tests.explainers.test_touching import ANIMALS, explained, last
from tests.planted_subject import CATEGORIES, NAMES, Planted

WORDS = {word.strip() for word in CATEGORIES["animals"]}


@pytest.fixture(scope="module")
def planted():
    return Planted()


def test_raw_shows_texts_and_tokens_in_one_question(planted):
    found, asked = explained(
        planted, Ensemble("both"), ANIMALS, lambda _: "[EXPLANATION]: words for animals"
    )
    assert found.text == "words for animals" and len(asked) == 1
    highlighted = set(re.findall("<<(.*?)>>", last(asked[0])))
    rising = re.findall('"(.*?)"', re.search("^Likelier: (.*)", last(asked[0]), re.MULTILINE)[1])
    assert highlighted == WORDS and set(rising[:5]) == WORDS
    assert found.details["rising"] == rising and found.details["n_windows"] == 8


def test_concat_is_the_two_descriptions_one_after_the_other(planted):
    def model(request):
        return "[EXPLANATION]: names of pets" if "<<" in last(request) else "what barks"

    found, asked = explained(planted, Ensemble("both", join="concat"), ANIMALS, model)
    assert found.text == "names of pets; what barks" and len(asked) == 2
    assert {side: part["text"] for side, part in found.details["parts"].items()} == {
        "responds": "names of pets", "writes": "what barks",
    }  # fmt: skip
    assert found.details["usage"]["output_tokens"] == 20


def test_what_is_said_twice_is_said_once(planted):
    found, _ = explained(
        planted, Ensemble("b", join="concat"), ANIMALS,
        lambda r: "[EXPLANATION]: animals" if "<<" in last(r) else "Animals",
    )  # fmt: skip
    assert found.text == "animals"


@pytest.mark.parametrize(
    ("side", "said"), [("<<", "what it responds to"), ("Likelier", "what it writes")]
)
def test_one_description_alone_is_no_ensemble(planted, side, said):
    def model(request):
        if side in last(request):
            return Response(None, ResponseStatus.REFUSED, reason="policy")
        return "[EXPLANATION]: animals"

    found, _ = explained(planted, Ensemble("both", join="concat"), ANIMALS, model)
    assert found.text is None and found.status == Status.FAILED
    assert found.reason.startswith(f"no words for {said}") and "policy" in found.reason


@pytest.mark.parametrize("answer", ["", "animals without a marker", "[EXPLANATION]: 42"])
def test_an_answer_without_words_is_a_failure(planted, answer):
    found, _ = explained(planted, Ensemble("both"), ANIMALS, lambda _: answer)
    assert found.status == Status.FAILED and found.text is None and found.reason


def test_settings_enter_the_fingerprint_and_wrong_ones_are_refused():
    made = load_explainer(ExplainerConfig(name="a", type="ensemble", join="concat", strength=2.0))
    assert made.writes.strength == 2.0 and made.join == "concat"
    prints = {Ensemble("a", **s).fingerprint for s in ({}, {"join": "concat"}, {"strength": 2.0})}
    assert len(prints) == 3
    with pytest.raises(UsageError, match="leave `prompt` out"):
        Ensemble("a", join="concat", prompt="explain_ensemble")
    with pytest.raises(UsageError, match="set raw or concat"):
        Ensemble("a", join="both")  # type: ignore


def test_every_planted_unit_is_shown_its_own_words(planted):
    for name in NAMES[:3]:
        _, asked = explained(planted, Ensemble("b"), NAMES.index(name), lambda _: "x")
        assert all(f'"{word.strip()}"' in last(asked[0]) for word in CATEGORIES[name])
