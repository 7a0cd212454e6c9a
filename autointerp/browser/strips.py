"""A window as coloured tokens: above its true activation, below what was simulated.

Negative sides of signed units have a colour of their own, and a minus sign in every number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from autointerp.analysis.wording import number
from autointerp.browser.text import cut, visible
from autointerp.records import ActivationRecord, Simulation
from autointerp.viewer.report import stratum_text
from autointerp.viewer.tokens import Cell, LevelScale, SequenceTexts, cells_of, direction


@dataclass(frozen=True)
class Strip:
    """One window, ready for a page."""

    stratum: str
    document: str
    maximum: str
    simulated: str | None
    """Level simulated on the strongest token, as a number."""

    split: str
    html: Markup
    link: str = ""
    """Text of the window, for trying it."""


def strip_of(
    texts: SequenceTexts,
    record: ActivationRecord,
    simulation: Simulation | None,
    maximum: float,
    scale: LevelScale | None,
) -> Strip:
    """One window of a unit.

    Args:
        texts: of the sequences.
        record: the window.
        simulation: what was predicted for it; `None` where nothing was.
        maximum: the unit's largest activation in `explain`, darkest on the scale.
        scale: of predicted levels.
    """
    negative = record.unit.polarity < 0
    cells = cells_of(texts, record, simulation, maximum, scale)
    strongest = max(cells, key=lambda cell: cell.true, default=None)
    there = strongest.level if strongest and strongest.true > 0 else None
    name = texts.sequence_texts.get(record.window.sequence_id, {}).get("document_name", "")
    return Strip(
        stratum_text(record.stratum),
        visible(cut(name or record.document_id, 60)),
        signed(record.maximum, negative),
        None if there is None else number(there),
        str(record.split),
        strip_html(cells, negative=negative, with_levels=scale is not None),
        cut("".join(record.tokens), 600),
    )


def signed(value: float, negative: bool) -> str:
    """An activation as it is shown: raw values of negative sides are below 0."""
    return number(-value if negative else value)


def strip_html(cells: Sequence[Cell], *, negative: bool, with_levels: bool) -> Markup:
    """The cells as inline elements; a screen reader hears the text and its strongest tokens."""
    text = "".join(cell.text for cell in cells)
    strongest = [c for c in sorted(cells, key=lambda cell: -cell.true)[:3] if c.true > 0]
    spoken = "; ".join(
        f"{cell.text.strip()} {signed(cell.true, negative)}"
        + (f", simulated {number(cell.level)}" if cell.level is not None else "")
        for cell in strongest
    )
    label = f"{cut(text, 400)} Strongest tokens: {spoken or 'none is active'}."
    kind = "n" if negative else "a"
    found = [
        f'<span class="t {"m" if cell.true_shade is None else f"{kind}{cell.true_shade}"} '
        f'{_level_class(cell, with_levels)}" title="{_title(cell, negative, with_levels)}">'
        f"{escape(cell.text)}</span>"
        for cell in cells
    ]
    way = direction(text)
    return Markup('<div class="strip" dir="{}" role="img" aria-label="{}">{}</div>').format(
        way, label, Markup("".join(found))
    )


def _level_class(cell: Cell, with_levels: bool) -> str:
    if not with_levels:
        return "s0 nolevel"
    return "sn" if cell.level_shade is None else f"s{cell.level_shade}"


def _title(cell: Cell, negative: bool, with_levels: bool) -> str:
    """Numbers only: nothing of the corpus is in it."""
    if cell.true_shade is None:
        return "not scored"
    true = f"activation {signed(cell.true, negative)}"
    if not with_levels:
        return true
    return f"{true}, simulated {'no level' if cell.level is None else number(cell.level)}"
