"""What the page of the list is filled with.

A list is found in a fraction of a millisecond, so its rows are written by hand and not by a
template, and what is the same for a view is made once.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup, escape

from autointerp.analysis.wording import number, percent
from autointerp.browser.codes import SOURCE_SHIFT, STATUSES
from autointerp.browser.drawing import distribution
from autointerp.browser.lists import (
    LAST,
    MOST_MATCHES,
    PAGING,
    RANGES,
    Lister,
    ListState,
    Page,
    Row,
)
from autointerp.browser.opened import OpenedRun
from autointerp.browser.rendering import Renderer
from autointerp.browser.schema import RECORDED_VIEW
from autointerp.browser.text import cut, visible

MAX_WORDS = 240
"""Characters of an explanation in a list."""

_MOST_KEPT = 500

MOST_SERIES = 4
"""Sources with a row of bars of their own."""

_STATUS_CELLS = [
    f'<td><span class="status {status}">{str(status).replace("_", " ")}</span></td></tr>'
    for status in STATUSES
]
_NOT_PLAIN = re.compile(r"[^ !#-%(-;=?-~]")
"""What is not printable ASCII, or means something in HTML."""

_TITLES = {"unit": "Unit", "lift": "Lift", "score": "Score", "density": "Density"}


class ListPages:
    """Pages of the list of one run."""

    def __init__(self, lister: Lister, renderer: Renderer) -> None:
        self.lister = lister
        self.run: OpenedRun = lister.run
        self._renderer = renderer
        self._kept: dict[Any, Markup] = {}
        """Parts of pages by what they depend on: a few for every view."""
        self._heads = [
            (f"unit/{quote(source, safe='')}/", f"{escape(visible(source))}/")
            for source in self.run.sources
        ]

    def values(self, state: ListState) -> dict[str, Any]:
        """The page's rows, filters and drawings."""
        if state.is_recorded and state.sort in ("lift", "score"):
            state = replace(state, sort="density")
        lists = [self.lister.page(state)]
        if state.beside:
            lists.append(self.lister.page(state, beside=True))
        view = view_of(self.run, state)
        query = state.query(self.run)
        return {
            "state": state,
            "lists": [
                (page, *self._table(state, page, query, place)) for place, page in enumerate(lists)
            ],
            "plots": self.plots(state, view),
            "selects": self.selects(state, view),
            "ranges": _ranges(state),
            "most_matches": MOST_MATCHES,
        }

    # ------------------------------------------------------------------ the table

    def _table(self, state: ListState, page: Page, query: str, place: int) -> tuple[Markup, Markup]:
        """The table of one list and the links to its other pages, as HTML."""
        if not page.rows:
            return Markup(""), Markup("")
        rest = f"?{query}" if query else ""
        end = Markup.escape(rest)
        recorded = state.is_recorded
        rows = "".join(self._row(row, end, recorded) for row in page.rows)
        head = self._head(state)
        return (
            Markup(
                f'<table class="units"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
            ),
            self._paging(state, page, query, place),
        )

    def _row(self, row: Row, end: str, recorded: bool) -> str:
        """One row; all that is not ours in it is escaped."""
        code, density, status, score, lift, low, high, text, _ = row
        path, name = self._heads[code >> SOURCE_SHIFT]
        index = f"{(code & 0x1FFFFFFFF) >> 1}{'-' if code & 1 else ''}"
        start = (
            f'<tr data-row><th scope="row"><a href="/{path}{index}{end}"><bdi>{name}{index}</bdi>'
            "</a></th>"
        )
        rest = f'<td class="n" data-label="density">{percent(density)}</td>{_STATUS_CELLS[status]}'
        if recorded:
            return start + rest
        words = (
            f"<bdi>{_written(text)}</bdi>" if text else '<span class="quiet">no explanation</span>'
        )
        ends = (
            f' <span class="iv">{_short(low)} to {_short(high)}</span>'
            if low is not None and high is not None
            else ""
        )
        return (
            f'{start}<td class="words">{words}</td>'
            f'<td class="n" data-label="lift">{_short(lift)}{ends}</td>'
            f'<td class="n" data-label="score">{_short(score)}</td>{rest}'
        )

    def _head(self, state: ListState) -> str:
        """Column headings that sort."""
        kept = state.parameters(self.run, paging=False)
        kept = {name: value for name, value in kept.items() if name not in ("sort", "order")}
        base = str(escape(f"?{urlencode(kept)}&" if kept else "?"))
        names = ["unit", "density"] if state.is_recorded else ["unit", "lift", "score", "density"]
        found: list[str] = []
        for name in names:
            here = state.sort == name
            order = "asc" if here and state.order == "desc" else "desc"
            way = ("descending" if state.order == "desc" else "ascending") if here else "none"
            arrow = ("↓" if state.order == "desc" else "↑") if here else ""
            kind = "" if name == "unit" else ' class="n"'
            found.append(
                f'<th scope="col"{kind} aria-sort="{way}"><a href="/{base}sort={name}&amp;'
                f'order={order}">{_TITLES[name]}<span aria-hidden="true"> {arrow}</span></a></th>'
            )
            if name == "unit" and not state.is_recorded:
                said = escape(visible(state.explainer))
                found.append(f'<th scope="col" class="words">{said} says</th>')
        return "".join(found) + '<th scope="col">Status</th>'

    def _paging(self, state: ListState, page: Page, query: str, place: int) -> Markup:
        """Links to the first, previous, next and last page; the other list stays where it is."""
        after, before = PAGING[2 * place : 2 * place + 2]
        other = PAGING[2:] if place == 0 else PAGING[:2]
        kept = [f"{name}={quote(value)}" for name in other if (value := getattr(state, name))]
        base = "&".join(filter(None, [query, *kept]))

        def link(name: str, cursor: str, rel: str, title: str) -> str:
            own = f"{name}={quote(cursor)}" if cursor else ""
            address = escape("&".join(filter(None, [base, own])))
            return f'<a{rel} href="/{"?" if address else ""}{address}">{title}</a> '

        found: list[str] = []
        if page.before:
            found.append(link(after, "", "", "first"))
            found.append(link(before, page.before, ' rel="prev"', "← previous"))
        if page.after:
            found.append(link(after, page.after, ' rel="next"', "next →"))
            found.append(link(before, LAST, "", "last"))
        return Markup("".join(found))

    # ------------------------------------------------------------------ of the whole view

    def selects(self, state: ListState, view: int) -> Markup:
        """Choices of explainer, scorer, sources and status."""
        key = (state.explainer, state.scorer, state.source, state.beside, state.status)
        return self._once(
            key,
            lambda: self._renderer.part(
                "selects.html.j2",
                state=state,
                explainers=self.run.explainers,
                baselines=self.run.baselines,
                has_recorded=self.run.has_recorded_view,
                scorers=list(self.run.scorers),
                sources=self.run.sources,
                statuses=self._statuses(view),
            ),
        )

    def _once(self, key: Any, make: Callable[[], Markup]) -> Markup:
        if key not in self._kept:
            if len(self._kept) > _MOST_KEPT:
                self._kept.clear()
            self._kept[key] = make()
        return self._kept[key]

    def _statuses(self, view: int) -> list[tuple[str, int]]:
        """Statuses that occur, with their numbers."""
        rows = self.run.database.execute(
            "SELECT status, SUM(n) FROM counts WHERE view = ? GROUP BY status ORDER BY 2 DESC",
            (view,),
        )
        return [(str(STATUSES[status]), n) for status, n in rows]

    def plots(self, state: ListState, view: int) -> Markup:
        """Distributions of lift, score and density, per source."""
        shown = tuple(dict.fromkeys(name for name in (state.source, state.beside) if name))
        return self._once(
            (view, shown),
            lambda: self._renderer.part(
                "plots.html.j2",
                plots=self._drawn(view, shown or tuple(self.run.sources)),
                names=shown,
            ),
        )

    def _drawn(self, view: int, shown: tuple[str, ...]) -> list[tuple[str, Markup]]:
        rows = self.run.database.execute(
            "SELECT field, source, low, high, counts FROM distributions WHERE view = ?", (view,)
        )
        found: dict[str, tuple[float, float, dict[str, list[int]]]] = {}
        for field, source, low, high, counts in rows:
            own = found.setdefault(field, (low, high, {}))
            own[2][self.run.sources[source]] = json.loads(counts)
        drawings: list[tuple[str, Markup]] = []
        for field in RANGES:
            if field in found:
                low, high, by_source = found[field]
                series = [(name, by_source[name]) for name in shown if name in by_source]
                if series:
                    drawn = distribution(series[:MOST_SERIES], low, high, field)
                    drawings.append((field, drawn))
        return drawings


def view_of(run: OpenedRun, state: ListState) -> int:
    """The view that a state lists."""
    return RECORDED_VIEW if state.is_recorded else run.views[state.explainer, state.scorer]


def _ranges(state: ListState) -> Markup:
    """Fields for the ends of every range."""
    found: list[str] = []
    for name in ("density",) if state.is_recorded else RANGES:
        inputs: list[str] = []
        for end, title, hint in (("min", "least", "from"), ("max", "largest", "to")):
            value = getattr(state, f"{name}_{end}")
            shown = "" if value is None else f"{value:.9g}"
            inputs.append(
                f'<label class="sr" for="{name}_{end}">{title} {name}</label><input '
                f'id="{name}_{end}" name="{name}_{end}" inputmode="decimal" size="6" '
                f'placeholder="{hint}" value="{shown}">'
            )
        found.append(
            f'<fieldset class="field range"><legend>{_TITLES[name]}</legend>{"".join(inputs)}'
            "</fieldset>"
        )
    return Markup("".join(found))


def _short(value: float | None) -> str:
    """As `number`, in a quarter of the time for what is not nearly 0."""
    if value is None:
        return "–"
    if value >= 0.01:
        return f"{value:.2f}"
    return f"−{-value:.2f}" if value <= -0.01 else number(value)


def _written(text: str) -> str:
    """A text as HTML: cut, visible, escaped; most need no more than a look."""
    if len(text) <= MAX_WORDS and not _NOT_PLAIN.search(text):
        return text
    return str(escape(visible(cut(text, MAX_WORDS))))
