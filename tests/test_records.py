from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.records import (
    SPLIT_SHARES,
    ActivationRecord,
    AutointerpError,
    Split,
    Strata,
    UnitId,
    UnitRecord,
    Window,
    content_key,
    derived_seed,
)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1).filter(
        lambda name: name.strip() == name and "\n" not in name
    ),
    st.integers(0, 10**9),
    st.sampled_from([1, -1]),
)
def test_a_unit_is_read_back_as_it_was_written(source, index, polarity):
    unit = UnitId(source, index, polarity)
    assert UnitId.parse(str(unit)) == unit


def test_how_units_are_written():
    assert str(UnitId("features", 317)) == "features/317"
    assert str(UnitId("neurons", 42, -1)) == "neurons/42-"
    assert UnitId.parse(" features/317+ ") == UnitId("features", 317)


@pytest.mark.parametrize("text", ["", "features", "/3", "a/b/3", "a/-3", "a/3.5", "a/3*", "a/3--"])
def test_what_is_no_unit_is_refused_with_an_example(text):
    with pytest.raises(AutointerpError, match=r"is not a unit: write SOURCE/INDEX.*features/317"):
        UnitId.parse(text)


@pytest.mark.parametrize("parts", [("a", 1, 0), ("a", 1, 2), ("a", -1), ("", 1), ("a/b", 1)])
def test_impossible_units_cannot_be_made(parts):
    with pytest.raises(AutointerpError, match=r"must|hold"):
        UnitId(*parts)


@pytest.mark.parametrize("index", [7.5, 7.0, "7", True, None, np.float32(7)])
def test_an_index_that_is_no_whole_number_is_refused(index):
    with pytest.raises(AutointerpError, match="a unit's index must be a whole number of at least"):
        UnitId("features", index)


def test_a_numpy_index_is_the_same_unit_and_a_unit_is_its_own_name():
    unit = UnitId("features", np.int64(7))  # pyright: ignore
    assert unit == UnitId("features", 7) and type(unit.index) is int
    assert UnitId.parse(unit) is unit
    with pytest.raises(AutointerpError, match="'7' is not a unit"):
        UnitId.parse(7)  # pyright: ignore


def test_units_sort_by_source_and_index():
    units = [UnitId("b", 1), UnitId("a", 10), UnitId("a", 2, -1), UnitId("a", 2)]
    assert [str(u) for u in sorted(units)] == ["a/2-", "a/2", "a/10", "b/1"]


def test_a_content_key_is_the_same_on_every_machine_and_day():
    key = content_key("score", unit="features/317", split=Split.TEST, k=[1, 2.5, None], ü="ß")
    assert key == "37807f667feceda2f7ec6e918c0763ea"


def test_a_content_key_depends_on_kind_and_inputs_and_not_on_their_order():
    keys = {
        content_key("a", x=1, y=2),
        content_key("b", x=1, y=2),
        content_key("a", x=2, y=1),
        content_key("a", x="1", y=2),
        content_key("a", x=1),
        content_key("a", x=[1], y=2),
    }
    assert len(keys) == 6
    assert content_key("a", y=2, x=1) == content_key("a", x=1, y=2)
    assert content_key("a", x={"p": 1, "q": 2}) == content_key("a", x={"q": 2, "p": 1})


def test_a_content_key_takes_only_what_has_one_spelling():
    assert content_key("a", x=Path("b/c")) == content_key("a", x="b/c")
    assert content_key("a", x=UnitId("n", 1, -1)) == content_key("a", x="n/1-")
    assert content_key("a", x=np.float32(0.5)) == content_key("a", x=0.5)
    long = np.arange(5000)
    other = long.copy()
    other[2500] = -1
    assert content_key("a", x=long) != content_key("a", x=other)
    for value in (object(), {1, 2}):
        with pytest.raises(TypeError, match="no fixed text"):
            content_key("a", x=value)


def test_seeds_for_different_purposes_differ_and_stay():
    seeds = {
        derived_seed(0, "draw", UnitId("n", 1)),
        derived_seed(0, "draw", UnitId("n", 1, -1)),
        derived_seed(0, "windows"),
        derived_seed(1, "windows"),
        derived_seed(0),
    }
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(0, "windows") == 1775037564720786158
    assert derived_seed(np.int64(0), "windows") == derived_seed(0, "windows")


def test_strata_from_the_most_active_to_the_least():
    names = Strata.ordered()
    assert names[:2] == ("top", "interval_10") and names[10:] == (
        "interval_01",
        "hard",
        "silent",
        "random",
    )
    assert sum(map(Strata.is_active, names)) == 11
    assert sum(SPLIT_SHARES.values()) == pytest.approx(1)


def test_a_unit_records_windows_come_most_active_first():
    def record(stratum: str, maximum: float, split: Split = Split.EXPLAIN) -> ActivationRecord:
        return ActivationRecord(
            UnitId("n", 1),
            Window("s", int(maximum * 10), int(maximum * 10) + 2),
            "d",
            split,
            stratum,
            1.0,
            ("a", "b"),
            np.asarray([0.0, maximum], np.float32),
            np.zeros(2, bool),
        )

    rows = [
        record("silent", 0.0),
        record("interval_03", 3.0),
        record("top", 8.0),
        record("top", 9.0),
        record("top", 11.0, Split.TEST),
    ]
    unit = UnitRecord(UnitId("n", 1), tuple(rows), {})
    assert [r.maximum for r in unit.of(Split.EXPLAIN)] == [9.0, 8.0, 3.0, 0.0]
    assert unit.explain_maximum() == 9.0
    assert UnitRecord(UnitId("n", 1), (), {}).explain_maximum() == 0.0
