"""One picture of a run: every unit's lift per explainer and source, and against firing rate."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp import stats
from autointerp.analysis.aggregate import LEVEL
from autointerp.analysis.results import RunResults
from autointerp.analysis.values import analysis_seed, best_explainer, mean_or_none, outcome_of
from autointerp.analysis.wording import interval_text, number
from autointerp.records import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SOURCE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#3D9BD1")
"""Okabe & Ito's colours, told apart with every common colour vision; markers differ as well."""

MARKERS = ("o", "s", "^", "D", "v", "P")

INK = "#1b1f24"
"""Text and axes; a page may replace it by its own text colour."""

QUIET = "#8b949e"
"""Grid and the line at zero."""

MANY_UNITS = 60
"""A column of more shows how its lifts are distributed, without every unit's interval."""

BINS_PER_LIFT = 20
"""Bars of such a distribution between a lift of 0 and of 1."""


def draw_comparison(
    results: RunResults,
    comparison: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    path_stem: str | Path,
) -> tuple[Path, Path]:
    """Draw the run's comparison as `path_stem`.png and `path_stem`.svg.

    Left: one panel per explainer, every unit's lift with its interval, per source, with the mean
    over units and its interval; of more than `MANY_UNITS` units the distribution of lifts. Right:
    lift under one explainer against firing rate. The same results give the same bytes.

    Args:
        results: the run.
        comparison: from `compare_sources`, or the list from `compare_all`. With two sources, the
            difference is written under each explainer's panel; one comparison alone also decides
            the explainer on the right, which is else the one with words and the highest mean lift.
        path_stem: where to write, without a suffix.

    Returns:
        The paths of the PNG and of the SVG.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    one = comparison if isinstance(comparison, Mapping) else None
    comparisons: list[Any] = [one] if one else list(comparison or ())
    shown = one["explainer"] if one else best_explainer(results)
    columns = {
        explainer: [_column(results, source, explainer) for source in results.sources]
        for explainer in results.explainers
    }
    limits = limits_of([column for group in columns.values() for column in group])
    stem = Path(path_stem)
    files = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    with rc_context(figure_settings()):
        width = max(12.0, 0.95 * len(columns) + 2.6)
        figure = Figure(figsize=(width, 4.8), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr]
        ratios = [*(max(1.2, 0.55 * len(results.sources)) for _ in columns), 2.6]
        axes = figure.subplots(1, len(columns) + 1, sharey=True, width_ratios=ratios, squeeze=False)
        panels: Sequence[Any] = axes[0]
        for place, (explainer, group) in enumerate(columns.items()):
            draw_columns(panels[place], group, limits)
            suffix = "\n(baseline)" if explainer in results.baseline_explainers else "\n"
            panels[place].set_title(short(explainer) + suffix, fontsize=10.5)
            if len(results.sources) == 2:
                found = next((c for c in comparisons if c["explainer"] == explainer), None)
                panels[place].set_xlabel(_difference_label(found), fontsize=9)
        panels[0].set_ylim(*limits)
        panels[0].set_ylabel("lift: score − mean score of other\nunits' explanations (correlation)")
        _draw_rates(panels[-1], results, shown)
        save_figure(figure, *files)
    return files


def figure_settings() -> dict[Any, Any]:
    """matplotlib's settings for figures that come out the same everywhere."""
    return {
        "svg.hashsalt": "autointerp",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }


@dataclass(frozen=True)
class Column:
    """The lifts of one source, or another group, under one explainer."""

    source: str
    """Its name."""

    n_units: int
    """Selected units, with and without a lift."""

    rows: list[tuple[float, Interval | None]]
    """Lift and its interval, ascending by lift."""

    mean: float | None
    """Over its units; `None` without a lift."""

    interval: Interval | None
    """Of the mean."""

    @property
    def lifts(self) -> list[float]:
        """Ascending."""
        return [lift for lift, _ in self.rows]


def _column(results: RunResults, source: str, explainer: str) -> Column:
    units = results.of_source(source)
    rows = [
        (lift, unit.scores[explainer].lift_interval)
        for unit in units
        if (lift := outcome_of(unit, explainer).lift) is not None
    ]
    rows.sort(key=lambda row: row[0])
    lifts = [lift for lift, _ in rows]
    seed = analysis_seed(results, "mean", source, explainer)
    interval = stats.bootstrap_mean(lifts, level=LEVEL, seed=seed)
    return Column(source, len(units), rows, mean_or_none(lifts), interval)


def draw_columns(panel: "Axes", columns: Sequence[Column], limits: tuple[float, float]) -> None:
    """Every unit's lift with its interval, or all lifts' distribution, and the mean, per group."""
    for place, column in enumerate(columns):
        if len(column.rows) > MANY_UNITS:
            _draw_distribution(panel, place, column)
        else:
            _draw_units(panel, place, column, limits)
        _draw_mean(panel, place + 0.36, column)
    draw_zero(panel)
    labels = [f"{short(c.source)}\nn = {len(c.rows)} of {c.n_units}" for c in columns]
    wide = any(column.n_units >= 100 for column in columns)
    panel.set_xticks(range(len(labels)), labels, fontsize=8 if wide else 9)
    panel.set_xlim(-0.6, len(labels) - 0.2)
    panel.tick_params(axis="x", length=0)


def _draw_units(panel: "Axes", place: int, column: Column, limits: tuple[float, float]) -> None:
    colour, marker = style(place)
    for x, (lift, interval) in zip(_spread(place, len(column.rows)), column.rows, strict=True):
        if interval is not None:
            _draw_interval(panel, x, interval, colour, limits)
        panel.plot(x, lift, marker, color=colour, markersize=4.2, alpha=0.9, zorder=3)


def _draw_distribution(panel: "Axes", place: int, column: Column) -> None:
    """Units per twentieth of lift, as bars; the longest bar of every column is as long."""
    colour, _ = style(place)
    lifts = column.lifts
    first, last = np.floor(lifts[0] * BINS_PER_LIFT), np.floor(lifts[-1] * BINS_PER_LIFT) + 1
    edges = np.arange(first, last + 1) / BINS_PER_LIFT
    counts, _ = np.histogram(lifts, edges)
    panel.barh(
        edges[:-1],
        0.48 * counts / counts.max(),
        height=1 / BINS_PER_LIFT,
        left=place - 0.24,
        align="edge",
        color=colour,
        edgecolor="white",
        linewidth=0.4,
        zorder=2,
    )


def _draw_interval(
    panel: "Axes", x: float, interval: Interval, colour: str, limits: tuple[float, float]
) -> None:
    """One unit's interval; an end outside the panel is an arrow head at its edge."""
    ends = (interval.low, interval.high)
    panel.plot([x, x], ends, color=colour, alpha=0.35, linewidth=1.1, zorder=2)
    for end, edge, head in zip(ends, limits, ("v", "^"), strict=True):
        if not limits[0] <= end <= limits[1]:
            panel.plot(x, edge, head, color=colour, alpha=0.5, markersize=4, clip_on=False)


def _difference_label(comparison: Mapping[str, Any] | None) -> str:
    if comparison is None or comparison["excluded"]["difference"] is None:
        return ""
    found = comparison["excluded"]
    interval = interval_text(found["interval"]) or "no interval"
    return f"difference {number(found['difference'])}\n({interval})"


def _draw_mean(panel: "Axes", x: float, column: Column) -> None:
    if column.mean is None:
        panel.text(x - 0.36, 0.02, "no lift", ha="center", va="bottom", fontsize=9, color=INK)
        return
    if column.interval is not None:
        ends = [column.interval.low, column.interval.high]
        panel.plot([x, x], ends, color=INK, linewidth=2.2, zorder=4, solid_capstyle="butt")
    panel.plot(x, column.mean, "D", color=INK, markersize=6, zorder=5)
    place = (x, column.mean)
    panel.annotate(
        number(column.mean), place, (6, 0), textcoords="offset points", va="center", fontsize=9
    )


def _draw_rates(panel: "Axes", results: RunResults, explainer: str | None) -> None:
    draw_zero(panel)
    rates: list[float] = []
    for place, source in enumerate(results.sources):
        colour, marker = style(place)
        points = [
            (100 * unit.density, lift)
            for unit in results.of_source(source)
            if explainer is not None
            and unit.density > 0
            and (lift := outcome_of(unit, explainer).lift) is not None
        ]
        rates += [x for x, _ in points]
        panel.plot(
            [x for x, _ in points],
            [y for _, y in points],
            marker,
            color=colour,
            label=f"{short(source)} (n = {len(points)})",
            **marker_settings(len(points)),
        )
    set_rates(panel, rates)
    panel.set_xlabel("firing rate (% of explain tokens, log scale)")
    panel.set_title(
        f"{short(explainer or 'no explainer')}\nlift against firing rate", fontsize=10.5
    )
    panel.legend(frameon=False, fontsize=9, loc="best", handletextpad=0.3)


def limits_of(columns: Sequence[Column]) -> tuple[float, float]:
    """The vertical range: all lifts, means and intervals of means; of units' intervals a part."""
    inner, outer = [0.0], [0.0]
    for column in columns:
        inner += column.lifts
        inner += [column.interval.low, column.interval.high] if column.interval else []
        for _, interval in column.rows if len(column.rows) <= MANY_UNITS else ():
            outer += [interval.low, interval.high] if interval else []
    low, high = min(inner), max(inner)
    margin = max(0.1, min(0.5, 0.5 * (high - low)))
    bottom = max(low - margin, min(low, *outer) - 0.05)
    top = min(high + margin, max(high, *outer) + 0.05)
    return bottom, top


def set_rates(panel: "Axes", rates: Sequence[float]) -> None:
    """A logarithmic axis of at least a decade with a few plain numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_xscale("log")
    if rates:
        low, high = min(rates) / 1.3, max(rates) * 1.3
        widen = max(1.0, (10 / (high / low)) ** 0.5)
        panel.set_xlim(low / widen, min(high * widen, 120.0))
        steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
        panel.xaxis.set_major_locator(LogLocator(subs=steps))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def draw_zero(panel: "Axes") -> None:
    """The line of no lift, and a grid."""
    panel.axhline(0, color=QUIET, linewidth=1, zorder=1)
    panel.grid(axis="y", color=QUIET, alpha=0.2, linewidth=0.8)


def _spread(place: int, n: int) -> np.ndarray:
    """[n] places left and right of a column's centre, in order of lift."""
    return place + (np.linspace(-0.28, 0.16, n) if n > 1 else np.array([-0.06] * n))


def style(place: int) -> tuple[str, str]:
    """Colour and marker of the n-th group."""
    return SOURCE_COLOURS[place % len(SOURCE_COLOURS)], MARKERS[place % len(MARKERS)]


def marker_settings(n: int) -> dict[str, Any]:
    """How the points of n units are drawn: smaller and lighter where there are many."""
    return {"markersize": 6, "alpha": 0.85} if n <= MANY_UNITS else {"markersize": 3, "alpha": 0.6}


def short(name: str) -> str:
    """A config's name for a label: cut, and safe from matplotlib's formula signs."""
    name = name.replace("$", r"\$")
    return name if len(name) <= 24 else name[:23] + "…"


def save_figure(figure: Any, png: Path, svg: Path) -> None:
    """Write both files whole or not at all, without dates or versions."""
    # Laid out once: it takes longer than drawing.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for path, metadata in ((png, {"Software": None}), (svg, {"Date": None, "Creator": None})):
        data = io.BytesIO()
        figure.savefig(data, format=path.suffix[1:], metadata=metadata, transparent=path is svg)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(data.getvalue())
        partial.replace(path)
