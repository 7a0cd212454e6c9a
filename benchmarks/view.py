"""How long the feature browser's pages take at a million units, beside the bare reads behind them.

    python benchmarks/view.py [--units 1000000] [--folder DIR]

A run of drawn numbers is written once into the folder (some minutes and GB at a million units) and
its index made. Then, in turns and in one process: a page as the server answers it, from the request
to the last byte and without a network; and the bare reads behind it. For lists and searches these
are the page's own SQL statements, recorded and run again by sqlite3; for a unit, reading its
records (Parquet), its rows and scores, and its neighbours in the list. Every repetition is of
another page or unit. Times are of this process's processor, which other work on the machine
stretches less than the clock's. Prints JSON: medians in milliseconds, and ratios of the medians;
`_wall_ms` is a page's median by the clock.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from autointerp.browser.app import Browser, make_app
from autointerp.browser.list_page import ListPages
from autointerp.browser.lists import Lister, ListState
from autointerp.browser.opened import OpenedRun
from autointerp.browser.security import Access
from autointerp.browser.units import read_unit
from autointerp.progress import Silent
from autointerp.records import UnitId
from tests.browser.synthetic_run import WORDS, density_of, write_run

SOURCES = ("features", "neurons")
PORT = 8321


class Recorded:
    """A connection that notes what it is asked."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.statements: list[tuple[str, Any]] = []

    def execute(self, statement: str, values: Any = ()) -> Any:
        """Ask, and note it."""
        self.statements.append((statement, values))
        return self.connection.execute(statement, values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the run lies, or is to be written")
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="autointerp-view-"))
    facts: dict[str, Any] = {"units": options.units}
    if not (folder / "config.yaml").exists():
        _, facts["write_seconds"] = timed(
            lambda: write_run(folder, options.units, sources=SOURCES), 1
        )
    is_new = not (folder / "browser.sqlite").exists()
    run, seconds = timed(lambda: OpenedRun(folder, Silent()), 1)
    facts["index_seconds" if is_new else "open_seconds"] = seconds
    facts["index_mb"] = round((folder / "browser.sqlite").stat().st_size / 1e6)
    facts["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    facts |= asyncio.run(measured(run, options.units // len(SOURCES), options.repeats))
    print(json.dumps(facts, indent=1))


async def measured(run: OpenedRun, each: int, repeats: int) -> dict[str, Any]:
    """All ratios."""
    browser = Browser(run, Access(PORT))
    app = make_app(browser)
    draw = random.Random(0)

    def depth() -> str:
        """A cursor somewhere in the list by density."""
        index = draw.randrange(each)
        return f"{density_of(index)!r}~{run.code(UnitId('features', index))}"

    def words(n: int) -> str:
        return " ".join(draw.choice(WORDS[:18]) for _ in range(n))

    lists = {
        "first": lambda: {"source": draw.choice(SOURCES)},
        "deep": lambda: {"sort": "density", "after": depth()},
        "filtered": lambda: {"lift_min": f"{draw.uniform(0.1, 0.5):.4f}", "status": "ok"},
        "beside": lambda: {"source": "features", "beside": "neurons", "sort": "score"},
    }
    searches = {
        "one_word": lambda: {"q": words(1)},
        "two_words": lambda: {"q": words(2)},
        "filtered": lambda: {"q": words(1), "source": draw.choice(SOURCES), "lift_min": "0.1"},
    }
    found: dict[str, Any] = {}
    for name, states in (("list", lists), ("search", searches)):
        ratios: dict[str, float] = {}
        for kind, parameters in states.items():
            # All of them once, so that those that are timed are equally warm.
            pages = [parameters() for _ in range(2 * repeats)]
            asked = [statements(run, browser.lists, state) for state in pages]
            served, bare = [], []
            for i in range(0, 2 * repeats, 2):
                served.append(await page_seconds(app, "/", urlencode(pages[i])))
                bare.append(statement_seconds(run, asked[i + 1]))
            ratios[kind] = note(found, f"{name}_{kind}", served, bare)
        found[f"{name}_ratio"] = max(ratios.values())
    served, bare = [], []
    for number in range(repeats + 3):
        units = [UnitId(draw.choice(SOURCES), draw.randrange(each)) for _ in range(2)]
        a = await page_seconds(app, f"/unit/{units[0]}", "")
        b = unit_seconds(run, browser.lister, units[1])
        if number >= 3:  # files are opened by the first ones
            served.append(a)
            bare.append(b)
    found["unit_ratio"] = note(found, "unit", served, bare)
    return found


Times = tuple[float, float]
"""Seconds of the processor and of the clock."""


def now() -> Times:
    """Both clocks."""
    return time.process_time(), time.perf_counter()


def since(start: Times) -> Times:
    """What has gone by on both."""
    end = now()
    return end[0] - start[0], end[1] - start[1]


def note(found: dict[str, Any], name: str, served: list[Times], bare: list[Times]) -> float:
    """Keep the medians; returns their ratio."""
    both = [statistics.median(own for own, _ in times) for times in (served, bare)]
    found[f"{name}_ms"], found[f"{name}_bare_ms"] = (round(1e3 * s, 2) for s in both)
    found[f"{name}_wall_ms"] = round(1e3 * statistics.median(wall for _, wall in served), 2)
    return round(both[0] / both[1], 2)


async def page_seconds(app: Any, path: str, query: str) -> Times:
    """One request, answered in this process."""
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": query.encode(), "headers": [(b"host", f"127.0.0.1:{PORT}".encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT),
    }  # fmt: skip
    started = now()
    await app(scope, receive, send)
    taken = since(started)
    assert status == 200, (status, path, query)
    return taken


def statements(
    run: OpenedRun, lists: ListPages, parameters: dict[str, str]
) -> list[tuple[str, Any]]:
    """The statements behind a page of the list, in their order."""
    plain = run.database
    recorded = Recorded(plain)
    run.database = recorded  # type: ignore[assignment]
    try:
        lists.values(ListState.of(parameters, run))
    finally:
        run.database = plain
    return recorded.statements


def statement_seconds(run: OpenedRun, asked: list[tuple[str, Any]]) -> Times:
    """Those statements alone."""
    started = now()
    for statement, values in asked:
        run.database.execute(statement, values).fetchall()
    return since(started)


def unit_seconds(run: OpenedRun, lister: Lister, unit: UnitId) -> Times:
    """Reading a unit, and who stands beside it in the list."""
    started = now()
    read_unit(run, unit)
    lister.around(ListState.of({}, run), run.code(unit))
    return since(started)


def timed(work: Callable[[], Any], digits: int) -> tuple[Any, float]:
    """What it returns, and how many seconds it took."""
    started = time.perf_counter()
    found = work()
    return found, round(time.perf_counter() - started, digits)


if __name__ == "__main__":
    main()
