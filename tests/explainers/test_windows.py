"""Which windows are shown, and how their text is written."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.explainers import ExplainView, Intervals, Short
from autointerp.explainers.windows import (
    CLOSE,
    OPEN,
    active,
    distinct,
    highlighted,
    highlighted_where,
    interval_of,
    sampled,
    silent_windows,
    values,
)
from autointerp.recording.design import stratum_of
from autointerp.records import Strata, UnitRecord
from tests.explainers.asked import answered, asked
from tests.explainers.planted import UNIT, record


def ladder(n: int, *, per_document: int = 1) -> UnitRecord:
    """Windows whose maxima are 1, 2, …, n."""
    windows = (
        record([f" w{i}", " x"], {0: float(i)}, number=i, document=f"d{(i - 1) // per_document}")
        for i in range(1, n + 1)
    )
    return UnitRecord(UNIT, tuple(windows), {})


def maxima(unit: UnitRecord, n: int, sampling) -> list[int]:
    view = ExplainView.of(unit)
    return [int(r.maximum) for r in sampled(view, active(view), n, sampling, seed=0)]


def test_intervals_are_of_value_and_deciles_of_rank():
    """Of 100 windows 90 lie in the lowest interval: value takes one of them, rank nine."""
    windows = [record([" a"], {0: 0.5}, number=n) for n in range(90)]
    windows += [record([" b"], {0: float(n)}, number=100 + n) for n in range(1, 11)]
    view = ExplainView.of(UnitRecord(UNIT, tuple(windows), {}))
    by_value = [r.maximum for r in sampled(view, active(view), 10, "interval", 0)]
    by_rank = [r.maximum for r in sampled(view, active(view), 10, "decile", 0)]
    assert by_value == [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, by_value[-1]]
    assert by_value[-1] in (0.5, 1.0)
    assert sum(m == 0.5 for m in by_rank) == 9


@pytest.mark.parametrize("n", range(1, 45))
def test_as_many_windows_are_shown_as_asked_for_while_there_are_any(n):
    """Rounding a number per group down loses windows: of 5 all, of 45 five."""
    for sampling in ("interval", "decile", "top"):
        assert len(maxima(ladder(40), n, sampling)) == min(n, 40)


def test_every_interval_comes_once_before_any_comes_twice():
    for sampling in ("interval", "decile"):
        assert {(m - 1) // 4 for m in maxima(ladder(40), 10, sampling)} == set(range(10))


def test_the_most_active_windows_are_the_top():
    assert maxima(ladder(40), 3, "top") == [40, 39, 38]


def test_documents_come_once_before_any_comes_twice():
    assert maxima(ladder(40, per_document=10), 4, "top") == [40, 30, 20, 10]


def test_intervals_are_those_of_the_recording():
    for value in (0.2, 0.999, 1.0, 1.0001, 5.0, 9.99, 10.0, 12.0):
        (window,) = UnitRecord(UNIT, (record([" a"], {0: value}),), {}).records
        expected = stratum_of(window.maximum, 10.0, active_in_sequence=False)
        assert Strata.interval(interval_of(window, 10.0)) == expected


def test_another_seed_or_unit_draws_other_windows_and_the_same_ones_the_same():
    view = ExplainView.of(ladder(40))
    draws = [sampled(view, active(view), 10, "interval", seed) for seed in (0, 0, 1)]
    chosen = [[r.window for r in draw] for draw in draws]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_window_drawn_twice_is_shown_once():
    from dataclasses import replace

    window = record([" a"], {0: 5.0}, number=1)
    again = replace(window, stratum=Strata.RANDOM)
    assert distinct([window, again]) == [window]
    view = ExplainView.of(UnitRecord(UNIT, (window, again), {}))
    assert len(active(view)) == 1


def test_silent_windows_are_checked():
    from dataclasses import replace

    quiet = replace(record([" a"], number=1), stratum=Strata.RANDOM)
    loud = replace(record([" b"], {0: 5.0}, number=2), stratum=Strata.RANDOM)
    view = ExplainView.of(UnitRecord(UNIT, (quiet, loud), {}))
    assert silent_windows(view, (Strata.RANDOM,), 9, seed=0) == [quiet]


def test_runs_of_strong_tokens_are_highlighted_together():
    window = record([" a", " b", " c", " d", " e"], {1: 10.0, 2: 4.0, 3: 3.0, 4: 3.1})
    assert highlighted(window) == "a <<b c>> d <<e>>"


def test_masked_tokens_are_never_highlighted_nor_listed():
    window = record([" a", " b"], {0: 10.0, 1: 4.0}, masked=[0])
    assert highlighted(window) == "a <<b>>"
    assert values(window, 10.0) == [("b", 4)]


def test_levels_of_listed_tokens_run_from_one_to_ten():
    window = record([" a", " b", " c"], {0: 0.4, 1: 0.3, 2: 0.1})
    assert values(window, 10.0) == [("a", 1), ("b", 1)]
    assert values(record([" a"], {0: 10.0}), 10.0) == [("a", 10)]


@given(
    st.lists(
        st.tuples(st.text("<>\\ a\n", min_size=1, max_size=4), st.booleans()),
        min_size=1,
        max_size=10,
    )
)
def test_there_are_as_many_highlights_as_runs(tokens):
    strong = np.array([mark for _, mark in tokens])
    text = highlighted_where([token for token, _ in tokens], strong)
    runs = int(strong[0]) + int((strong[1:] & ~strong[:-1]).sum())
    assert "\n" not in text
    opened = re.sub(r"\\.", "x", text)
    assert opened.count(OPEN) == opened.count(CLOSE) == runs


def test_the_forty_nine_are_ten_of_the_top_two_of_the_others_random_and_out_of_context():
    """13 intervals, each with enough windows; the top token " t" stands in silent windows too."""
    from dataclasses import replace

    windows = [
        record([" t" if i > 120 else f" w{i}", " x"], {0: float(i)}, number=i)
        for i in range(1, 131)
    ]
    silent = [record([" t", f" s{i}"], number=200 + i) for i in range(20)]
    random = [replace(record([f" r{i}"], number=300 + i), stratum=Strata.RANDOM) for i in range(9)]
    unit = UnitRecord(UNIT, (*windows, *silent, *random), {})
    explanation = answered(Intervals(), unit, "the word t")
    names = ("n_active", "n_random", "n_out_of_context")
    assert [explanation.details[name] for name in names] == [34, 5, 10]
    (request,) = asked(Intervals(), unit)
    text = request.messages[-1].content
    assert text.count('"t" 0') == 10
    lines = text.split("\n")
    assert [below for above, below in pairwise(lines) if " r" in above] == ["-"] * 5
    # The top interval is above 12/13 of the maximum: levels 8 and 9 of 9.
    assert len([line for line in lines if line in ('"t" 8', '"t" 9')]) == 10


def test_short_excerpts_are_ten_tokens_either_side():
    tokens = [f" t{i}" for i in range(32)]
    (request,) = asked(Short(), UnitRecord(UNIT, (record(tokens, {15: 5.0}),), {}))
    words = request.messages[-1].content.replace("<<", "").replace(">>", "").split()[1:]
    assert words == [f"t{i}" for i in range(5, 26)]


def test_two_thirds_of_the_short_form_are_the_most_active_windows():
    explanation = answered(Short(n_windows=15), ladder(60), "numbers")
    assert explanation.details["n_top"] == 10
    assert len(set(explanation.details["sequences"])) == 15


def test_stronger_windows_are_likelier_to_be_drawn_by_importance():
    """Two windows left for one place, of maxima 1 and 9: the stronger in nine of ten units."""
    from dataclasses import replace

    from autointerp.records import UnitId

    def drawn(index: int) -> str:
        windows = [
            replace(record([f" {m}"], {0: m}, number=n), unit=UnitId("planted", index))
            for n, m in enumerate((10.0, 10.0, 1.0, 9.0))
        ]
        unit = UnitRecord(UnitId("planted", index), tuple(windows), {})
        (request,) = asked(Short(n_windows=3), unit)
        return request.messages[-1].content.split("\n")[-1]

    # The top two are certain; the third place goes by importance.
    share = np.mean(["9.0" in drawn(index) for index in range(400)])
    assert abs(share - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 400)
