"""The figure of `autointerp compare`: lift per group, against firing rate, and by layer."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from autointerp import stats
from autointerp.analysis.aggregate import LEVEL
from autointerp.analysis.figure import (
    INK,
    Column,
    draw_columns,
    draw_zero,
    figure_settings,
    limits_of,
    marker_settings,
    save_figure,
    set_rates,
    short,
    style,
)
from autointerp.analysis.values import mean_or_none
from autointerp.records import derived_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from autointerp.analysis.compare_runs import Comparison, Point

MAX_PANELS = 4
"""Explainers (or sources) that get a panel of their own; the tables hold all."""


def draw_groups(found: "Comparison", path_stem: str | Path) -> tuple[Path, Path]:
    """Draw `path_stem`.png and `path_stem`.svg; the same results give the same bytes.

    Left, per explainer: every unit's lift with its interval, per group, or the distribution of many
    lifts, and the group's mean with its interval. Then lift against firing rate; and, where units
    of several layers are compared, the mean per layer. Lifts are those by the first scorer that was
    asked for.

    Returns:
        The paths of the PNG and of the SVG.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scorer = found.points[0].scorer
    points = [p for p in found.points if p.scorer == scorer]
    panels = _panels(points, found.by)
    columns = {
        name: [_column(found, name, group, own) for group in found.groups]
        for name, own in panels.items()
    }
    limits = limits_of([column for group in columns.values() for column in group])
    by_layer = len({p.layer for p in points if p.layer is not None}) > 1
    n = len(columns) + 1 + by_layer
    stem = Path(path_stem)
    files = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    with rc_context(figure_settings()):
        figure = Figure(figsize=(3.0 + 3.0 * n, 4.8), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr]
        ratios = [*(max(1.2, 0.55 * len(found.groups)) for _ in columns), *([2.4] * (1 + by_layer))]
        axes: Sequence[Any] = figure.subplots(
            1, n, sharey=True, width_ratios=ratios, squeeze=False
        )[0]
        for place, (name, group) in enumerate(columns.items()):
            draw_columns(axes[place], group, limits)
            axes[place].set_title(short(name), fontsize=10.5)
        axes[0].set_ylim(*limits)
        axes[0].set_ylabel(f"lift by {scorer}: score − mean score\nof other units' explanations")
        shown = _shown(columns)
        _draw_rates(axes[len(columns)], found.groups, panels[shown], shown)
        if by_layer:
            _draw_layers(axes[-1], found, panels[shown], shown)
        save_figure(figure, *files)
    return files


def _panels(points: Sequence["Point"], by: str) -> dict[str, list["Point"]]:
    """What is drawn side by side: explainers, or sources where explainers are the groups."""
    found: dict[str, list[Point]] = {}
    for point in points:
        parts = [] if by == "explainer" else [point.explainer]
        name = " · ".join([*parts, *([point.within] if point.within else [])]) or "all"
        found.setdefault(name, []).append(point)
    return dict(list(found.items())[:MAX_PANELS])


def _column(found: "Comparison", panel: str, group: str, points: Sequence["Point"]) -> Column:
    own = [p for p in points if p.group == group]
    rows = sorted(
        ((p.outcome.lift, p.interval) for p in own if p.outcome.lift is not None),
        key=lambda row: row[0],
    )
    lifts = [lift for lift, _ in rows]
    seed = derived_seed(0, "figure", panel, group)
    interval = stats.bootstrap_mean(lifts, level=LEVEL, seed=seed)
    return Column(group, len(own), rows, mean_or_none(lifts), interval)


def _shown(columns: dict[str, list[Column]]) -> str:
    """The first panel with about as many lifts as any: what the panels on the right show."""
    counts = {name: sum(len(column.rows) for column in own) for name, own in columns.items()}
    return next(name for name, n in counts.items() if n >= 0.9 * max(counts.values()))


def _draw_rates(panel: "Axes", groups: Sequence[str], points: Sequence["Point"], name: str) -> None:
    draw_zero(panel)
    rates: list[float] = []
    for place, group in enumerate(groups):
        colour, marker = style(place)
        own = [
            (100 * p.rate, p.outcome.lift)
            for p in points
            if p.group == group and p.rate > 0 and p.outcome.lift is not None
        ]
        rates += [x for x, _ in own]
        xs, ys = [x for x, _ in own], [y for _, y in own]
        label = f"{short(group)} (n = {len(own)})"
        panel.plot(xs, ys, marker, color=colour, label=label, **marker_settings(len(own)))
    set_rates(panel, rates)
    panel.set_xlabel("firing rate (% of explain tokens, log scale)")
    panel.set_title(f"{short(name)}\nlift against firing rate", fontsize=10.5)
    panel.legend(frameon=False, fontsize=9, loc="best", handletextpad=0.3)


def _draw_layers(panel: "Axes", found: "Comparison", points: Sequence["Point"], name: str) -> None:
    """Mean lift per layer with its interval; per group where groups are not the layers."""
    draw_zero(panel)
    groups = ["all units"] if found.by == "layer" else list(found.groups)
    for place, group in enumerate(groups):
        colour, marker = style(place)
        own = [p for p in points if group in ("all units", p.group)]
        layers = sorted({p.layer for p in own if p.layer is not None})
        for layer in layers:
            lifts = [p.outcome.lift for p in own if p.layer == layer and p.outcome.lift is not None]
            if not lifts:
                continue
            seed = derived_seed(0, "figure", "layer", group, layer)
            interval = stats.bootstrap_mean(lifts, level=LEVEL, seed=seed)
            x = layer + 0.12 * (place - (len(groups) - 1) / 2)
            if interval is not None:
                panel.plot([x, x], [interval.low, interval.high], color=colour, linewidth=1.6)
            panel.plot(x, fmean(lifts), marker, color=colour, markersize=6)
    panel.set_xlabel("layer")
    panel.set_title(f"{short(name)}\nmean lift by layer", fontsize=10.5, color=INK)
