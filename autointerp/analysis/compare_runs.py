"""`autointerp compare`: any groups of units of one or several finished runs, against each other."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from autointerp import stats
from autointerp.analysis.aggregate import LEVEL
from autointerp.analysis.compare import compare_sides, judged_together
from autointerp.analysis.groups import Placed, differences, layer_of, placed_rows
from autointerp.analysis.loaded import LoadedRun, ScoreRow, interval_of, load_runs
from autointerp.analysis.sides import Member, Side
from autointerp.analysis.tables import TABLES_VERSION
from autointerp.analysis.values import UNDEFINED, Outcome, interval_json, mean_or_none
from autointerp.records import Interval, Status, UsageError, derived_seed
from autointerp.store import write_text

MAX_COMPARISONS = 500
"""More pairs than this say nothing to anybody: a baseline or fewer groups are asked for."""


@dataclass(frozen=True)
class Point:
    """One unit under one explainer and scorer, as the figure draws it."""

    group: str
    within: str
    explainer: str
    scorer: str
    rate: float
    layer: float | None
    outcome: Outcome
    interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Everything that `autointerp compare` found."""

    by: str
    runs: tuple[LoadedRun, ...]
    groups: tuple[str, ...]
    """In order."""

    points: tuple[Point, ...]
    summaries: tuple[dict[str, Any], ...]
    """Per group, explainer and scorer: counts, coverage, means."""

    comparisons: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    """What is to be known before any number is read."""

    def as_json(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        return {
            "schema_version": TABLES_VERSION,
            "by": self.by,
            "level": LEVEL,
            "runs": [{"name": r.name, "folder": str(r.folder)} for r in self.runs],
            "groups": list(self.groups),
            "notes": list(self.notes),
            "summaries": list(self.summaries),
            "comparisons": list(self.comparisons),
        }


def compare_runs(
    folders: Sequence[str | Path],
    *,
    by: str | None = None,
    within: str | None = None,
    scorers: Sequence[str] = (),
    explainers: Sequence[str] = (),
    sources: Sequence[str] = (),
    baseline: str | None = None,
    allow_different_designs: bool = False,
) -> Comparison:
    """Compare groups of units of finished runs.

    Args:
        folders: of the runs.
        by: what makes the groups: `source` (of one run), `run` (of several), `explainer`, `layer`,
            `width`, `subject`, `density`, `token_entropy`, or a key of the sources' config.
        within: groups are compared inside of like values of one of these, such as
            `token_entropy`; p-values are adjusted over all of them.
        scorers: their names, or `all`; the headline's if empty.
        explainers: those compared; all if empty.
        sources: those whose units are taken; all if empty.
        baseline: every other group is compared with this one; every pair where `None`.
        allow_different_designs: compare runs whose windows were chosen differently.

    Raises:
        AutointerpError: where a run cannot be read.
        UsageError: where a name is not there, there is one group only, or designs differ.
    """
    runs = load_runs(folders)
    by = by or ("source" if len(runs) == 1 else "run")
    refused, told = differences(runs)
    if refused and not allow_different_designs:
        raise UsageError(
            f"these runs cannot be compared: {'; '.join(refused)}. Scores of windows that were "
            "chosen differently are of different things; --allow-different-designs compares them "
            "all the same, and says so"
        )
    placed, notes = placed_rows(runs, by, within=within, sources=sources, explainers=explainers)
    groups = _group_names(placed)
    if baseline is not None and baseline not in groups:
        raise UsageError(f"--baseline {baseline!r}: the groups are {', '.join(groups)}")
    if len(groups) < 2:
        raise UsageError(
            f"--by {by}: there is one group only, {groups[0]!r}; give another --by, or another run"
        )
    chosen = _scorers(runs, scorers)
    cells = _cells(placed, by, chosen)
    comparisons = _compared(runs, cells, groups, by, chosen, baseline, designs_differ=bool(refused))
    return Comparison(
        by=by,
        runs=tuple(runs),
        groups=tuple(groups),
        points=tuple(_points(placed, chosen)),
        summaries=tuple(_summary(cell, cells[cell], runs) for cell in _in_order(cells, groups)),
        comparisons=tuple(comparisons),
        notes=(
            *(f"Differing designs: {text}." for text in refused),
            *(f"{text[:1].upper()}{text[1:]}." for text in told),
            *notes,
        ),
    )


def write_comparison(found: Comparison, folder: str | Path) -> list[Path]:
    """Write comparison.json, comparisons.csv, groups.csv and the figure; returns the paths."""
    from autointerp.analysis.compare_figure import draw_groups

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(place / "comparison.json", text + "\n")
    _write_csv(place / "comparisons.csv", [_flat_comparison(c) for c in found.comparisons])
    _write_csv(place / "groups.csv", [_flat_group(s) for s in found.summaries])
    figures = draw_groups(found, place / "comparison")
    return [place / n for n in ("comparison.json", "comparisons.csv", "groups.csv")] + list(figures)


# ------------------------------------------------------------------ groups

Cell = tuple[str, str, str, str]
"""Scorer, within, explainer (empty where explainers are the groups), group."""


def _group_names(placed: Sequence[Placed]) -> list[str]:
    orders = {one.group: one.order for one in reversed(placed)}
    first = {name: place for place, name in enumerate(dict.fromkeys(one.group for one in placed))}
    return sorted(orders, key=lambda name: (orders[name], first[name]))


def _scorers(runs: Sequence[LoadedRun], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Scorer → what a lift by it can be."""
    known = {name: facts for run in runs for name, facts in run.scorers.items()}
    wanted = list(known) if "all" in names else list(names) or [runs[0].primary_scorer]
    for name in wanted:
        if name not in known:
            raise UsageError(f"there is no scorer {name!r}; there are {', '.join(known)}, and all")
    ends = {name: (known[name].get("low"), known[name].get("high")) for name in wanted}
    ranges = {
        name: math.inf if low is None or high is None else float(high) - float(low)
        for name, (low, high) in ends.items()
    }
    return {name: (-width, width) for name, width in ranges.items()}


def _cells(
    placed: Sequence[Placed], by: str, scorers: Sequence[str] | dict[str, Any]
) -> dict[Cell, list[tuple[Placed, Member]]]:
    cells: dict[Cell, list[tuple[Placed, Member]]] = {}
    for scorer in scorers:
        for one in placed:
            explainer = "" if by == "explainer" else one.row.explainer
            score = one.row.scores.get(scorer)
            member = Member(one.key, one.row.firing_rate, _outcome(score), _design_of(score))
            cells.setdefault((scorer, one.within, explainer, one.group), []).append((one, member))
    return cells


def _in_order(cells: Iterable[Cell], groups: Sequence[str]) -> list[Cell]:
    """By scorer and bin as they came, then by group in the order of groups."""
    cells = list(cells)
    place = {part: i for i, part in enumerate(dict.fromkeys(cell[:2] for cell in cells))}
    return sorted(cells, key=lambda cell: (place[cell[:2]], groups.index(cell[3])))


def _outcome(score: ScoreRow | None) -> Outcome:
    return Outcome(Status.NOT_RUN, "score") if score is None else score.outcome()


def _design_of(score: ScoreRow | None) -> str:
    return "" if score is None else score.design or ""


def _points(placed: Sequence[Placed], scorers: dict[str, Any]) -> list[Point]:
    return [
        Point(
            one.group,
            one.within,
            one.row.explainer,
            scorer,
            one.row.firing_rate,
            layer_of(one.run, one.row),
            _outcome(score := one.row.scores.get(scorer)),
            interval_of(score.lift_interval) if score else None,
        )
        for scorer in scorers
        for one in placed
    ]


def _summary(
    cell: Cell, members: list[tuple[Placed, Member]], runs: Sequence[LoadedRun]
) -> dict[str, Any]:
    scorer, within, explainer, group = cell
    outcomes = [member.outcome for _, member in members]
    lifts = [o.lift for o in outcomes if o.lift is not None]
    statuses = Counter(o.status for o in outcomes)
    n_undefined = sum(statuses[status] for status in UNDEFINED)
    seed = _seed(runs, "mean", *cell)
    rates = sorted(member.rate for _, member in members)
    scores = [one.row.scores.get(scorer) for one, _ in members]
    chances = [score.chance for score in scores if score and score.chance is not None]
    return {
        "group": group,
        "within": within,
        "explainer": explainer or group,
        "is_baseline": members[0][0].row.is_baseline,
        "scorer": scorer,
        "n_selected": len(members),
        "n_scored": sum(o.is_scored for o in outcomes),
        "n_with_lift": len(lifts),
        "by_status": {str(status): n for status, n in sorted(statuses.items())},
        "median_firing_rate": median(rates),
        "chance": mean_or_none(chances),
        "mean_score": mean_or_none([o.value for o in outcomes if o.value is not None]),
        "mean_lift": mean_or_none(lifts),
        "median_lift": float(median(lifts)) if lifts else None,
        "interval": interval_json(stats.bootstrap_mean(lifts, level=LEVEL, seed=seed)),
        "mean_lift_undefined_as_zero": mean_or_none([*lifts, *[0.0] * n_undefined]),
        "n_undefined": n_undefined,
    }


def _compared(
    runs: Sequence[LoadedRun],
    cells: dict[Cell, list[tuple[Placed, Member]]],
    groups: Sequence[str],
    by: str,
    scorers: dict[str, tuple[float, float]],
    baseline: str | None,
    *,
    designs_differ: bool,
) -> list[dict[str, Any]]:
    pairs = (
        list(combinations(groups, 2))
        if baseline is None
        else [(group, baseline) for group in groups if group != baseline]
    )
    contexts = list(dict.fromkeys((s, w, e) for s, w, e, _ in cells))
    wanted = [
        (*context, a, b)
        for context in contexts
        for a, b in pairs
        if (*context, a) in cells and (*context, b) in cells
    ]
    if len(wanted) > MAX_COMPARISONS:
        raise UsageError(
            f"{len(wanted)} comparisons of {len(groups)} groups are too many; name one group with "
            "--baseline, or fewer with --explainer, --source or --scorer"
        )
    found: list[dict[str, Any]] = []
    for scorer, within, explainer, a, b in wanted:
        left, right = cells[scorer, within, explainer, a], cells[scorer, within, explainer, b]
        comparison = compare_sides(
            Side(a, tuple(member for _, member in left)),
            Side(b, tuple(member for _, member in right)),
            explainer=explainer,
            scorer=scorer,
            by=by,
            is_baseline=bool(explainer) and left[0][0].row.is_baseline,
            lift_range=scorers[scorer],
            seed=_seed(runs, "compare", scorer, within, explainer, a, b),
        )
        found.append({**comparison, "within": within, "designs_allowed": designs_differ})
    return judged_together(found)


def _seed(runs: Sequence[LoadedRun], *purpose: str) -> int:
    return derived_seed(int(runs[0].config.get("seed") or 0), "analysis", *purpose)


# ------------------------------------------------------------------ tables


def _flat_comparison(c: dict[str, Any]) -> dict[str, Any]:
    excluded, zero, matched = c["excluded"], c["as_zero"], c["rate_matched"]
    paired = c["paired"] or {}
    low, high = _ends(excluded["interval"])
    return {
        "by": c["by"],
        "within": c["within"],
        "explainer": c["explainer"],
        "scorer": c["scorer"],
        "group_a": c["source_a"],
        "group_b": c["source_b"],
        "n_selected_a": c["n_selected_a"],
        "n_selected_b": c["n_selected_b"],
        **{k: excluded[k] for k in ("n_a", "n_b", "mean_a", "mean_b", "difference")},
        "low": low,
        "high": high,
        "cliffs_delta": excluded["cliffs_delta"],
        **dict(zip(("delta_low", "delta_high"), _ends(excluded["cliffs_delta_interval"]),
                   strict=True)),
        "hedges_g": excluded["hedges_g"],
        "p_value": excluded["p_value"],
        "difference_as_zero": zero["difference"],
        **dict(zip(("as_zero_low", "as_zero_high"), _ends(zero["interval"]), strict=True)),
        "n_pairs": paired.get("n_pairs"),
        "paired_difference": paired.get("difference"),
        **dict(zip(("paired_low", "paired_high"), _ends(paired.get("interval")), strict=True)),
        "paired_standardised": paired.get("standardised"),
        "paired_p_value": paired.get("p_value"),
        "support_a": matched["share_a"],
        "support_b": matched["share_b"],
        "matched_difference": matched["difference"],
        **dict(zip(("matched_low", "matched_high"), _ends(matched["interval"]), strict=True)),
        "matched_p_value": matched["p_value"],
        "rests_on": c["design"],
        "p_adjusted": c["p_adjusted"],
        "n_comparisons": c["n_comparisons"],
        "conclusion": c["conclusion"],
        "verdict": c["verdict"],
        "schema_version": TABLES_VERSION,
    }  # fmt: skip


def _flat_group(summary: dict[str, Any]) -> dict[str, Any]:
    low, high = _ends(summary["interval"])
    flat = {k: v for k, v in summary.items() if k not in ("interval", "by_status")}
    statuses = {f"n_{status}": summary["by_status"].get(str(status), 0) for status in Status}
    return {**flat, "low": low, "high": high, **statuses, "schema_version": TABLES_VERSION}


def _ends(interval: dict[str, Any] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval["low"], interval["high"])


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
