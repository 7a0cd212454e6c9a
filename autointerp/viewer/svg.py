"""A figure's SVG as a part of a page: drawing elements only, no styles, the page's colours."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from markupsafe import Markup, escape

_ELEMENTS = frozenset(
    ("svg", "g", "defs", "clipPath", "path", "rect", "line", "circle", "use", "text", "tspan")
)
_ATTRIBUTES = frozenset(
    (
        "viewBox", "id", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height",
        "transform", "clip-path", "href", "fill", "fill-opacity", "stroke", "stroke-width",
        "stroke-opacity", "stroke-linecap", "stroke-linejoin", "stroke-dasharray",
        "stroke-dashoffset", "opacity", "text-anchor", "font-size", "font-weight", "font-style",
    )
)  # fmt: skip
_LOCAL_URL = re.compile(r"^url\(#[\w.-]+\)$")


def inline_svg(svg: str, ink: str, label: str) -> Markup:
    """Make an SVG document a part of a page that forbids inline styles.

    Elements and attributes that do not draw are dropped; `style` is split into attributes; what is
    drawn in the colour `ink` takes the page's text colour; the font is the page's.

    Args:
        svg: the document.
        ink: a colour as `#rrggbb`.
        label: what a screen reader says for it.
    """
    root = ElementTree.fromstring(svg)
    attributes = [
        Markup('role="img"'),
        Markup('aria-label="{}"').format(label),
        Markup('stroke-linejoin="round"'),
    ]
    return Markup("").join(_written(root, ink, attributes, is_root=True))


def _written(
    element: ElementTree.Element, ink: str, more: list[Markup], *, is_root: bool = False
) -> Iterator[Markup]:
    name = _local(element.tag)
    if name not in _ELEMENTS:
        return
    attributes = [*more]
    for attribute, value in _attributes(element):
        if is_root and attribute in ("width", "height"):
            continue
        shown = "currentColor" if value.lower() == ink.lower() else value
        attributes.append(Markup('{}="{}"').format(attribute, shown))
    yield Markup("<{}").format(name)
    for attribute in attributes:
        yield Markup(" ") + attribute
    yield Markup(">")
    yield escape((element.text or "").strip())
    for child in element:
        yield from _written(child, ink, [])
    yield Markup("</{}>").format(name)


def _attributes(element: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for raw, value in element.attrib.items():
        name = _local(raw)
        if name == "style":
            for declaration in value.split(";"):
                key, _, found = declaration.partition(":")
                yield from _allowed(key.strip(), found.strip())
        else:
            yield from _allowed(name, value)


def _allowed(name: str, value: str) -> Iterator[tuple[str, str]]:
    if name not in _ATTRIBUTES:
        return
    if name == "href" and not value.startswith("#"):
        return
    if "url(" in value and not _LOCAL_URL.match(value):
        return
    yield name, " ".join(value.split())


def _local(name: object) -> str:
    return str(name).rpartition("}")[2]
