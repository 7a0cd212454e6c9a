"""Patterns from recorded windows: known answers, and the trie that reads them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.explainers import N2G, ExplainView
from autointerp.explainers.n2g import build_patterns, firing
from autointerp.records import AutointerpError, Split, Status, UnitRecord
from autointerp.simulators import load_simulator
from autointerp.simulators.n2g import ANY, Trie, parse_patterns
from tests.explainers.asked import answered
from tests.explainers.planted import UNIT, animals, record

WORDS = [" the", " of", " sea", " sky", " sun", " and"]


def windows_of(rule, n: int, seed: int, *, split: Split = Split.EXPLAIN):
    """Random windows of six words; active with 8 where `rule(tokens, place)` holds."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(n):
        tokens = [WORDS[i] for i in generator.integers(0, len(WORDS), 12)]
        places = {p: 8.0 for p in range(12) if rule(tokens, p)}
        found.append(record(tokens, places, number=1000 * seed + number, split=split))
    return found


def patterns_of(rule, n: int = 80):
    return build_patterns(windows_of(rule, n, seed=1), 8.0)


def test_a_token_alone_is_a_pattern_of_one():
    assert patterns_of(lambda t, p: t[p] == " sea") == [((" sea",), 8.0)]


def test_the_token_before_is_found():
    rule = lambda t, p: p > 0 and t[p] == " sea" and t[p - 1] == " of"  # noqa: E731
    assert patterns_of(rule) == [((" of", " sea"), 8.0)]


def test_a_token_further_back_is_found_and_the_one_between_is_any():
    rule = lambda t, p: p > 1 and t[p] == " sea" and t[p - 2] == " of"  # noqa: E731
    assert patterns_of(rule) == [((" of", ANY, " sea"), 8.0)]


def test_alternatives_are_branches():
    assert sorted(patterns_of(lambda t, p: t[p] in (" sea", " sky"))) == [
        ((" sea",), 8.0),
        ((" sky",), 8.0),
    ]


def test_what_depends_on_nothing_shown_has_no_pattern():
    coin = np.random.default_rng(0)
    unit = UnitRecord(
        UNIT, tuple(windows_of(lambda t, p: p == 11 and coin.random() < 0.5, 80, 2)), {}
    )
    found = answered(N2G(), unit)
    if found.status is Status.OK:
        held = found.details["held_out"]
        assert (held["precision"] or 0) < 0.5
    else:
        assert found.status is Status.INSUFFICIENT_DATA


@pytest.mark.parametrize(
    "rule",
    [
        lambda t, p: t[p] == " sea",
        lambda t, p: p > 0 and t[p] == " sea" and t[p - 1] == " of",
        lambda t, p: p > 1 and t[p] == " sky" and t[p - 2] == " the",
    ],
)
def test_patterns_learnt_in_one_place_hold_in_another(rule):
    patterns = build_patterns(windows_of(rule, 100, seed=1), 8.0)
    fresh = windows_of(rule, 100, seed=2)
    found = firing(fresh, [patterns] * len(fresh), 8.0)
    assert found.precision == pytest.approx(1.0)
    assert found.recall == pytest.approx(1.0)


def test_held_out_figures_are_lower_than_in_sample_ones_for_words_seen_once():
    windows = [record([" a", f" rare{i}"], {1: 8.0}, number=i) for i in range(12)]
    details = answered(N2G(), UnitRecord(UNIT, tuple(windows), {})).details
    assert details["in_sample"]["recall"] == 1.0
    assert details["held_out"] == {"precision": None, "recall": 0.0, "n_strong": 12}


def test_windows_that_stand_for_many_weigh_as_many():
    """One window with " sea" active, drawn for certain; one silent, drawn with chance 0.1."""
    from dataclasses import replace

    loud = record([" sea"], {0: 8.0}, number=1)
    quiet = replace(record([" sea"], number=2), probability=0.1)
    patterns = [((" sea",), 8.0)]
    found = firing([loud, quiet], [patterns, patterns], 8.0)
    assert found.precision == pytest.approx(1 / 11)
    assert build_patterns([loud, quiet], 8.0) == []
    assert build_patterns([loud, replace(quiet, probability=1.0)], 8.0) == [((" sea",), 4.0)]


def test_masked_tokens_have_no_pattern_and_are_no_mistake():
    window = record([" sea", " sea"], {0: 8.0, 1: 8.0}, masked=[0])
    assert build_patterns([window], 8.0) == [((" sea",), 8.0)]
    patterns = [((" sea",), 8.0)]
    assert firing([record([" sea"], masked=[0])], [patterns], 8.0).precision is None


def test_explanation_and_simulator_agree():
    unit = animals()
    explanation = answered(N2G(), unit)
    assert explanation.status is Status.OK
    assert "ZEBRA" not in (explanation.text or "")
    simulator = load_simulator("n2g")
    (simulation,) = simulator.simulate(explanation.text or "", [[" a", " dog", " horse", " x"]])
    assert simulation.expected == pytest.approx([0, 9.95, 8, 0], abs=0.01)
    assert np.all(simulation.known)


def test_nothing_but_the_explain_split_is_read():
    unit = animals()
    alone = UnitRecord(UNIT, unit.of(Split.EXPLAIN), {})
    assert answered(N2G(), unit) == answered(N2G(), alone)


def test_a_dead_unit_has_no_patterns():
    assert answered(N2G(), UnitRecord(UNIT, (record([" a"]),), {})).status is Status.DEAD
    masked = UnitRecord(UNIT, (record([" a"], {0: 8.0}, masked=[0]),), {})
    assert ExplainView.of(masked).maximum > 0
    assert answered(N2G(), masked).status is Status.INSUFFICIENT_DATA


def test_the_longest_pattern_decides_then_the_one_with_fewest_wildcards():
    trie = Trie(
        [
            ((" sea",), 1.0),
            ((" of", " sea"), 2.0),
            ((" the", ANY, " sea"), 3.0),
            ((" the", " red", " sea"), 4.0),
        ]
    )
    assert trie.predict([" sea"]).tolist() == [1.0]
    assert trie.predict([" of", " sea"]).tolist() == [0.0, 2.0]
    assert trie.predict([" the", " of", " sea"]).tolist() == [0.0, 0.0, 3.0]
    assert trie.predict([" the", " red", " sea"]).tolist() == [0.0, 0.0, 4.0]
    assert trie.predict([], 5.0).tolist() == []
    assert trie.predict([" x"], 5.0).tolist() == [5.0]


TOKEN = st.sampled_from(["a", "b", "c"])
PATTERN = st.lists(TOKEN | st.none(), max_size=3).flatmap(
    lambda head: TOKEN.map(lambda last: (*head, last))
)


@given(
    st.dictionaries(PATTERN, st.sampled_from([1.0, 2.0, 3.0]), max_size=6),
    st.lists(TOKEN, max_size=8),
)
def test_the_trie_predicts_what_trying_every_pattern_does(patterns, tokens):
    def one(place: int) -> float:
        fits = [
            (len(p), sum(t is not None for t in p), value)
            for p, value in patterns.items()
            if len(p) <= place + 1
            and all(t is None or t == tokens[place - len(p) + 1 + k] for k, t in enumerate(p))
        ]
        return max(fits)[2] if fits else 0.0

    expected = [one(place) for place in range(len(tokens))]
    assert Trie(list(patterns.items())).predict(tokens).tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "animals",
        "",
        "[]",
        "{}",
        '{"patterns": 3, "default": 0}',
        '{"patterns": [{"tokens": [], "activation": 1}], "default": 0}',
        '{"patterns": [{"tokens": [null], "activation": 1}], "default": 0}',
        '{"patterns": [{"tokens": ["a"], "activation": NaN}], "default": 0}',
        '{"patterns": [{"tokens": ["a"], "activation": true}], "default": 0}',
        '{"patterns": [{"tokens": [3], "activation": 1}], "default": 0}',
        '{"patterns": []}',
        "[" * 100_000,
        json.dumps({"patterns": [{"tokens": ["a"] * 2000, "activation": 1}], "default": 0}),
    ],
)
def test_what_holds_no_patterns_is_refused(text):
    with pytest.raises(AutointerpError, match="holds no patterns"):
        parse_patterns(text)
