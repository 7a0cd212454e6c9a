"""The list of units: its state, which is all in the address, and the rows of one page of it.

A page is found by key, not by number: `WHERE (lift, unit) < (?, ?) ORDER BY lift DESC, unit DESC
LIMIT n` starts in the middle of an index, so the last page costs what the first does. Units without
a number come last in either order.
"""

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from autointerp.browser.codes import STATUSES, source_bounds
from autointerp.browser.opened import OpenedRun
from autointerp.browser.schema import RANK_SHIFT, RECORDED_VIEW
from autointerp.browser.search import MAX_CHARACTERS, fts_query
from autointerp.records import Status, UnitId, UsageError

PAGE_SIZE = 50

MOST_COUNTED = 100_000
"""Matches are counted up to here."""

MOST_MATCHES = 5_000
"""A search that is sorted otherwise than by lift sorts these of its matches, the best by lift."""

SORTS = ("lift", "score", "density", "unit")
RANGES = ("lift", "score", "density")
RECORDED = "*"
"""In place of an explainer: every recorded unit, explained or not."""

LAST = "last"
"""In place of a cursor: the last page."""


@dataclass(frozen=True)
class ListState:
    """Which units are listed, and in which order."""

    explainer: str = ""
    scorer: str = ""
    source: str = ""
    """All if empty."""

    beside: str = ""
    """A second source, shown beside the first."""

    sort: str = "lift"
    order: str = "desc"
    q: str = ""
    status: str = ""
    lift_min: float | None = None
    lift_max: float | None = None
    score_min: float | None = None
    score_max: float | None = None
    density_min: float | None = None
    density_max: float | None = None
    after: str = ""
    """Cursor of the row before the page; of a second list, `after_beside`."""

    before: str = ""
    """Cursor of the row after the page."""

    after_beside: str = ""
    before_beside: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str], run: OpenedRun) -> "ListState":
        """The state of an address; names that the run does not have are refused.

        Raises:
            UsageError: naming the parameter, its value and what it can be.
        """
        found: dict[str, Any] = {}
        for name, given in parameters.items():
            if name in _USUAL and (text := given.strip()):
                numeric = name.endswith(("_min", "_max"))
                found[name] = _number(name, text) if numeric else text[:MAX_CHARACTERS]
        found.setdefault("explainer", run.best_explainer)
        found.setdefault("scorer", run.primary_scorer)
        state = cls(**found)
        choices = {
            "explainer": [*run.explainers, RECORDED],
            "scorer": list(run.scorers),
            "source": ["", *run.sources],
            "beside": ["", *run.sources],
            "sort": SORTS,
            "order": ("asc", "desc"),
            "status": ["", *map(str, STATUSES)],
        }
        for name, known in choices.items():
            value = getattr(state, name)
            if value not in known:
                raise UsageError(
                    f"{name}={value[:80]!r}: it is one of {', '.join(one for one in known if one)}"
                )
        return state

    @property
    def is_recorded(self) -> bool:
        """Whether units are listed that nobody explained."""
        return self.explainer == RECORDED

    def parameters(self, run: OpenedRun, *, paging: bool = True) -> dict[str, str]:
        """The parts of the address that are not as they would be without it."""
        usual = _USUAL | {"explainer": run.best_explainer, "scorer": run.primary_scorer}
        found: dict[str, str] = {}
        for name, value in vars(self).items():
            if value == usual[name] or value in ("", None):
                continue
            if not paging and name in PAGING:
                continue
            found[name] = f"{value:.12g}" if isinstance(value, float) else str(value)
        return found

    def query(self, run: OpenedRun, **changes: Any) -> str:
        """The address's query: of the first page, in another state where there are changes."""
        if changes:
            return replace(self, **changes).query(run)
        return urlencode(self.parameters(run, paging=False))


_USUAL: dict[str, Any] = vars(ListState())
PAGING = ("after", "before", "after_beside", "before_beside")


class Row(NamedTuple):
    """One unit of the list, as the index holds it: a page has hundreds, and comes in a moment."""

    code: int
    """`codes.unit_code` of the unit."""

    density: float
    status: int
    """Place in `codes.STATUSES`."""

    score: float | None
    lift: float | None
    low: float | None
    """Of the lift's interval."""

    high: float | None
    text: str | None
    rank: int | None = None
    """Its place among the matches of a search."""


@dataclass(frozen=True)
class Page:
    """One page of one list."""

    source: str
    rows: tuple[Row, ...]
    n: int
    """Matching units."""

    is_counted: bool
    """Whether `n` is all of them, and not only at least so many."""

    is_sample: bool
    """Whether a search found so many that only the best by lift were sorted."""

    after: str | None
    """Cursor for the next page; `None` on the last."""

    before: str | None
    """Cursor for the page before; `None` on the first."""


class Lister:
    """Pages of lists of one run."""

    def __init__(self, run: OpenedRun) -> None:
        self.run = run

    def page(self, state: ListState, *, beside: bool = False, size: int = PAGE_SIZE) -> Page:
        """A page of the list, or of the one beside it."""
        source = state.beside if beside else state.source
        after = state.after_beside if beside else state.after
        before = state.before_beside if beside else state.before
        query = _Query(self.run, state, source)
        n, is_counted = query.count()
        backwards = bool(before)
        cursor = "" if before == LAST else before or after
        rows = query.rows(cursor, backwards, size + 1)
        more = len(rows) > size
        rows = rows[:size]
        if backwards:
            rows.reverse()
        has_next = bool(rows) and (bool(cursor) if backwards else more)
        has_before = bool(rows) and ((more and backwards) or (bool(after) and not backwards))
        return Page(
            source,
            tuple(rows),
            n,
            is_counted,
            query.is_sample,
            query.cursor(rows[-1]) if has_next else None,
            query.cursor(rows[0]) if has_before else None,
        )

    def around(self, state: ListState, code: int) -> tuple[UnitId | None, UnitId | None]:
        """The units before and after one in the list; none where it is not in it."""
        query = _Query(self.run, state, state.source)
        cursor = query.cursor_of(code)
        if cursor is None:
            return None, None
        found = [query.rows(cursor, backwards, 1) for backwards in (True, False)]
        before, after = (self.run.unit(rows[0].code) if rows else None for rows in found)
        return before, after


_COLUMNS = "l.unit, l.density, l.status, l.score, l.lift, l.low, l.high, e.text, NULL"
_RANKED_COLUMNS = _COLUMNS.replace("NULL", "r.id")


class _Query:
    """The statements behind one list."""

    def __init__(self, run: OpenedRun, state: ListState, source: str) -> None:
        self.run, self.state = run, state
        self.database: sqlite3.Connection = run.database
        self.explainer = -1 if state.is_recorded else run.explainers.index(state.explainer)
        self.view = RECORDED_VIEW if state.is_recorded else run.views[state.explainer, state.scorer]
        self.match = fts_query(state.q) if state.q and not state.is_recorded else None
        self.has_no_word = bool(state.q) and self.match is None
        self.sort = "density" if state.is_recorded and state.sort in ("lift", "score") else (
            state.sort
        )  # fmt: skip
        self.by_rank = self.match is not None and (self.sort, state.order) == ("lift", "desc")
        self.is_sample = False
        self.conditions, self.values = self._conditions(source)
        self.has_filters = len(self.conditions) > 1

    def _conditions(self, source: str) -> tuple[list[str], list[Any]]:
        state = self.state
        conditions, values = ["l.view = ?"], [self.view]
        if source:
            conditions.append("l.unit >= ? AND l.unit < ?")
            values += source_bounds(self.run.sources.index(source))
        if state.status:
            conditions.append("l.status = ?")
            values.append(STATUSES.index(Status(state.status)))
        for name in RANGES:
            for end, sign in (("min", ">="), ("max", "<=")):
                bound = getattr(state, f"{name}_{end}")
                if bound is not None:
                    conditions.append(f"l.{name} {sign} ?")
                    values.append(bound)
        return conditions, values

    def _is_bounded(self, name: str) -> bool:
        ends = (getattr(self.state, f"{name}_{end}") for end in ("min", "max"))
        return any(end is not None for end in ends)

    # ------------------------------------------------------------------ counting

    def count(self) -> tuple[int, bool]:
        """Matching units, and whether all were counted."""
        if self.has_no_word:
            return 0, True
        where = " AND ".join(self.conditions)
        if self.match is None:
            bounded = [name for name in RANGES if self._is_bounded(name)]
            if not bounded and not self.state.status:
                return self._all_of_view(), True
            index = f"by_{bounded[0] if bounded else 'unit'}"
            statement = (
                f"SELECT COUNT(*) FROM (SELECT 1 FROM listed l INDEXED BY {index} "
                f"WHERE {where} LIMIT ?)"
            )
            values = [*self.values, MOST_COUNTED]
        elif not self.has_filters:
            low = self.explainer << RANK_SHIFT
            statement = (
                "SELECT COUNT(*) FROM (SELECT 1 FROM words WHERE words MATCH ? "
                "AND rowid BETWEEN ? AND ? LIMIT ?)"
            )
            values = [self.match, low, low + (1 << RANK_SHIFT) - 1, MOST_MATCHES]
        else:
            statement = (
                f"SELECT COUNT(*) FROM (SELECT 1 {self._matches()} WHERE {self._in_words()} "
                f"AND {where} LIMIT ?)"
            )
            values = [*self._word_values(), *self.values, MOST_MATCHES]
        (n,) = self.database.execute(statement, values).fetchone()
        return n, n < values[-1]

    def _all_of_view(self) -> int:
        statement = "SELECT COALESCE(SUM(n), 0) FROM counts WHERE view = ?"
        values = [self.view]
        if len(self.values) > 1:
            statement += " AND source = ?"
            values.append(self.values[1] >> 33)
        return self.database.execute(statement, values).fetchone()[0]

    # ------------------------------------------------------------------ rows

    def rows(self, cursor: str, backwards: bool, n: int) -> list[Row]:
        """At most `n` rows after a cursor, or before it, nearest first."""
        if self.has_no_word:
            return []
        if self.match is not None:
            return self._ranked(cursor, backwards, n) if self.by_rank else (
                self._sorted_matches(cursor, backwards, n)
            )  # fmt: skip
        if self.sort == "unit":
            return self._by_unit(cursor, backwards, n)
        return self._by_number(cursor, backwards, n)

    def cursor_of(self, code: int) -> str | None:
        """The cursor of a unit; `None` where it is not in the list."""
        if self.has_no_word:
            return None
        if self.match is not None and self.by_rank:
            where = " AND ".join([self._in_words(), *self.conditions, "l.unit = ?"])
            row = self.database.execute(
                f"SELECT r.id {self._matches()} WHERE {where}",
                [*self._word_values(), *self.values, code],
            ).fetchone()
            return None if row is None else str(row[0])
        where = " AND ".join([*self.conditions, "l.unit = ?"])
        column = self.sort if self.sort != "unit" else "unit"
        row = self.database.execute(
            f"SELECT l.{column} FROM listed l WHERE {where}", [*self.values, code]
        ).fetchone()
        if row is None:
            return None
        return str(code) if self.sort == "unit" else _cursor(row[0], code)

    def _select(self, where: str, values: list[Any], ending: str, index: str) -> list[Row]:
        statement = (
            f"SELECT {_COLUMNS} FROM listed l INDEXED BY {index} LEFT JOIN explained e "
            f"ON e.explainer = ? AND e.unit = l.unit WHERE {where} {ending}"
        )
        found = self.database.execute(statement, [self.explainer, *values])
        return list(map(Row._make, found))

    def cursor(self, row: Row) -> str:
        """Where a list goes on after a row, or before it."""
        if self.by_rank:
            return str(row.rank)
        if self.sort == "unit":
            return str(row.code)
        return _cursor(getattr(row, self.sort), row.code)

    def _by_unit(self, cursor: str, backwards: bool, n: int) -> list[Row]:
        down = (self.state.order == "desc") != backwards
        conditions, values = [*self.conditions], [*self.values]
        if cursor:
            conditions.append("l.unit < ?" if down else "l.unit > ?")
            values.append(_code(cursor))
        ending = f"ORDER BY l.unit {'DESC' if down else 'ASC'} LIMIT ?"
        return self._select(" AND ".join(conditions), [*values, n], ending, "by_unit")

    def _by_number(self, cursor: str, backwards: bool, n: int) -> list[Row]:
        """Units with the number in its order, then those without by unit; or the way back."""
        at, code = _parsed(cursor)
        in_tail = at is None
        segments = (True, False) if backwards else (False, True)
        if cursor:
            segments = segments[segments.index(in_tail) :]
        rows: list[Row] = []
        for tail in segments:
            if len(rows) < n:
                begun = bool(cursor) and tail == in_tail
                rows += self._segment(tail, begun, at, code, backwards, n - len(rows))
        return rows

    def _segment(
        self, tail: bool, begun: bool, at: float | None, code: int, backwards: bool, n: int
    ) -> list[Row]:
        """Units with a number, or the tail of those without; after a cursor where it is begun."""
        name = self.sort
        if tail and self._is_bounded(name):
            return []
        conditions, values = [*self.conditions], [*self.values]
        down = (self.state.order == "desc") != backwards
        sign, word = ("<", "DESC") if down else (">", "ASC")
        if tail:
            conditions.append(f"l.{name} IS NULL")
            if begun:
                conditions.append(f"l.unit {sign} ?")
                values.append(code)
            ending = f"ORDER BY l.unit {word} LIMIT ?"
        else:
            conditions.append(f"l.{name} IS NOT NULL")
            if begun:
                conditions.append(f"(l.{name}, l.unit) {sign} (?, ?)")
                values += [at, code]
            ending = f"ORDER BY l.{name} {word}, l.unit {word} LIMIT ?"
        return self._select(" AND ".join(conditions), [*values, n], ending, f"by_{name}")

    # ------------------------------------------------------------------ full text

    def _matches(self) -> str:
        return "FROM words w JOIN ranked r ON r.id = w.rowid CROSS JOIN listed l ON l.unit = r.unit"

    def _in_words(self) -> str:
        return "w.words MATCH ? AND w.rowid BETWEEN ? AND ?"

    def _word_values(self) -> list[Any]:
        low = self.explainer << RANK_SHIFT
        return [self.match, low, low + (1 << RANK_SHIFT) - 1]

    def _ranked(self, cursor: str, backwards: bool, n: int) -> list[Row]:
        """Matches in the order of their ids, which is that of lift: the search stops early."""
        low = self.explainer << RANK_SHIFT
        high = low + (1 << RANK_SHIFT) - 1
        if cursor:
            low, high = (low, _code(cursor) - 1) if backwards else (_code(cursor) + 1, high)
        where = " AND ".join([self._in_words(), *self.conditions])
        statement = (
            f"SELECT {_RANKED_COLUMNS} {self._matches()} LEFT JOIN explained e ON e.explainer = ? "
            f"AND e.unit = r.unit WHERE {where} ORDER BY w.rowid {'DESC' if backwards else 'ASC'} "
            "LIMIT ?"
        )
        values = [self.explainer, self.match, low, high, *self.values, n]
        return list(map(Row._make, self.database.execute(statement, values)))

    def _sorted_matches(self, cursor: str, backwards: bool, n: int) -> list[Row]:
        """The best matches by lift, sorted as asked for."""
        where = " AND ".join([self._in_words(), *self.conditions])
        found = self.database.execute(
            f"SELECT {_COLUMNS} {self._matches()} LEFT JOIN explained e ON e.explainer = ? "
            f"AND e.unit = r.unit WHERE {where} ORDER BY w.rowid LIMIT ?",
            [self.explainer, *self._word_values(), *self.values, MOST_MATCHES + 1],
        ).fetchall()
        self.is_sample = len(found) > MOST_MATCHES
        rows = list(map(Row._make, found[:MOST_MATCHES]))
        down = self.state.order == "desc"

        def key(row: Row) -> tuple[bool, float]:
            if self.sort == "unit":
                return False, -row.code if down else row.code
            value = getattr(row, self.sort)
            return value is None, 0.0 if value is None else -value if down else value

        rows.sort(key=lambda row: (*key(row), -row.code if down else row.code))
        if backwards:
            rows.reverse()
        if cursor:
            place = next((i for i, row in enumerate(rows) if self.cursor(row) == cursor), -1)
            rows = rows[place + 1 :]
        return rows[:n]


def _cursor(value: float | None, code: int) -> str:
    return f"{'n' if value is None else repr(float(value))}~{code}"


def _parsed(cursor: str) -> tuple[float | None, int]:
    """Number and unit of a cursor.

    Raises:
        UsageError: where it is none.
    """
    if not cursor:
        return None, 0
    number, _, code = cursor.partition("~")
    return None if number == "n" else _number("after", number), _code(code)


def _code(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UsageError(f"{text[:40]!r} is no place in a list: begin with its first page")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{name}={text[:40]!r} is no number")
    return value
