"""What is found in a file, and checks that all formats share."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autointerp.explainers.fixed import MAX_CHARACTERS
from autointerp.names import as_name
from autointerp.records import UnitId

MAX_TOKENS = 65_536
"""Tokens of a window at most."""

_MAX_NAME = 120


class RefusedError(Exception):
    """This object cannot be used: says why."""


@dataclass(frozen=True)
class FoundExplanation:
    """Words for a unit."""

    unit: UnitId
    explainer: str
    """Who made them, as a name that a config accepts."""
    text: str
    published: Mapping[str, float] = field(default_factory=dict)
    """Scores that came along, by the file's names for them."""


@dataclass(frozen=True)
class FoundWindow:
    """Tokens and activations of a unit."""

    unit: UnitId
    tokens: list[str]
    activations: list[float]
    document: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class FoundRow:
    """A row that `autointerp export` wrote, checked."""

    row: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """Something that cannot be used."""

    where: str
    """File and line."""
    reason: str


Found = FoundExplanation | FoundWindow | FoundRow | Refused


def unit_of(source: str, index: Any, polarity: int = 1) -> UnitId:
    """A unit from a file's names; the source becomes a name that a config accepts."""
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) <= 10:
        index = int(index)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 2**31:
        raise RefusedError(f"index {_shown(index)} is not a number from 0 to 2147483647")
    name = source.strip()
    if not name or len(name) > _MAX_NAME:
        raise RefusedError(f"source {_shown(source)} is empty or longer than {_MAX_NAME}")
    return UnitId(as_source(name), index, polarity)


def as_source(name: str) -> str:
    """A name of a source as a config accepts it: `6-res-jb` becomes `s_6-res-jb`."""
    return name if as_name(name) == name else f"s_{as_name(f's{name}')[1:]}"


def explainer_of(*parts: Any) -> str:
    """A name of an explainer from what a file says of it."""
    said = "_".join(str(p).rsplit("/", 1)[-1] for p in parts if isinstance(p, str) and p.strip())
    name = as_name(said[:_MAX_NAME]) if said else "imported"
    return name.removeprefix("run_") if said[:1].isalpha() else name


def text_of(value: Any) -> str:
    """The words of an explanation, on one line."""
    if not isinstance(value, str) or not value.strip():
        raise RefusedError("has no text of an explanation")
    text = " ".join(value.encode("utf-8", "replace").decode().split())
    if len(text) > MAX_CHARACTERS:
        raise RefusedError(
            f"{len(text)} characters are no explanation; at most {MAX_CHARACTERS} are read"
        )
    return text


def window_of(unit: UnitId, tokens: Any, values: Any, document: Any = None) -> FoundWindow:
    """A window, where tokens and activations fit each other."""
    if not isinstance(tokens, list) or not tokens or not all(isinstance(t, str) for t in tokens):
        raise RefusedError("its tokens are not a list of texts")
    if not isinstance(values, list) or len(values) != len(tokens):
        size = len(values) if isinstance(values, list) else "no list of"
        raise RefusedError(f"{len(tokens)} tokens but {size} activations")
    if len(tokens) > MAX_TOKENS:
        raise RefusedError(f"{len(tokens)} tokens are no window; at most {MAX_TOKENS} are read")
    numbers = [number_of(value) for value in values]
    if any(number is None for number in numbers):
        raise RefusedError("its activations are not all finite numbers")
    whole = [t.encode("utf-8", "replace").decode() for t in tokens]
    named = document if isinstance(document, str) and document else None
    return FoundWindow(unit, whole, [n for n in numbers if n is not None], named)


def windows_of(
    unit: UnitId, entries: Sequence[Any], field_name: str, where: str
) -> Iterator[FoundWindow | RefusedError]:
    """All windows of a list of objects; the same window is given once.

    Args:
        unit: whose windows they are.
        entries: each with `tokens` and activations.
        field_name: what activations are called in them.
        where: what one of them is called, before its number, in what is said of a wrong one.
    """
    seen: set[tuple[str, ...]] = set()
    for number, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise RefusedError("not an object")
            found = window_of(unit, entry.get("tokens"), entry.get(field_name))
        except RefusedError as error:
            yield RefusedError(f"{where} {number}: {error}")
            continue
        if tuple(found.tokens) not in seen:
            seen.add(tuple(found.tokens))
            yield found


def number_of(value: Any) -> float | None:
    """A finite number, `None` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def numbers_of(value: Mapping[str, Any], *names: str) -> dict[str, float]:
    """Those of the named fields that hold a finite number."""
    found = {name: number_of(value.get(name)) for name in names}
    return {name: number for name, number in found.items() if number is not None}


def objects_of(value: Any, name: str) -> list[Any]:
    """A list in a field that may be missing or null."""
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise RefusedError(f"`{name}` is not a list")
    return found


def _shown(value: Any) -> str:
    return repr(value)[:60]
