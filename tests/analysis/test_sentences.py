import re

import numpy as np
import pytest

from autointerp.analysis.results import UnitResult
from autointerp.analysis.sentences import explain_score
from autointerp.analysis.wording import number, p_text, percent
from autointerp.records import Explanation, Interval, Simulation, Status, UnitId

from .synthetic import every_kind, explanation_of, score_of, unit_of

UNIT = UnitId("features", 0)


def with_words(value: float | None, *, lookup: float = 0.3, **more) -> UnitResult:
    keys = ("density", "level")
    unit_options = {key: more.pop(key) for key in keys if key in more}
    words = score_of(UNIT, "words", value, **more)
    return unit_of(UNIT, {"words": words, "token_lookup": lookup}, **unit_options)


def test_every_status_has_a_sentence_that_names_it() -> None:
    units = {u.unit.index: u for u in every_kind().of_source("features")}
    expected = {
        2: "Every token got the same predicted level",
        3: "true activation never changes",
        4: "active in only 2 documents of the test split",
        5: "scoring failed: the simulator ran out of memory.",
        6: "explaining failed: the answer repeated the question.",
        7: "never fired in the explain split",
        8: "was not scored in this run",
    }
    for index, words in expected.items():
        assert words in explain_score(units[index], "words")


def test_an_explainer_that_was_never_asked_left_the_unit_unexplained() -> None:
    unit = unit_of(UNIT, explanations={"words": explanation_of(UNIT, "words")})
    assert "was not explained" in explain_score(unit, "top_tokens")


def test_a_good_score_is_said_with_interval_and_lift_and_no_excuse() -> None:
    text = explain_score(with_words(0.6), "words")
    assert "correlate at 0.60 (95 % interval 0.50 to 0.70) over 4 windows of 4 documents." in text
    assert "It is above other units' explanations (mean 0.10); lift 0.50, 0.40 to 0.60." in text
    assert "dense" not in text


def test_an_interval_with_zero_is_not_distinguishable_from_no_correlation() -> None:
    text = explain_score(with_words(0.05), "words")
    assert "not distinguishable from no correlation" in text
    assert "includes 0" in text


def test_controls_as_good_as_the_own_words_make_the_score_say_little() -> None:
    text = explain_score(with_words(0.45, control=0.4), "words")
    assert "they predict this unit too, so the score says little about these words" in text


def test_low_controls_are_not_said_to_predict_the_unit() -> None:
    assert "predict this unit too" not in explain_score(with_words(0.15, control=0.1), "words")


def test_better_controls_are_said_to_be_better() -> None:
    text = explain_score(with_words(0.1, control=0.5), "words")
    assert "It is below other units' explanations" in text


def test_a_negative_score_points_the_wrong_way() -> None:
    assert "points the wrong way" in explain_score(with_words(-0.4), "words")


def test_no_controls_means_nothing_to_set_it_against() -> None:
    assert "no shuffled controls" in explain_score(with_words(0.4, control=None), "words")


def test_a_much_better_lookup_makes_the_unit_a_token_detector() -> None:
    text = explain_score(with_words(0.2, lookup=0.8), "words")
    assert "reaches 0.80: the unit is largely a token detector" in text


def test_a_lookup_inside_the_interval_claims_nothing() -> None:
    unit = with_words(0.5, lookup=0.75, half_width=0.4)
    assert "token" not in explain_score(unit, "words").replace("tokens", "")


def test_words_beyond_single_tokens_are_named_only_above_the_interval() -> None:
    assert "more than single tokens do" in explain_score(with_words(0.6, lookup=0.2), "words")
    wide = with_words(0.6, lookup=0.2, half_width=0.5)
    assert "single tokens" not in explain_score(wide, "words")


def test_the_lookup_is_not_compared_with_itself() -> None:
    text = explain_score(with_words(0.1, lookup=0.9), "token_lookup")
    assert "table of mean" not in text


def test_reasons_for_a_weak_score_are_those_measured() -> None:
    assert "active on 34 % of tokens" in explain_score(with_words(0.1, density=0.34), "words")
    few = with_words(0.1, n_active_documents=4)
    assert "only 4 test documents" in explain_score(few, "words")
    unknown = with_words(0.1, n_unknown_tokens=60)
    assert "50 % of the tokens are not scored" in explain_score(unknown, "words")
    flat = with_words(0.1, level=0.01)
    assert "almost the same everywhere (0.00 to 0.04)" in explain_score(flat, "words")
    assert "almost the same" not in explain_score(with_words(0.1), "words")


def test_a_lookup_table_gets_no_reasons_that_are_about_words() -> None:
    text = explain_score(with_words(0.1, lookup=0.1, density=0.5, level=0.01), "token_lookup")
    assert "dense" not in text
    assert "almost the same" not in text


def test_low_level_mass_is_a_reason() -> None:
    unit = with_words(0.1)
    low = tuple(
        Simulation(s.expected, s.known, np.full_like(s.level_mass, 0.04))
        for s in unit.simulations["words"]
    )
    unit = UnitResult(**{**vars(unit), "simulations": {"words": low}})
    assert "only 4.0 % of its probability was on levels" in explain_score(unit, "words")


def test_a_strong_score_gets_no_reasons() -> None:
    assert "dense" not in explain_score(with_words(0.7, density=0.5), "words")


def test_no_interval_is_said() -> None:
    unit = with_words(0.4, interval=None, lift_interval=None)
    text = explain_score(unit, "words")
    assert "(no interval)" in text
    assert "the lift is 0.30, without an interval" in text


def test_a_long_reason_is_cut_and_on_one_line() -> None:
    failed = Explanation(UNIT, "words", None, Status.FAILED, "k", "x\n" * 1000)
    text = explain_score(unit_of(UNIT, explanations={"words": failed}), "words")
    assert len(text) < 400
    assert "\n" not in text


@pytest.mark.parametrize("value", [0.61, 0.05, -0.3, 0.0])
def test_an_interval_that_excludes_zero_never_reads_as_if_it_touched_it(value: float) -> None:
    ends = Interval(0.001, value + 0.2, 0.95, "t")
    text = explain_score(with_words(max(value, 0.01), interval=ends), "words")
    assert not re.search(r"interval 0\.00 to", text)


def test_numbers_keep_their_sign_and_are_never_rounded_to_zero() -> None:
    assert number(0.0) == "0.00"
    assert number(-0.0) == "0.00"
    assert number(0.004) == "0.004"
    assert number(-0.0004) == "−0.0004"
    assert number(-0.126) == "−0.13"
    assert number(3e-7) == "3e−7"
    assert number(0.3 - 0.1 - 0.2) == "0.00"
    assert number(None) == "–"
    assert percent(0.3456) == "35 %"
    assert percent(0.0123) == "1.2 %"
    assert percent(0.0000456) == "0.0046 %"
    assert p_text(0.0001) == "p < 0.001"
    assert p_text(0.0432) == "p = 0.043"
