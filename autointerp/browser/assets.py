"""Scripts, style sheets and pictures of the pages: our own files, by name."""

from functools import cache

from autointerp import viewer
from autointerp.browser.rendering import ASSETS

_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@cache
def asset(name: str) -> tuple[bytes, str] | None:
    """A file's bytes and media type; `None` where there is none of that name."""
    if name == "report.css":
        from pathlib import Path

        return Path(viewer.__path__[0], name).read_bytes(), "text/css; charset=utf-8"
    if name not in asset_names():
        return None
    path = ASSETS / name
    return path.read_bytes(), f"{_KINDS[path.suffix]}; charset=utf-8"


@cache
def asset_names() -> frozenset[str]:
    """Names of all files."""
    return frozenset(p.name for p in ASSETS.iterdir() if p.suffix in _KINDS) | {"report.css"}
