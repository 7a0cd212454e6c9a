"""Templates, and where their links lead: to a server's addresses or to files of a folder."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from autointerp.analysis.wording import interval_text, number, p_text, percent, plural
from autointerp.browser.text import cut, shown
from autointerp.records import UnitId

PAGES = Path(__file__).resolve().parent / "pages"
ASSETS = Path(__file__).resolve().parent / "files"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-security policy of every page: its own files, nothing inline, nothing from elsewhere."""


@dataclass(frozen=True)
class Links:
    """Addresses of a server."""

    root: str = "/"
    is_static: bool = False

    def asset(self, name: str) -> str:
        """A script or style sheet."""
        return f"{self.root}assets/{name}"

    def unit(self, unit: UnitId, query: str = "") -> str:
        """The page of a unit."""
        return _with(f"{self.root}{self.unit_path(unit)}", query)

    def unit_path(self, unit: UnitId) -> str:
        """Its path without the root."""
        sign = "-" if unit.polarity < 0 else ""
        return f"unit/{quote(unit.source, safe='')}/{unit.index}{sign}"

    def page(self, name: str, query: str = "") -> str:
        """Any other page: `map`, `try`, `rate`, `compare`, `report`; the list if empty."""
        return _with(f"{self.root}{name}", query)


@dataclass(frozen=True)
class StaticLinks(Links):
    """Files of a folder, from a page that lies `root` above or beside them."""

    is_static: bool = True

    def unit_path(self, unit: UnitId) -> str:
        """The file of a unit."""
        sign = "-" if unit.polarity < 0 else ""
        return f"{self.unit_path_of(unit.source)}{unit.index}{sign}.html"

    def unit_path_of(self, source: str) -> str:
        """The folder of a source's units."""
        # Twice: what a folder is called holds the first, its address the second.
        return f"unit/{quote(quote(source, safe=''), safe='')}/"

    def page(self, name: str, query: str = "") -> str:
        """The file of a page; a state of the list is in the fragment."""
        file = f"{self.root}{name or 'index'}.html"
        return f"{file}#{query}" if query else file


def _with(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


class Renderer:
    """Fills templates; every text is escaped, and made visible where it would not be."""

    def __init__(self) -> None:
        self._beginnings: dict[tuple[str, str, Links], tuple[Markup, Markup]] = {}

    @cached_property
    def environment(self) -> Any:
        """The templates."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment: Any = Environment(
            loader=FileSystemLoader(PAGES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=shown,
            auto_reload=False,
        )
        environment.filters.update(
            number=number,
            interval=interval_text,
            percent=percent,
            p=p_text,
            cut=cut,
            words=lambda status: str(status).replace("_", " "),
        )
        environment.globals.update(plural=plural)
        return environment

    def page(self, template: str, *, page: str, run: str, links: Links, **values: Any) -> str:
        """One page; what every page of a kind begins with is made once."""
        key = (page, run, links)
        if key not in self._beginnings:
            self._beginnings[key] = (
                self.part("top.html.j2", page=page, run=run, links=links),
                self.part("files.html.j2", links=links),
            )
        top, files = self._beginnings[key]
        found = self.environment.get_template(template)
        return found.render(page=page, run=run, links=links, top=top, files=files, **values)

    def part(self, template: str, **values: Any) -> Markup:
        """A part of a page."""
        return Markup(self.environment.get_template(template).render(**values))
