"""A run as a folder of files that any web host serves: the list as pages of JSON, a page per unit.

Units are written one by one, so that memory does not grow with their number. What needs a server
(trying, rating, comparing anew, a judge's answers) is left out.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autointerp.browser.assets import asset, asset_names
from autointerp.browser.codes import STATUSES
from autointerp.browser.lists import Lister, ListState
from autointerp.browser.opened import OpenedRun
from autointerp.browser.rendering import Renderer, StaticLinks
from autointerp.browser.text import cut, visible
from autointerp.browser.unit_values import unit_values
from autointerp.progress import Reporter
from autointerp.records import AutointerpError, Status
from autointerp.store import write_text
from autointerp.store.files import batched

ROWS_PER_FILE = 500
MARK = ".autointerp-view"
"""Lies in every folder written here: only such a folder is written into again."""


def write_site(
    run_folder: str | Path, output: str | Path, reporter: Reporter, *, with_maps: bool = True
) -> int:
    """Write a run as files; returns the number of unit pages.

    Args:
        run_folder: of a finished run.
        output: an empty or new folder, or one that was written here before.
        reporter: hears of the progress.
        with_maps: make maps of the directions, for which the dictionaries are loaded.

    Raises:
        AutointerpError: where there is no finished run, or the folder holds something else.
    """
    place = Path(output)
    if place.exists() and not (place / MARK).exists() and any(place.iterdir()):
        raise AutointerpError(
            f"{str(place)!r} holds other files: give --static a new or an empty folder"
        )
    run = OpenedRun(run_folder, reporter)
    try:
        return _Site(run, place, reporter).write(with_maps=with_maps)
    finally:
        run.close()


class _Site:
    def __init__(self, run: OpenedRun, place: Path, reporter: Reporter) -> None:
        self.run, self.place, self.reporter = run, place, reporter
        self.renderer = Renderer()
        self.lister = Lister(run)

    def write(self, *, with_maps: bool) -> int:
        """All files; the list last, so that a site that was stopped half-way has none."""
        for part in ("unit", "data", "assets"):
            shutil.rmtree(self.place / part, ignore_errors=True)
        self.place.mkdir(parents=True, exist_ok=True)
        write_text(self.place / MARK, "")
        (self.place / "assets").mkdir()
        for name in asset_names():
            found = asset(name)
            assert found is not None
            (self.place / "assets" / name).write_bytes(found[0])
        self._maps(with_maps)
        report = self.run.folder / "report.html"
        if report.exists():
            shutil.copyfile(report, self.place / "report.html")
        n = self._units()
        self._list(n)
        return n

    def _page(self, path: Path, template: str, page: str, **values: Any) -> None:
        root = "../" * (len(path.parts) - 1)
        links = StaticLinks(root)
        text = self.renderer.page(template, page=page, run=self.run.name, links=links, **values)
        target = self.place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    # ------------------------------------------------------------------ units

    def _codes(self) -> Iterator[int]:
        rows = self.run.database.execute("SELECT id FROM units WHERE place IS NOT NULL ORDER BY id")
        for (code,) in rows:
            yield code

    def _units(self) -> int:
        (total,) = self.run.database.execute(
            "SELECT COUNT(*) FROM units WHERE place IS NOT NULL"
        ).fetchone()
        self.reporter.stage("pages", total, "units")
        state = ListState.of({}, self.run)
        links = StaticLinks("")
        for code in self._codes():
            unit = self.run.unit(code)
            values = unit_values(self.run, self.lister, None, unit, state, {"all": "1"})
            values["known"] = lambda one: self.run.facts(one).place is not None
            values["list_query"] = ""
            # The name of the file is the address, decoded once.
            path = links.unit_path(unit).replace("%25", "%")
            self._page(Path(path), "unit.html.j2", "unit", **values)
            self.reporter.advance(1)
        return total

    # ------------------------------------------------------------------ the list

    def _list(self, n_units: int) -> None:
        views: dict[str, Any] = {}
        names: list[tuple[str, str]] = []
        several = len(self.run.scorers) > 1
        for (explainer, scorer), view in sorted(self.run.views.items(), key=lambda one: one[1]):
            views[str(view)] = self._view(view, explainer)
            names.append((str(view), f"{explainer} by {scorer}" if several else explainer))
        text = json.dumps({"run": self.run.name, "rows_per_page": ROWS_PER_FILE, "views": views})
        write_text(self.place / "data" / "index.json", text)
        best = self.run.views[self.run.best_explainer, self.run.primary_scorer]
        self._page(
            Path("index.html"),
            "static_list.html.j2",
            "list",
            views=names,
            best=str(best),
            sources=self.run.sources,
            statuses=[str(status) for status in Status],
            n_units=n_units,
        )

    def _view(self, view: int, explainer: str) -> dict[str, Any]:
        """Its rows, best lift first, as files of `ROWS_PER_FILE`."""
        folder = self.place / "data" / str(view)
        folder.mkdir(parents=True)
        rows = self.run.database.cursor().execute(
            "SELECT l.unit, e.text, l.lift, l.low, l.high, l.score, l.density, l.status "
            "FROM listed l LEFT JOIN explained e ON e.explainer = ? AND e.unit = l.unit "
            "WHERE l.view = ? ORDER BY l.lift DESC, l.unit DESC",
            (self.run.explainers.index(explainer), view),
        )
        links = StaticLinks("")
        n = pages = 0
        for batch in batched(rows, ROWS_PER_FILE):
            found = [
                [
                    str(unit := self.run.unit(code)), links.unit(unit),
                    None if text is None else visible(cut(text, 240)),
                    *(None if x is None else round(x, 4) for x in (lift, low, high, score)),
                    float(f"{density:.4g}"), str(STATUSES[status]),
                ]
                for code, text, lift, low, high, score, density, status in batch
            ]  # fmt: skip
            text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
            (folder / f"{pages}.json").write_text(text, encoding="utf-8")
            n, pages = n + len(batch), pages + 1
        return {"n": n, "pages": pages}

    # ------------------------------------------------------------------ maps

    def _maps(self, wanted: bool) -> None:
        from autointerp.browser.maps import Maps

        (self.place / "data").mkdir()
        maps = Maps(self.run)
        why: dict[str, str] = {}
        for place, source in enumerate(self.run.sources):
            found = maps.kept(source, "pca")
            if found is None and wanted:
                self.reporter.stage("map", 1, f"of {source}")
                try:
                    found = maps.make(source, "pca")
                except AutointerpError as error:
                    why[source] = str(error)
                self.reporter.advance(1)
            points = found or {"error": why.get(source, "none was made for this folder")}
            shown = self._with_pages_alone(points) if found else points
            text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
            (self.place / "data" / f"map-{place}.json").write_text(text, encoding="utf-8")
        for place, source in enumerate(self.run.sources):
            self._page(
                Path("map.html" if place == 0 else f"map-{place}.html"),
                "map.html.j2",
                "map",
                source=source,
                sources=self.run.sources,
                method="pca",
                has_umap=False,
                q="",
                unit="",
                is_kept=True,
                allowed=False,
                points_at=f"data/map-{place}.json",
                unit_root=StaticLinks("").unit_path_of(source),
            )

    def _with_pages_alone(self, found: dict[str, Any]) -> dict[str, Any]:
        """Units without a page of their own are drawn, and lead nowhere."""
        return {k: v for k, v in found.items() if k != "made_from"} | {"only_scored_open": True}
