"""Numbers in sentences: rounded so that a rounded number never says what the exact one does not."""

from collections.abc import Mapping
from typing import Any

from autointerp.analysis.values import AnyInterval, interval_json

ROUNDING_ERROR = 1e-12
"""A number closer to 0 than this is what is left of a subtraction."""


def number(value: float | None, decimals: int = 2) -> str:
    """A number with a true minus sign; one that would round to 0 keeps its first digit."""
    if value is None:
        return "–"
    if abs(value) < ROUNDING_ERROR:
        value = 0.0
    text = f"{value:.{decimals}f}"
    if value != 0 and float(text) == 0:
        text = f"{value:.1g}"
        if "e" in text:
            text = f"{value:.0e}".replace("e-0", "e-")
    return text.replace("-", "−") if float(text) != 0 else f"{0:.{decimals}f}"


def interval_text(interval: AnyInterval | Mapping[str, Any] | None) -> str:
    """`0.10 to 0.32`, or an empty text where there is no interval."""
    found = interval if isinstance(interval, Mapping) else interval_json(interval)
    return "" if found is None else f"{number(found['low'])} to {number(found['high'])}"


def level_text(interval: AnyInterval | Mapping[str, Any] | None) -> str:
    """`95 % interval 0.10 to 0.32`, or `no interval`."""
    found = interval if isinstance(interval, Mapping) else interval_json(interval)
    if found is None:
        return "no interval"
    return f"{100 * found['level']:g} % interval {interval_text(found)}"


def percent(share: float | None) -> str:
    """A share as percent, with as many digits as a rare one needs."""
    if share is None:
        return "–"
    value = 100 * share
    if value == 0 or value >= 10:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """`1 unit`, `2 units`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def p_text(p_value: float) -> str:
    """`p = 0.03`, never `p = 0`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
