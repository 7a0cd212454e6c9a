"""Explainers that touch the subject: revision and token change, on planted directions."""

import json
import re

import pytest

from autointerp.config import ExplainerConfig
from autointerp.explainers import ExplainView, Revision, TokenChanges
from autointerp.llm import Request, Response, ResponseStatus, Usage
from autointerp.records import Status, UsageError
from tests.planted_subject import CATEGORIES, NAMES, Planted

ANIMALS = NAMES.index("animals")


@pytest.fixture(scope="module")
def planted():
    return Planted()


def explained(planted, explainer, index, model):
    """Run an explainer to its end; returns the explanation and what the model was asked."""
    steps = explainer.explain(ExplainView.of(planted.record(index)), "key")
    asked = []

    def answer(request):
        if isinstance(request, Request):
            asked.append(request)
            found = model(request)
            if isinstance(found, Response):
                return found
            return Response(found, ResponseStatus.OK, Usage(100, 0, 10))
        return planted.live.handlers[type(request)]([request])[0]

    try:
        requests = next(steps)
        while True:
            requests = steps.send([answer(request) for request in requests])
    except StopIteration as end:
        return end.value, asked


def last(request):
    return request.messages[-1].content


def scientist(request):
    """Guesses too narrowly, tests dogs against colours, and reads off what fired."""
    if request.schema is not None:
        animals, colours = CATEGORIES["animals"], CATEGORIES["colours"]
        return json.dumps(
            {
                "fires": [f" so we saw the{animals[1]} near", f" so we saw the{animals[2]} near"],
                "silent": [f" so we saw the{colours[0]} near", f" so we saw the{animals[3]} near"],
            }
        )
    if "expected" in last(request):
        fired = re.findall(r"response (\d+): (.*)", last(request))
        words = [re.findall("<<(.*?)>>", text)[0].strip() for level, text in fired if level != "0"]
        return "words such as " + ", ".join(words)
    return "[EXPLANATION]: only dogs"


def test_the_explanation_is_revised_by_what_the_unit_truly_did(planted):
    explainer = Revision("words", n_rounds=1, n_texts=2)
    found, asked = explained(planted, explainer, ANIMALS, scientist)
    assert found.status == Status.OK and found.text == "words such as cat, horse, bird"
    assert len(asked) == 3 and "only dogs" in last(asked[1]) and "only dogs" in last(asked[2])
    tests = found.details["rounds"][1]["tests"]
    assert [(one["expected"], one["level"]) for one in tests] == [
        (True, 10), (True, 10), (False, 0), (False, 10),
    ]  # fmt: skip
    assert tests[0]["text"] == "so we saw the <<cat>> near"
    assert found.details["usage"]["output_tokens"] == 30


def test_each_round_starts_from_the_words_of_the_one_before(planted):
    explainer = Revision("words", n_rounds=3, n_texts=2)
    found, asked = explained(planted, explainer, ANIMALS, scientist)
    assert len(asked) == 7 and len(found.details["rounds"]) == 4
    assert "words such as cat, horse, bird" in last(asked[3])


def test_answers_that_cannot_be_read_leave_the_words_as_they_are(planted):
    def broken(request):
        if request.schema is not None:
            return "these are no texts"
        return scientist(request)

    found, asked = explained(planted, Revision("words", n_texts=2), ANIMALS, broken)
    assert found.text == "only dogs" and len(asked) == 3
    assert [step.get("problem") for step in found.details["rounds"][1:]] == [
        "the proposed texts cannot be read"
    ] * 2

    def silent(request):
        if "expected" in last(request) and request.schema is None:
            return Response(None, ResponseStatus.REFUSED)
        return scientist(request)

    found, _ = explained(planted, Revision("words", n_rounds=1, n_texts=2), ANIMALS, silent)
    assert found.text == "only dogs" and found.status == Status.OK


def test_without_a_first_explanation_nothing_is_revised(planted):
    found, asked = explained(
        planted, Revision("words"), ANIMALS, lambda r: Response(None, ResponseStatus.REFUSED)
    )
    assert found.text is None and found.status == Status.FAILED and len(asked) == 1


def test_rounds_are_one_to_three_and_enter_the_fingerprint():
    with pytest.raises(UsageError, match="set 1 to 3"):
        Revision("words", n_rounds=4)
    with pytest.raises(ValueError, match="n_rounds of type revision is 1 to 3, not 4"):
        ExplainerConfig(name="words", type="revision", n_rounds=4)
    assert Revision("a").fingerprint != Revision("a", n_rounds=1).fingerprint
    assert Revision("a").needs.json_schema


@pytest.mark.parametrize("name", NAMES[:3])
def test_clamping_shows_the_words_that_were_planted(name, planted):
    seen = {}

    def model(request):
        rising = re.search("Likelier: (.*)", last(request))[1]
        seen["rising"] = re.findall('"(.*?)"', rising)
        return f"things like {seen['rising'][0]}"

    explainer = TokenChanges("output", n_tokens=5)
    found, _ = explained(planted, explainer, NAMES.index(name), model)
    assert {word.strip() for word in seen["rising"]} == {w.strip() for w in CATEGORIES[name]}
    assert found.status == Status.OK and found.details["rising"] == seen["rising"]
