"""What the page of the list is filled with."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

from markupsafe import Markup

from autointerp.browser.codes import STATUSES
from autointerp.browser.drawing import distribution
from autointerp.browser.lists import MOST_MATCHES, RANGES, RECORDED, Lister, ListState
from autointerp.browser.opened import OpenedRun
from autointerp.browser.schema import RECORDED_VIEW


def list_values(lister: Lister, state: ListState) -> dict[str, Any]:
    """The page's rows, filters and drawings."""
    run = lister.run
    if state.is_recorded and state.sort in ("lift", "score"):
        state = replace(state, sort="density")
    lists = [lister.page(state)]
    if state.beside:
        lists.append(lister.page(state, beside=True))
    bounds: dict[str, str] = {}
    for name in RANGES:
        for end in ("min", "max"):
            value = getattr(state, f"{name}_{end}")
            bounds[f"{name}_{end}"] = "" if value is None else f"{value:.6g}"
    return {
        "state": state,
        "lists": lists,
        "plots": plots(run, state),
        "bounds": bounds,
        "explainers": run.explainers,
        "baselines": run.baselines,
        "has_recorded": run.has_recorded_view,
        "scorers": list(run.scorers),
        "sources": run.sources,
        "statuses": statuses(run, state),
        "most_matches": MOST_MATCHES,
        "query": partial(state.query, run),
        "turn": partial(_turned, run, state),
        "unit_query": state.query(run),
    }


def _turned(run: OpenedRun, state: ListState, **cursors: str) -> str:
    """Another page of one list, the same of the other."""
    kept = {
        name: getattr(state, name) for name in ("after", "before", "after_beside", "before_beside")
    }
    return state.query(run, **(kept | cursors))


def view_of(run: OpenedRun, state: ListState) -> int:
    """The view that a state lists."""
    return RECORDED_VIEW if state.is_recorded else run.views[state.explainer, state.scorer]


def statuses(run: OpenedRun, state: ListState) -> list[tuple[str, int]]:
    """Statuses that occur, with their numbers."""
    rows = run.database.execute(
        "SELECT status, SUM(n) FROM counts WHERE view = ? GROUP BY status ORDER BY 2 DESC",
        (view_of(run, state),),
    )
    return [(str(STATUSES[status]), n) for status, n in rows]


def plots(run: OpenedRun, state: ListState) -> list[tuple[str, Markup]]:
    """Distributions of lift, score and density, per source."""
    rows = run.database.execute(
        "SELECT field, source, low, high, counts FROM distributions WHERE view = ? ORDER BY source",
        (view_of(run, state),),
    )
    found: dict[str, tuple[float, float, dict[str, list[int]]]] = {}
    for field, source, low, high, counts in rows:
        own = found.setdefault(field, (low, high, {}))
        own[2][run.sources[source]] = json.loads(counts)
    shown = list(dict.fromkeys(name for name in (state.source, state.beside) if name))
    if state.explainer == RECORDED or not shown:
        shown = shown or run.sources
    drawings: list[tuple[str, Markup]] = []
    for field in RANGES:
        if field not in found:
            continue
        low, high, by_source = found[field]
        series = [(name, by_source[name]) for name in shown if name in by_source][:4]
        if not series:
            continue
        chosen = getattr(state, f"{field}_min"), getattr(state, f"{field}_max")
        # The query of the state without this range, once: a bar adds its own ends.
        base = state.query(run, **{f"{field}_min": None, f"{field}_max": None})

        def href(a: float, b: float, base: str = base, field: str = field) -> str:
            start = f"?{base}&" if base else "?"
            return f"{start}{field}_min={a:.9g}&{field}_max={b:.9g}"

        drawings.append((field, distribution(series, low, high, field, chosen, href)))
    return drawings
