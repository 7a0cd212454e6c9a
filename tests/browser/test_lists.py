import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.browser.lists import LAST, Lister, ListState, Page
from autointerp.browser.opened import OpenedRun
from autointerp.browser.search import fts_query
from autointerp.records import Status, UnitId, UsageError

from .synthetic_run import density_of, lifts_of


def page(run: OpenedRun, size: int = 50, **parameters: str) -> Page:
    return Lister(run).page(ListState.of(parameters, run), size=size)


def walked(run: OpenedRun, size: int, **parameters: str) -> list[str]:
    """Names of all units, page by page."""
    found: list[str] = []
    after = ""
    while True:
        one = page(run, size, **parameters, after=after)
        found += [str(run.unit(row.code)) for row in one.rows]
        if one.after is None:
            return found
        after = one.after


def test_pages_by_lift_hold_every_unit_once_in_the_order_of_the_table(made: OpenedRun) -> None:
    lifts = lifts_of(made.folder, "words")
    found = walked(made, 170)
    assert sorted(found) == sorted(lifts)
    with_lift = [lifts[name] for name in found if lifts[name] is not None]
    assert with_lift == sorted(with_lift, reverse=True)
    assert all(lifts[name] is None for name in found[len(with_lift) :])


@pytest.mark.parametrize("sort", ["lift", "score", "density", "unit"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_way_back_shows_the_same_pages(made: OpenedRun, sort: str, order: str) -> None:
    forward: list[list[int]] = []
    after = ""
    while True:
        one = page(made, 300, sort=sort, order=order, after=after)
        forward.append([row.code for row in one.rows])
        if one.after is None:
            break
        after = one.after
    before = one.before
    back = [forward[-1]]
    while before is not None:
        one = page(made, 300, sort=sort, order=order, before=before)
        back.append([row.code for row in one.rows])
        before = one.before
    assert back[::-1] == forward


def test_the_last_page_is_found_without_the_pages_before_it(made: OpenedRun) -> None:
    found = walked(made, 400)
    last = page(made, 30, before=LAST)
    assert [str(made.unit(row.code)) for row in last.rows] == found[-30:]
    assert last.after is None
    assert last.before is not None


def test_filters_agree_with_the_table(made: OpenedRun) -> None:
    lifts = lifts_of(made.folder, "words")
    wanted = {
        name
        for name, lift in lifts.items()
        if lift is not None and 0.1 <= lift <= 0.4 and name.startswith("neurons/")
        and density_of(int(name.partition("/")[2])) >= 1e-3
    }  # fmt: skip
    bounds = {"lift_min": "0.1", "lift_max": "0.4", "density_min": "0.001", "source": "neurons"}
    assert set(walked(made, 77, **bounds)) == wanted
    one = page(made, **bounds)
    assert (one.n, one.is_counted) == (len(wanted), True)


def test_a_status_lists_those_without_a_number(made: OpenedRun) -> None:
    one = page(made, 5, status="failed")
    assert one.n > 20
    assert {row.lift for row in one.rows} == {None}
    assert len(walked(made, 60, status="failed")) == one.n


def test_search_finds_words_in_any_form_best_lift_first(made: OpenedRun) -> None:
    found = page(made, 2000, q="rivers bread")
    assert found.n == len(found.rows) > 3
    assert all("river" in row.text and "bread" in row.text for row in found.rows if row.text)
    lifts = [row.lift for row in found.rows if row.lift is not None]
    assert lifts == sorted(lifts, reverse=True)
    assert walked(made, 7, q="rivers bread") == [str(made.unit(r.code)) for r in found.rows]


def test_search_sorted_otherwise_holds_the_same_units(made: OpenedRun) -> None:
    by_lift = walked(made, 50, q="river", source="features")
    by_density = walked(made, 50, q="river", source="features", sort="density", order="asc")
    assert sorted(by_lift) == sorted(by_density)
    densities = [density_of(int(name.partition("/")[2])) for name in by_density]
    assert densities == sorted(densities)


def test_phrases_and_minus_narrow_a_search(made: OpenedRun) -> None:
    n = page(made, q="river").n
    phrase, without = page(made, q='"river near bread"'), page(made, q="river -bread")
    assert 0 < phrase.n < n
    assert 0 < without.n < n
    assert page(made, q="river bread").n + without.n == n


def test_a_search_of_no_word_finds_nothing(made: OpenedRun) -> None:
    assert page(made, q="  -  ").n == page(made, q='"" *').n == 0


@given(st.text(max_size=60))
def test_nothing_that_is_typed_is_read_as_the_index_own_syntax(text: str) -> None:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    query = fts_query(text)
    if query is not None:
        database.execute("SELECT * FROM words WHERE words MATCH ?", (query,)).fetchall()
    database.close()


def test_the_units_beside_one_are_its_neighbours_in_the_list(made: OpenedRun) -> None:
    state = ListState.of({"sort": "score", "source": "features"}, made)
    names = walked(made, 400, sort="score", source="features")
    lister = Lister(made)
    for place in (0, 1, 500, len(names) - 1):
        before, after = lister.around(state, made.code(UnitId.parse(names[place])))
        assert str(before) == (names[place - 1] if place else "None")
        assert str(after) == (names[place + 1] if place + 1 < len(names) else "None")


def _plans(run: OpenedRun, work: Callable[[], Any]) -> str:
    """How SQLite goes about the statements of some work."""
    seen: list[tuple[str, Any]] = []
    plain = run.database

    class Noted:
        def execute(self, statement: str, values: Any = ()) -> Any:
            seen.append((statement, values))
            return plain.execute(statement, values)

    run.database = Noted()  # type: ignore[assignment]
    try:
        work()
    finally:
        run.database = plain
    return "\n".join(
        row[3]
        for statement, values in seen
        for row in plain.execute(f"EXPLAIN QUERY PLAN {statement}", values)
    )


@pytest.mark.parametrize("sort", ["lift", "score", "density", "unit"])
def test_a_page_deep_in_the_list_is_found_by_its_key_and_nothing_is_sorted(
    made: OpenedRun, sort: str
) -> None:
    first = page(made, 100, sort=sort)
    plan = _plans(made, lambda: page(made, sort=sort, after=first.after or ""))
    assert "TEMP B-TREE" not in plan
    assert f"SEARCH l USING INDEX by_{sort}" in plan or f"USING COVERING INDEX by_{sort}" in plan
    assert "SCAN l" not in plan


@pytest.mark.parametrize(
    "wrong",
    [{"sort": "size"}, {"explainer": "nobody"}, {"lift_min": "nan"}, {"lift_min": "x"},
     {"status": "fine"}, {"source": "../etc"}, {"after": "0.5~x"}, {"after": "1~1;DROP"},
     {"q": "river", "after": "1e3~2"}, {"sort": "unit", "after": "9" * 40}],
)  # fmt: skip
def test_a_wrong_address_is_refused_by_name(made: OpenedRun, wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        page(made, **wrong)


def test_every_status_can_be_asked_for(made: OpenedRun) -> None:
    counts = [page(made, status=str(status)).n for status in Status]
    assert sum(counts) == 2000
