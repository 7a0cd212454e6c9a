"""Plain rows of a unit and its explanation, or of a unit and a window; delphi's text files."""

import re
from collections.abc import Iterator
from typing import Any

from autointerp.export.reading.found import (
    Found,
    FoundExplanation,
    RefusedError,
    explainer_of,
    text_of,
    unit_of,
    window_of,
)
from autointerp.export.write import from_cell
from autointerp.records import AutointerpError, Split, UnitId

_DELPHI = re.compile(r"(?P<hookpoint>.{1,100})_(?:latent|feature)(?P<index>[0-9]{1,10})\.txt")


def is_row(value: dict[str, Any]) -> bool:
    """Whether it has a unit, and words or a window for it."""
    return "unit" in value and ("explanation" in value or "tokens" in value)


def row(value: dict[str, Any]) -> Iterator[Found | RefusedError]:
    """An explanation or a window; a row without a text, of a unit without one, gives nothing."""
    unit = _unit(value["unit"])
    if "tokens" in value:
        found = window_of(unit, value["tokens"], value.get("activations"), value.get("document"))
        split = value.get("split")
        if split is not None and split not in set(Split):
            raise RefusedError(f"split {str(split)[:40]!r} is not one of {', '.join(Split)}")
        yield type(found)(unit, found.tokens, found.activations, found.document, split)
        return
    said = value["explanation"]
    if said is None and value.get("status") not in (None, "ok"):
        return
    yield FoundExplanation(unit, explainer_of(value.get("explainer")), text_of(said))


def csv_row(value: dict[Any, Any]) -> Iterator[Found | RefusedError]:
    """A row of a csv file; an empty text beside a status that is not ok gives nothing."""
    if any(name is None for name in value):
        raise RefusedError("has more cells than the header")
    given = {name: from_cell(cell) for name, cell in value.items() if isinstance(cell, str)}
    for name in ("unit", "explanation"):
        if name not in given:
            raise RefusedError(f"has no cell under {name!r}")
    if given.get("is_baseline") == "True":
        return  # a control, not words
    status = given.get("explanation_status")
    if status and status != "ok" and not given["explanation"]:
        return
    yield FoundExplanation(
        _unit(given["unit"]), explainer_of(given.get("explainer")), text_of(given["explanation"])
    )


def delphi(name: str, value: Any) -> Iterator[Found | RefusedError]:
    """One of delphi's files `HOOKPOINT_latentN.txt`: a text as JSON; its scores give nothing."""
    match = _DELPHI.fullmatch(name)
    if match is None:
        raise RefusedError("its name is not HOOKPOINT_latentN.txt")
    if isinstance(value, list):
        return
    yield FoundExplanation(unit_of(match["hookpoint"], match["index"]), "delphi", text_of(value))


def _unit(name: Any) -> UnitId:
    if not isinstance(name, str):
        raise RefusedError("`unit` is not a text SOURCE/INDEX")
    try:
        found = UnitId.parse(name)
    except AutointerpError as error:
        raise RefusedError(str(error)) from error
    return unit_of(found.source, found.index, found.polarity)
