"""A scored window as cells on a page: what was written, what was true, what was predicted.

Several tokens can be parts of one character; they share a span of the text and become one cell.
Corpus text is hostile: nothing here is HTML, and what would be invisible or would reorder its
neighbours is written out.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from autointerp.analysis.wording import number
from autointerp.records import ActivationRecord, Simulation

MAX_TOKEN_CHARACTERS = 32
"""A longer token is cut, with an ellipsis."""

N_SHADES = 10
"""Steps of either colour scale above none."""

MIN_LEVEL_RANGE = 0.5
"""The scale of predicted levels spans at least this much: a flat prediction looks flat."""

_BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NAMED = {"\n": "↵", "\r": "␍", "\t": "⇥", "\x7f": "␡"}


@dataclass(frozen=True)
class Cell:
    """One token, or the tokens of one character."""

    text: str
    true_shade: int | None
    """0 to `N_SHADES`: true activation as a share of the explain maximum; `None` where masked."""

    level_shade: int | None
    """0 to `N_SHADES`: predicted level within the unit's range; `None` where there is none."""

    title: str
    """The numbers in words."""

    true: float
    level: float | None


@dataclass(frozen=True)
class LevelScale:
    """The range of predicted levels of one unit under one explainer: lightest to darkest."""

    low: float
    high: float

    def shade(self, level: float) -> int:
        """0 to `N_SHADES`."""
        span = max(self.high - self.low, MIN_LEVEL_RANGE)
        return min(N_SHADES, max(0, round(N_SHADES * (level - self.low) / span)))


def level_scale(simulations: tuple[Simulation, ...]) -> LevelScale | None:
    """The scale over all windows of a unit; `None` where no level is known."""
    known = [s.expected[s.known] for s in simulations if s.known.any()]
    if not known:
        return None
    levels = np.concatenate(known)
    return LevelScale(float(levels.min()), float(levels.max()))


class SequenceTexts(Protocol):
    """Where texts of sequences and the places of tokens in them are; `RunResults` is one."""

    @property
    def sequence_texts(self) -> Mapping[str, Mapping[str, str]]:
        """sequence_id → `text`, `document_name`."""
        ...

    @property
    def char_spans(self) -> Mapping[str, tuple[Any, Any]]:
        """sequence_id → (char_starts, char_ends) of its tokens."""
        ...


def cells_of(
    results: SequenceTexts,
    record: ActivationRecord,
    simulation: Simulation | None,
    maximum: float,
    scale: LevelScale | None,
) -> list[Cell]:
    """The cells of one window.

    Args:
        results: for the text and the tokens' places in it.
        record: the window.
        simulation: predictions for it; `None` where nothing was predicted.
        maximum: the unit's largest activation in the `explain` split, darkest on the scale.
        scale: of the predicted levels.
    """
    # Lists: a page has thousands of cells, and numpy takes long over single numbers.
    masked, activations = record.masked.tolist(), record.activations.tolist()
    levels: list[float | None] = [None] * len(masked)
    if simulation is not None:
        known = zip(simulation.expected.tolist(), simulation.known.tolist(), strict=True)
        levels[: len(simulation.known)] = [value if k else None for value, k in known]
    cells: list[Cell] = []
    for text, first, last in _groups(results, record):
        scored = [i for i in range(first, last + 1) if not masked[i]]
        true = max((activations[i] for i in scored), default=0.0)
        level = max((x for i in scored if (x := levels[i]) is not None), default=None)
        true_shade = level_shade = None
        if scored:
            share = true / maximum if maximum > 0 else 0.0
            true_shade = min(N_SHADES, max(0, math.ceil(N_SHADES * share - 1e-6)))
        if level is not None and scale is not None:
            level_shade = scale.shade(level)
        title = _title(bool(scored), true, level)
        cells.append(Cell(shown_text(text), true_shade, level_shade, title, true, level))
    return cells


def shown_text(text: str) -> str:
    """A token as it is shown: cut, on one line, with nothing invisible in it."""
    if len(text) > MAX_TOKEN_CHARACTERS:
        text = text[: MAX_TOKEN_CHARACTERS - 1] + "…"
    return _shown_text(text)


@lru_cache(maxsize=65536)
def _shown_text(text: str) -> str:
    spaces = len(text) - len(text.lstrip(" "))
    if spaces > 2:
        text = f"␣×{spaces}" + text[spaces:]
    if text and unicodedata.category(text[0]).startswith("M"):
        text = "◌" + text
    visible = [unicodedata.category(char)[0] not in "CZM" for char in text]
    return "".join(_shown(char, any(visible)) for char in text)


def plain(text: str) -> str:
    """Any text for a page: line breaks stay, other controls and direction marks are written out."""
    return "".join(
        char if char in "\n\t" or not _is_control(char) else _shown(char, False) for char in text
    )


def direction(text: str) -> str:
    """`rtl` where most of the letters are written from right to left."""
    kinds = [unicodedata.bidirectional(char) for char in text]
    right = sum(kind in ("R", "AL") for kind in kinds)
    return "rtl" if right > sum(kind == "L" for kind in kinds) else "ltr"


def _groups(results: SequenceTexts, record: ActivationRecord) -> Iterator[tuple[str, int, int]]:
    """Text of every cell, and its first and last position in the window."""
    window = record.window
    n = len(record.tokens)
    text = results.sequence_texts.get(window.sequence_id, {}).get("text")
    spans = results.char_spans.get(window.sequence_id)
    if text is None or spans is None or len(spans[0]) < window.stop:
        for place, token in enumerate(record.tokens):
            yield token, place, place
        return
    starts = [int(x) for x in spans[0][window.start : window.stop]]
    ends = [int(x) for x in spans[1][window.start : window.stop]]
    first = 0
    while first < n:
        last, end = first, ends[first]
        while last + 1 < n and starts[last + 1] < end:
            last += 1
            end = max(end, ends[last])
        shown = text[_start(text, starts, ends, first) : end]
        yield shown or record.tokens[first], first, last
        first = last + 1


def _start(text: str, starts: list[int], ends: list[int], place: int) -> int:
    """Where a cell starts: with the space before it, if the tokenizer's spans leave spaces out."""
    start = starts[place]
    if place and ends[place - 1] < start and text[ends[place - 1] : start].isspace():
        return ends[place - 1]
    return start


def _title(is_scored: bool, true: float, level: float | None) -> str:
    if not is_scored:
        return "not scored"
    predicted = "no level" if level is None else f"level {number(level)}"
    return f"true {number(true)}, simulated {predicted}"


def _is_control(char: str) -> bool:
    category = unicodedata.category(char)
    return category in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp") or bool(_BIDI_CONTROLS.match(char))


def _shown(char: str, beside_visible: bool) -> str:
    if char in _NAMED:
        return _NAMED[char]
    category = unicodedata.category(char)
    joins = category == "Cf" and not _BIDI_CONTROLS.match(char)
    if joins and beside_visible and char in "\u200c\u200d":
        return char
    if joins or _is_control(char):
        return f"⟨U+{ord(char):04X}⟩"
    return char
