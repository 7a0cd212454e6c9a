"""The simulators that ask a language model: structured, generated, one at a time."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm import CachedClient, Capabilities, Response, ResponseCache, ResponseStatus
from autointerp.records import AutointerpError, UsageError
from autointerp.simulators.asked import level_distribution, quoted
from autointerp.simulators.generated import Generated
from autointerp.simulators.one_at_a_time import OneAtATime
from autointerp.simulators.structured import Structured
from tests.simulators.asking import (
    HOSTILE,
    Model,
    names_tokens,
    numbered,
    peaked,
    said,
    says_one_digit,
    told,
    writes_lines,
)

TEXTS = (
    ("The", " cat", " sat", " on", " a", " dog"),
    (" no", " animals"),
    (),
    ("cat",),
)


def animals(explanation: str, token: str) -> int:
    return 9 if token.strip() in ("cat", "dog") and explanation == "animals" else 0


def structured(model=None, **options) -> Structured:
    return Structured(model or Model(names_tokens(animals)), **options)


def generated(model=None, **options) -> Generated:
    return Generated(model or Model(writes_lines(animals)), **options)


def one_at_a_time(model=None, **options) -> OneAtATime:
    return OneAtATime(model or Model(says_one_digit(animals)), **options)


KINDS = [
    (structured, names_tokens), (generated, writes_lines), (one_at_a_time, says_one_digit),
]  # fmt: skip


@pytest.mark.parametrize(("make", "_"), KINDS)
def test_a_model_that_knows_is_read_as_it_means(make, _):
    simulations = make().simulate("animals", TEXTS)
    for tokens, simulation in zip(TEXTS, simulations, strict=True):
        truth = np.array([animals("animals", token) for token in tokens], float)
        assert simulation.expected.shape == (len(tokens),)
        assert simulation.known.all()
        assert np.abs(simulation.expected - truth).max(initial=0) < 1


@pytest.mark.parametrize(("make", "speak"), KINDS)
def test_no_token_of_a_text_shifts_a_level(make, speak):
    order = {token: place for place, token in enumerate(HOSTILE)}
    top = make().n_levels - 1

    def own_place(_: str, token: str) -> int:
        return order[token] % (top + 1)

    model = Model(speak(own_place))
    (simulation,) = make(model).simulate("anything", [HOSTILE])
    expected = [own_place("", token) for token in HOSTILE]
    assert simulation.known.all()
    assert np.abs(simulation.expected - expected).max() < 1


@given(st.lists(st.text(max_size=6), min_size=1, max_size=12))
def test_no_text_at_all_shifts_a_level(tokens):
    """Each model answers its own place in the list, read back from the question it was shown."""

    def answer(request):
        (shown,) = numbered(request.messages[-1].content)
        assert shown == tokens
        pieces = [
            piece
            for place in range(len(shown))
            for piece in ((f"{place + 1}\t", ()), (str(place % 10), peaked(place % 10)), ("\n", ()))
        ]
        return told(pieces)

    (simulation,) = Generated(Model(answer)).simulate("x", [tokens])
    assert simulation.known.all()
    places = np.arange(len(tokens)) % 10
    assert np.abs(simulation.expected - places).max() < 1


@given(st.text(max_size=20))
def test_a_quoted_text_is_one_line_and_reads_back(text):
    shown = quoted(text)
    assert len(shown.splitlines()) == 1
    assert json.loads(shown) == text


def test_the_expected_level_is_the_mean_over_levels_and_the_mass_what_lies_on_them():
    top = (("3", math.log(0.3)), (" 5", math.log(0.1)), ("x", math.log(0.5)), ("10", -3.0))
    expected, mass = level_distribution(top, 10)
    assert expected == pytest.approx((3 * 0.3 + 5 * 0.1) / 0.4)
    assert mass == pytest.approx(0.4)
    assert level_distribution((("the", -0.1), ("11", -1.0), ("-1", -1.0)), 10) == (0.0, 0.0)


# ------------------------------------------------------------------ malformed answers


@pytest.mark.parametrize(
    "answer",
    [
        "no JSON",
        '{"texts": []}',
        '{"texts": [{"text": 1, "active": [{"token": 4, "level": 3}]}]}',
        '{"texts": [{"text": 1, "active": [{"token": 1, "level": 3}, {"token": 1, "level": 4}]}]}',
        '{"texts": [{"text": 1, "active": [{"token": 1, "level": 11}]}]}',
        '{"texts": [{"text": 1, "active": [{"token": 0, "level": 1}]}]}',
        '{"texts": [{"text": 1, "active": [{"token": 1, "level": NaN}]}]}',
        '{"texts": [{"text": 2, "active": []}]}',
    ],
)
def test_a_structured_answer_that_cannot_be_trusted_leaves_the_text_missing(answer):
    (simulation,) = structured(Model(lambda _: said(answer))).simulate("x", [("a", "b", "c")])
    assert not simulation.known.any()
    assert not simulation.level_mass.any()


def test_a_text_that_is_answered_twice_is_missing_and_the_others_are_not():
    entries = [
        {"text": 1, "active": []},
        {"text": 1, "active": [{"token": 1, "level": 4}]},
        {"text": 3, "active": [{"token": 2, "level": 4}]},
    ]
    model = Model(lambda _: said(json.dumps({"texts": entries})))
    first, second, third = structured(model).simulate("x", [("a", "b")] * 3)
    assert not first.known.any()
    assert not second.known.any()
    assert third.known.all()
    assert third.expected.tolist() == [0, 4]


def test_a_token_number_beyond_its_own_text_is_not_taken_from_a_longer_neighbour():
    entries = [
        {"text": 1, "active": [{"token": 3, "level": 4}]},
        {"text": 2, "active": [{"token": 3, "level": 4}]},
    ]
    model = Model(lambda _: said(json.dumps({"texts": entries})))
    short, long = structured(model).simulate("x", [("a",), ("a", "b", "c")])
    assert not short.known.any()
    assert long.expected.tolist() == [0, 0, 4]


def test_texts_are_asked_about_in_groups_and_one_bad_answer_loses_one_group():
    model = Model(names_tokens(animals))
    first = model._answer

    def broken(request):
        return said("?") if "loser" in request.messages[-1].content else first(request)

    model._answer = broken
    texts = [("cat",), ("dog",), ("loser",), ("cat",), ("dog",)]
    found = structured(model, sequences_per_call=2).simulate("animals", texts)
    assert [simulation.known.all() for simulation in found] == [True, True, False, False, True]


LINES = [("1\t", ()), ("3", peaked(3)), ("\n", ()), ("2\t", ()), ("7", peaked(7)), ("\n", ())]


def test_lines_that_are_missing_twice_there_or_of_another_form_are_missing():
    pieces = [
        *LINES,
        ("4\t", ()), ("1", peaked(1)), ("\n", ()),
        ("4\t", ()), ("2", peaked(2)), ("\n", ()),
        ("5: ", ()), ("2", peaked(2)), ("\n", ()),
        ("6\t", ()), ("1", peaked(1)), ("0", peaked(0)), ("\n", ()),
    ]  # fmt: skip
    (simulation,) = generated(Model(lambda _: told(pieces))).simulate("x", [("a",) * 6])
    assert simulation.known.tolist() == [True, True, False, False, False, False]
    assert simulation.expected[:2] == pytest.approx([3, 7], abs=0.6)


@pytest.mark.parametrize("number", ["0", "7", "99999"])
def test_a_line_for_a_token_that_is_not_there_leaves_the_text_missing(number):
    pieces = [*LINES, (f"{number}\t", ()), ("3", peaked(3)), ("\n", ())]
    (simulation,) = generated(Model(lambda _: told(pieces))).simulate("x", [("a",) * 6])
    assert not simulation.known.any()


def test_what_was_cut_off_is_missing_and_the_lines_before_are_not():
    pieces = [*LINES, ("3\t", ()), ("4", peaked(4))]
    model = Model(lambda _: told(pieces, status=ResponseStatus.TRUNCATED))
    (simulation,) = generated(model).simulate("x", [("a",) * 4])
    assert simulation.known.tolist() == [True, True, False, False]


def test_levels_are_read_wherever_a_tokenizer_puts_tab_and_line_break():
    pieces = [
        ("1", ()),
        ("\t3\n", peaked(3)),
        ("2", ()),
        ("\t7", peaked(7)),
        ("\n3\t", ()),
        ("1", ()),
    ]
    (simulation,) = generated(Model(lambda _: told(pieces))).simulate("x", [("a",) * 3])
    assert simulation.known.all()
    assert simulation.expected[:2] == pytest.approx([3, 7], abs=0.6)


@pytest.mark.parametrize(("make", "_"), KINDS)
@pytest.mark.parametrize(
    "response",
    [
        Response(None, ResponseStatus.FAILED, reason="down"),
        Response(None, ResponseStatus.REFUSED),
        Response(None, ResponseStatus.EMPTY),
        Response("", ResponseStatus.TRUNCATED),
    ],
)
def test_no_answer_is_missing_never_zero(make, _, response):
    found = make(Model(lambda _: response)).simulate("x", TEXTS)
    assert [simulation.known.any() for simulation in found] == [False] * 4
    assert [len(simulation.known) for simulation in found] == [6, 2, 0, 1]


def test_a_simulator_says_which_explanations_got_no_answer():
    def sulks(request):
        if "plants" in request.messages[-1].content:
            return Response(None, ResponseStatus.FAILED, reason="down")
        return names_tokens(animals)(request)

    simulator = structured(Model(sulks))
    simulator.simulate_many([("animals", TEXTS), ("plants", TEXTS)])
    assert simulator.unanswered == {1: "down"}
    simulator.simulate_many([("animals", TEXTS)])
    assert simulator.unanswered == {}


@pytest.mark.parametrize(("make", "_"), KINDS[1:])
def test_too_little_mass_on_levels_is_missing(make, _):
    vague = tuple((word, math.log(0.2)) for word in ("the", "a", "level"))
    answer = told([("1\t", ()), ("3", (*vague, ("3", math.log(0.005))))])
    alone = told([("3", (*vague, ("3", math.log(0.005))))])
    model = Model(lambda request: alone if request.max_tokens == 1 else answer)
    (simulation,) = make(model).simulate("x", [("a",)])
    assert not simulation.known.any()
    (simulation,) = make(model, mass_floor=0.001).simulate("x", [("a",)])
    assert simulation.known.all()
    assert simulation.level_mass == pytest.approx(0.005)


# ------------------------------------------------------------------ who can be asked


@pytest.mark.parametrize(("make", "_"), KINDS)
def test_a_model_that_lacks_what_is_needed_is_refused_by_name(make, _):
    dumb = Model(lambda _: said(""), Capabilities())
    with pytest.raises(UsageError, match=r"fake/model"):
        make(dumb)


def test_settings_out_of_range_are_refused():
    for make, options in (
        (structured, {"sequences_per_call": 0}),
        (generated, {"mass_floor": 2}),
        (one_at_a_time, {"top_logprobs": 1}),
        (generated, {"prompt": "nowhere"}),
        (generated, {"prompt": "simulate_tab_unknown"}),
    ):
        with pytest.raises(AutointerpError):
            make(**options)


def test_as_many_alternatives_are_asked_for_as_the_model_gives():
    model = Model(writes_lines(animals), Capabilities(logprobs=7))
    Generated(model).simulate("animals", TEXTS)
    assert {request.top_logprobs for request in model.asked} == {7}


# ------------------------------------------------------------------ cost


def test_what_was_paid_for_is_not_asked_again(tmp_path):
    model = Model(names_tokens(animals))
    for _ in range(2):
        with ResponseCache(tmp_path / "cache.sqlite") as cache:
            found = structured(CachedClient(model, cache)).simulate("animals", TEXTS)
        assert found[0].expected[1] == 9
    assert len(model.asked) == 1


@pytest.mark.parametrize(("make", "calls"), [(structured, 1), (generated, 3), (one_at_a_time, 9)])
def test_calls_for_four_texts(make, calls):
    model = {
        structured: Model(names_tokens(animals)),
        generated: Model(writes_lines(animals)),
        one_at_a_time: Model(says_one_digit(animals)),
    }[make]
    make(model).simulate("animals", TEXTS)
    assert len(model.asked) == calls


@pytest.mark.parametrize(("make", "speak"), KINDS)
def test_all_questions_share_what_stands_before_the_explanation(make, speak):
    model = Model(speak(animals))
    make(model).simulate_many([("animals", TEXTS), ("plants", TEXTS)])
    starts = {request.messages[: request.shared] for request in model.asked}
    assert len(starts) == 1
    assert all(len(request.messages) == request.shared + 1 for request in model.asked)


@pytest.mark.parametrize(("make", "speak"), KINDS)
def test_explanations_side_by_side_are_answered_as_alone(make, speak):
    simulator = make(Model(speak(animals)))
    together = simulator.simulate_many([("animals", TEXTS), ("plants", TEXTS)])
    assert together[0][0].expected[1] > 8
    assert together[1][0].expected[1] < 1


@pytest.mark.parametrize(("make", "speak"), KINDS)
def test_hostile_text_reaches_no_other_question(make, speak):
    """A question depends on its own explanation and texts alone, whatever else is simulated."""
    alone, beside = Model(speak(animals)), Model(speak(animals))
    options = {"sequences_per_call": 1} if make is structured else {}
    make(alone, **options).simulate("animals", [("cat",)])
    make(beside, **options).simulate_many([("animals", [("cat",), HOSTILE]), ("x", [HOSTILE])])
    assert alone.asked[0] in beside.asked


@pytest.mark.parametrize(("make", "speak"), KINDS)
def test_the_fingerprint_is_of_model_prompt_and_settings(make, speak, tmp_path):
    simulator = make(Model(speak(animals)))
    assert simulator.fingerprint == make(Model(speak(animals))).fingerprint
    other_model = Model(speak(animals))
    other_model.fingerprint = "another"
    source = simulator.prompt
    prompt = tmp_path / "own.j2"
    from autointerp import resources

    prompt.write_text(resources.path(f"prompts/{source.name}.j2").read_text() + "{# mine #}")
    prints = {
        simulator.fingerprint,
        make(other_model).fingerprint,
        make(Model(speak(animals)), prompt=str(prompt)).fingerprint,
    }
    assert len(prints) == 3
