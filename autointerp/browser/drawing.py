"""Small drawings as SVG that needs no inline style: the page's style sheet colours them."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from autointerp.analysis.wording import number, percent, plural
from autointerp.recording.statistics import bucket_edges
from autointerp.records import SplitStatistics

_HEIGHT, _WIDTH = 64, 320


def distribution(
    series: Sequence[tuple[str, Sequence[int]]],
    low: float,
    high: float,
    field: str,
) -> Markup:
    """Bars over a range, one row of them per source; the script makes them select their ranges.

    Args:
        series: (source, counts) of equal length.
        low: lower end of the first bar.
        high: upper end of the last.
        field: `lift`, `score` or `density` (whose axis is logarithmic: `low`, `high` are powers).
    """
    parts: list[Markup] = []
    for place, (name, counts) in enumerate(series):
        parts.append(_bars(place, name, counts, low, high, field))
    total = _HEIGHT * len(series)
    label = f"distribution of {field}: " + "; ".join(
        f"{name}: {_spoken(counts, low, high, field)}" for name, counts in series
    )
    return Markup(
        '<svg class="distribution" viewBox="0 0 {} {}" role="img" aria-label="{}" '
        'data-field="{}">{}</svg>'
    ).format(
        _WIDTH, total + 14, label, field, Markup("").join(parts) + _axis(low, high, field, total),
    )  # fmt: skip


def _bars(
    place: int,
    name: str,
    counts: Sequence[int],
    low: float,
    high: float,
    field: str,
) -> Markup:
    width = _WIDTH / len(counts)
    step = (high - low) / len(counts)
    most = max(counts, default=0) or 1
    bottom = (place + 1) * _HEIGHT
    found: list[Markup] = []
    for i, n in enumerate(counts):
        ends = [_value(low + j * step, field) for j in (i, i + 1)]
        if field == "density" and i == 0:
            ends[0] = 0.0  # what lies below the axis is in its first bar
        tall = math.ceil((_HEIGHT - 8) * n / most) if n else 0
        title = f"{name}: {plural(n, 'unit')}, {field} {_shown(ends[0], field)} to " + _shown(
            ends[1], field
        )
        found.append(
            Markup(
                '<g data-bar="{}" data-min="{:.9g}" data-max="{:.9g}"><title>{}</title>'
                '<rect class="hit" x="{:.2f}" y="{}" width="{:.2f}" height="{}"/>'
                '<rect class="{}" x="{:.2f}" y="{}" width="{:.2f}" height="{}"/></g>'
            ).format(
                i,
                *ends,
                title,
                i * width,
                bottom - _HEIGHT,
                width,
                _HEIGHT,
                f"bar series{place % 2}",
                i * width + 0.5,
                bottom - tall,
                max(width - 1, 1),
                tall,
            )
        )
    found.append(
        Markup('<text class="name" x="2" y="{}">{}</text>').format(
            bottom - _HEIGHT + 10, name if len(name) <= 40 else name[:39] + "…"
        )
    )
    return Markup("").join(found)


def _axis(low: float, high: float, field: str, y: int) -> Markup:
    found = [Markup('<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>').format(_WIDTH, y, y)]
    if low < 0 < high and field != "density":
        x = _WIDTH * (0 - low) / (high - low)
        found.append(
            Markup('<line class="zero" x1="{:.1f}" x2="{:.1f}" y1="0" y2="{}"/>').format(x, x, y)
        )
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        value = _shown(_value(low + share * (high - low), field), field)
        found.append(
            Markup('<text class="tick" x="{:.0f}" y="{}" text-anchor="{}">{}</text>').format(
                share * _WIDTH, y + 11, anchor, value
            )
        )
    return Markup("").join(found)


def _value(place: float, field: str) -> float:
    return 10.0**place if field == "density" else round(place, 9)


def _shown(value: float, field: str) -> str:
    return percent(value) if field == "density" else number(value)


def _spoken(counts: Sequence[int], low: float, high: float, field: str) -> str:
    """Number and quartiles, in words."""
    total = sum(counts)
    if not total:
        return "no units"
    step = (high - low) / len(counts)
    seen, ends = 0, list[str]()
    quarters = iter((0.25, 0.5, 0.75))
    wanted = next(quarters)
    for i, n in enumerate(counts):
        seen += n
        while wanted is not None and seen >= wanted * total:
            ends.append(_shown(_value(low + (i + 0.5) * step, field), field))
            wanted = next(quarters, None)
    return f"{plural(total, 'unit')}, quartiles about {', '.join(ends)}"


def activation_histogram(statistics: SplitStatistics) -> Markup | None:
    """Tokens per half octave of activation in one split; `None` where it never fired."""
    used = [i for i, n in enumerate(statistics.histogram) if n]
    if not used:
        return None
    edges = bucket_edges()
    first, last = used[0], used[-1]
    counts = statistics.histogram[first : last + 1]
    width = min(28.0, _WIDTH / len(counts))
    most = max(counts)
    found: list[Markup] = []
    for i, n in enumerate(counts):
        low = edges[first + i]
        high = edges[first + i + 1] if first + i + 1 < len(edges) else math.inf
        tall = max(1, round((_HEIGHT - 4) * n / most)) if n else 0
        found.append(
            Markup(
                '<g><title>{}</title><rect class="bar series0" x="{:.2f}" y="{}" '
                'width="{:.2f}" height="{}"/></g>'
            ).format(
                f"{plural(n, 'token')} with activation {number(low)} to {number(high)}",
                i * width + 0.5,
                _HEIGHT - tall,
                max(width - 1, 1),
                tall,
            )
        )
    right = width * len(counts)
    ends = edges[first], edges[last + 1] if last + 1 < len(edges) else math.inf
    label = (
        f"histogram of activations above 0: {plural(sum(counts), 'token')} from {number(ends[0])} "
        f"to {number(ends[1])}, most between {number(edges[first + counts.index(most)])} and the "
        "next half octave"
    )
    return Markup(
        '<svg class="distribution plain" viewBox="0 0 {} {}" role="img" aria-label="{}">{}'
        '<line class="axis" x1="0" x2="{:.0f}" y1="{}" y2="{}"/>'
        '<text class="tick" x="0" y="{}">{}</text>'
        '<text class="tick" x="{:.0f}" y="{}" text-anchor="end">{}</text></svg>'
    ).format(
        _WIDTH, _HEIGHT + 14, label, Markup("").join(found), right, _HEIGHT, _HEIGHT,
        _HEIGHT + 11, number(ends[0]), max(right, 80), _HEIGHT + 11, number(ends[1]),
    )  # fmt: skip
