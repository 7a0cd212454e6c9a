"""One picture of a run: every unit's lift per explainer and source, and against firing rate."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp import stats
from autointerp.analysis.aggregate import LEVEL
from autointerp.analysis.results import RunResults
from autointerp.analysis.values import analysis_seed, best_explainer, outcome_of
from autointerp.analysis.wording import interval_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SOURCE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#3D9BD1")
"""Okabe & Ito's colours, told apart with every common colour vision; markers differ as well."""

MARKERS = ("o", "s", "^", "D", "v", "P")

INK = "#1b1f24"
"""Text and axes; a page may replace it by its own text colour."""

QUIET = "#8b949e"
"""Grid and the line at zero."""


def draw_comparison(
    results: RunResults,
    comparison: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    path_stem: str | Path,
) -> tuple[Path, Path]:
    """Draw the run's comparison as `path_stem`.png and `path_stem`.svg.

    Left: one panel per explainer, every unit's lift with its interval, per source, with the mean
    over units and its interval. Right: lift under one explainer against firing rate. The same
    results give the same bytes.

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
    columns = list(results.explainers)
    settings: dict[Any, Any] = {
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
    stem = Path(path_stem)
    files = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    with rc_context(settings):
        figure = Figure(figsize=(12, 4.8), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr]
        ratios = [*(max(1.2, 0.55 * len(results.sources)) for _ in columns), 2.6]
        axes = figure.subplots(1, len(columns) + 1, sharey=True, width_ratios=ratios, squeeze=False)
        panels: Sequence[Any] = axes[0]
        for place, explainer in enumerate(columns):
            _draw_column(panels[place], results, explainer)
            if len(results.sources) == 2:
                found = next((c for c in comparisons if c["explainer"] == explainer), None)
                panels[place].set_xlabel(_difference_label(found), fontsize=9)
        panels[0].set_ylabel("lift: score − mean score of other\nunits' explanations (correlation)")
        _draw_rates(panels[-1], results, shown)
        _save(figure, *files)
    return files


def _draw_column(panel: "Axes", results: RunResults, explainer: str) -> None:
    labels: list[str] = []
    for place, source in enumerate(results.sources):
        units = results.of_source(source)
        rows: list[tuple[float, tuple[float, float] | None]] = []
        for unit in units:
            lift = outcome_of(unit, explainer).lift
            if lift is not None:
                interval = unit.scores[explainer].lift_interval
                rows.append((lift, (interval.low, interval.high) if interval else None))
        rows.sort(key=lambda row: row[0])
        colour, marker = _style(place)
        lifts = [lift for lift, _ in rows]
        for x, (lift, ends) in zip(_spread(place, len(rows)), rows, strict=True):
            if ends is not None:
                panel.plot([x, x], ends, color=colour, alpha=0.35, linewidth=1.1, zorder=2)
            panel.plot(x, lift, marker, color=colour, markersize=4.2, alpha=0.9, zorder=3)
        seed = analysis_seed(results, "mean", source, explainer)
        _draw_mean(panel, place + 0.36, lifts, seed)
        labels.append(f"{_short(source)}\nn = {len(lifts)} of {len(units)}")
    _draw_zero(panel)
    suffix = "\n(baseline)" if explainer in results.baseline_explainers else "\n"
    panel.set_title(_short(explainer) + suffix, fontsize=10.5)
    panel.set_xticks(range(len(labels)), labels, fontsize=9)
    panel.set_xlim(-0.6, len(labels) - 0.2)
    panel.tick_params(axis="x", length=0)


def _difference_label(comparison: Mapping[str, Any] | None) -> str:
    if comparison is None or comparison["excluded"]["difference"] is None:
        return ""
    found = comparison["excluded"]
    interval = interval_text(found["interval"]) or "no interval"
    return f"difference {number(found['difference'])}\n({interval})"


def _draw_mean(panel: "Axes", x: float, lifts: Sequence[float], seed: int) -> None:
    if not lifts:
        panel.text(x - 0.36, 0.02, "no lift", ha="center", va="bottom", fontsize=9, color=INK)
        return
    mean = float(np.mean(lifts))
    interval = stats.bootstrap_mean(lifts, level=LEVEL, seed=seed)
    if interval is not None:
        ends = [interval.low, interval.high]
        panel.plot([x, x], ends, color=INK, linewidth=2.2, zorder=4, solid_capstyle="butt")
    panel.plot(x, mean, "D", color=INK, markersize=6, zorder=5)
    panel.annotate(
        number(mean), (x, mean), (6, 0), textcoords="offset points", va="center", fontsize=9
    )


def _draw_rates(panel: "Axes", results: RunResults, explainer: str | None) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    _draw_zero(panel)
    for place, source in enumerate(results.sources):
        colour, marker = _style(place)
        points = [
            (100 * unit.density, lift)
            for unit in results.of_source(source)
            if explainer is not None
            and unit.density > 0
            and (lift := outcome_of(unit, explainer).lift) is not None
        ]
        panel.plot(
            [x for x, _ in points],
            [y for _, y in points],
            marker,
            color=colour,
            markersize=6,
            alpha=0.85,
            label=f"{_short(source)} (n = {len(points)})",
        )
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("firing rate (% of explain tokens, log scale)")
    panel.set_title(
        f"{_short(explainer or 'no explainer')}\nlift against firing rate", fontsize=10.5
    )
    panel.legend(frameon=False, fontsize=9, loc="best", handletextpad=0.3)


def _draw_zero(panel: "Axes") -> None:
    panel.axhline(0, color=QUIET, linewidth=1, zorder=1)
    panel.grid(axis="y", color=QUIET, alpha=0.2, linewidth=0.8)


def _spread(place: int, n: int) -> np.ndarray:
    """[n] places left and right of a column's centre, in order of lift."""
    return place + (np.linspace(-0.28, 0.16, n) if n > 1 else np.array([-0.06] * n))


def _style(place: int) -> tuple[str, str]:
    return SOURCE_COLOURS[place % len(SOURCE_COLOURS)], MARKERS[place % len(MARKERS)]


def _short(name: str) -> str:
    """A config's name for a label: cut, and safe from matplotlib's formula signs."""
    name = name.replace("$", r"\$")
    return name if len(name) <= 24 else name[:23] + "…"


def _save(figure: Any, png: Path, svg: Path) -> None:
    """Write both files whole or not at all, without dates or versions."""
    for path, metadata in ((png, {"Software": None}), (svg, {"Date": None, "Creator": None})):
        data = io.BytesIO()
        figure.savefig(data, format=path.suffix[1:], metadata=metadata, transparent=path is svg)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(data.getvalue())
        partial.replace(path)
