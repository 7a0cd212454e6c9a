import json

import numpy as np
import pytest

from autointerp.explainers import ExplainView, TokenLookup, TopTokens
from autointerp.records import Explanation, Split, Status, UnitRecord
from autointerp.simulators import load_simulator
from tests.explainers.planted import (
    UNIT,
    animals,
    animals_with_statistics,
    record,
    statistics,
)


def explain(explainer, record: UnitRecord) -> Explanation:
    steps = explainer.explain(ExplainView.of(record), "key")
    with pytest.raises(StopIteration) as end:
        next(steps)
    return end.value.value


def with_statistics(top, *, n_tokens=1000, mean=0.1, maximum=10.0) -> UnitRecord:
    explain = statistics(top, n_tokens=n_tokens, mean=mean, maximum=maximum)
    return UnitRecord(UNIT, (), {Split.EXPLAIN: explain})


def named(top, **options) -> str | None:
    return explain(TopTokens(**options), with_statistics(top)).text


def test_the_strongest_tokens_are_named_in_order():
    explanation = explain(TopTokens(), animals_with_statistics())
    assert explanation.text == 'the tokens " dog", " horse", " cat", " barked"'
    assert explanation.status is Status.OK
    assert explanation.key == "key"


def test_without_statistics_the_windows_are_counted():
    assert explain(TopTokens(), animals()).text == 'the tokens " dog", " horse", " cat", " barked"'


def test_one_token_is_the_token():
    assert named([(" of", 5.0, 100)]) == 'the token " of"'


def test_a_token_seen_once_does_not_beat_one_seen_often():
    assert named([(" fluke", 9.0, 1), (" of", 8.0, 200)]) == 'the tokens " of", " fluke"'


def test_weak_tokens_are_not_named():
    assert named([(" of", 10.0, 1000), (" in", 2.1, 1000), (" at", 1.9, 1000)]) == (
        'the tokens " of", " in"'
    )


def test_variants_in_case_and_space_are_named_once_by_the_strongest():
    assert named([(" Of", 9.0, 50), ("of", 8.0, 50), ("OF", 7.0, 50), (" in", 6.0, 50)]) == (
        'the tokens " Of", " in"'
    )


def test_a_silent_variant_does_not_hide_a_strong_one():
    assert named([(" The", 9.0, 50), (" the", 0.01, 50_000)]) == 'the token " The"'


def test_no_more_tokens_are_named_than_asked_for():
    assert named([(f" w{i}", 9.0, 9) for i in range(9)], n_tokens=2) == 'the tokens " w0", " w1"'


def test_tokens_of_white_space_and_quotes_are_escaped():
    text = named([("\n", 9.0, 9), ("\t", 8.0, 9), ('"', 7.0, 9), ("  ", 6.0, 9)])
    assert text == r'the tokens "\n", "\t", "\"", "  "'


@pytest.mark.parametrize("explainer", [TopTokens(), TokenLookup()])
def test_a_unit_that_never_fired_is_dead(explainer):
    for unit in (
        with_statistics([], maximum=0.0),
        UnitRecord(UNIT, (record([" a", " b"]),), {}),
        UnitRecord(UNIT, (record([" a"], {0: 3.0}, split=Split.TEST),), {}),
    ):
        explanation = explain(explainer, unit)
        assert (explanation.status, explanation.text) == (Status.DEAD, None)


@pytest.mark.parametrize("explainer", [TopTokens(), TokenLookup()])
def test_without_any_token_there_is_too_little_data(explainer):
    explanation = explain(explainer, with_statistics([]))
    assert (explanation.status, explanation.text) == (Status.INSUFFICIENT_DATA, None)
    assert explanation.reason


def test_the_table_holds_the_means_and_the_mean_of_the_rest():
    table = json.loads(explain(TokenLookup(), animals_with_statistics()).text or "")
    assert table["token_means"] == {" dog": 9.5, " horse": 8.0, " cat": 6.0, " barked": 4.0}
    assert table["default"] == pytest.approx((0.1 * 1000 - 38 - 16 - 12 - 4) / (1000 - 9), rel=1e-5)


def test_the_default_is_never_negative_nor_divided_by_nothing():
    for n_tokens, mean in ((1000, 0.001), (4, 9.5)):
        unit = with_statistics([(" dog", 9.5, 4)], n_tokens=n_tokens, mean=mean)
        assert json.loads(explain(TokenLookup(), unit).text or "")["default"] == 0.0


def test_the_means_and_the_default_add_up_to_the_mean_of_the_split():
    top = [(" dog", 9.5, 4), (" cat", 2.0, 10)]
    table = json.loads(explain(TokenLookup(), with_statistics(top, mean=0.25)).text or "")
    total = 9.5 * 4 + 2.0 * 10 + table["default"] * (1000 - 14)
    assert total / 1000 == pytest.approx(0.25, rel=1e-5)


def test_tokens_of_the_same_text_share_one_mean():
    table = explain(TokenLookup(), with_statistics([("\ufffd", 9.0, 1), ("\ufffd", 3.0, 3)])).text
    assert json.loads(table or "")["token_means"] == {"\ufffd": 4.5}


def test_masked_tokens_are_not_counted():
    unit = UnitRecord(UNIT, (record([" a", " a", " b"], {1: 4.0}, masked=[0]),), {})
    table = json.loads(explain(TokenLookup(), unit).text or "")
    assert table == {"token_means": {" a": 4.0, " b": 0.0}, "default": 2.0}


def test_the_simulator_reads_the_table():
    text = explain(TokenLookup(), animals_with_statistics()).text
    (simulation,) = load_simulator("token_lookup").simulate(text or "", [[" cat", " dog", " else"]])
    assert simulation.expected[:2].tolist() == [6.0, 9.5]
    assert simulation.expected[2] == pytest.approx(0.0303, abs=1e-4)
    assert np.all(simulation.known)


def test_settings_enter_the_fingerprint_and_names_do_not():
    assert TopTokens("a").fingerprint == TopTokens("b").fingerprint
    assert TopTokens(n_tokens=3).fingerprint != TopTokens().fingerprint
    assert TokenLookup().fingerprint != TopTokens().fingerprint
