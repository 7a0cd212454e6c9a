"""Writes what a person reads: tables, figures and the page of a finished run."""

import json
from pathlib import Path
from typing import Any

from autointerp.analysis.results import RunResults
from autointerp.analysis.values import SCORED
from autointerp.records import Status
from autointerp.store import write_text


def write_outputs(results: RunResults, folder: Path) -> dict[str, Any]:
    """Write explanations.jsonl, scores.csv, summary.json, comparison.png/.svg and report.html.

    Tables hold every scorer; figure and page show the headline's in full, the others as tables.

    Returns:
        The summary that is in summary.json.
    """
    from autointerp.analysis.aggregate import summarise
    from autointerp.analysis.compare import compare_scorers
    from autointerp.analysis.figure import draw_comparison
    from autointerp.analysis.tables import write_explanations, write_scores
    from autointerp.presets.published import preset_summary
    from autointerp.viewer.report import write_report

    write_explanations(results, folder / "explanations.jsonl")
    write_scores(results, folder / "scores.csv")
    summary = summarise(results)
    comparisons = compare_scorers(results)
    headline = results.under(summary["scorer"])
    own = [c for c in comparisons if c["scorer"] == summary["scorer"]]
    _, svg = draw_comparison(headline, own, folder / "comparison")
    everything = {**summary, "comparisons": comparisons}
    preset = preset_summary(results)
    if preset is not None:
        everything["preset"] = preset
    text = json.dumps(everything, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "summary.json", text + "\n")
    figure = svg.read_text(encoding="utf-8")
    write_report(headline, summary, comparisons, figure, folder / "report.html")
    return everything


def print_summary(summary: dict[str, Any], console: Any) -> None:
    """Print a table per scorer, the headline's first, and the verdicts on a rich console."""
    from autointerp.analysis.staged_words import staged_lines
    from autointerp.viewer.controls_table import controls_table

    for scorer, found in summary["scorers"].items():
        console.print(_scorer_table(scorer, found, alone=len(summary["scorers"]) == 1))
        for line in _missing_lines(found):
            console.print(line, highlight=False, markup=False)
        controls = controls_table(found)
        if controls is not None:
            console.print(controls)
    for comparison in summary["comparisons"]:
        if not comparison["is_baseline"]:
            by = "" if comparison["scorer"] == summary["scorer"] else f" by {comparison['scorer']}"
            line = f"{comparison['explainer']}{by}: {comparison['verdict']}"
            console.print(line, highlight=False)
    for line in staged_lines(summary.get("staged") or {}):
        console.print(line, highlight=False, markup=False)
    if summary.get("preset"):
        from autointerp.presets.published import preset_lines

        for line in preset_lines(summary["preset"]):
            console.print(line, highlight=False, markup=False)


def _scorer_table(scorer: str, found: dict[str, Any], *, alone: bool) -> Any:
    """Lift and score by one scorer, per source and explainer."""
    from rich.table import Table

    chance = any(
        group["chance"]
        for facts in found["sources"].values()
        for group in facts["explainers"].values()
    )
    table = Table(
        title=None if alone else f"{scorer} ({found['metric']})",
        title_justify="left",
        caption="mean over units, 95 % interval; others': score of other units' explanations",
        caption_justify="left",
    )
    for name in ("source", "explainer"):
        table.add_column(name, no_wrap=True)
    # The chance of a correlation is 0 and needs no column.
    for name in ("lift", "score", "others'", *(["chance"] if chance else []), "scored"):
        table.add_column(name, justify="right", no_wrap=True)
    for source, facts in found["sources"].items():
        for explainer, group in facts["explainers"].items():
            counts = group["counts"]
            table.add_row(
                source,
                explainer,
                _mean(group["lift"], with_interval=True),
                _mean(group["score"]),
                _mean(group["controls"]),
                *([_mean({"mean": group["chance"]})] if chance else []),
                f"{counts['scored']} of {counts['selected']}",
            )
    return table


def _missing_lines(found: dict[str, Any]) -> list[str]:
    """What became of units without a score, per source and explainer."""
    lines: list[str] = []
    for source, facts in found["sources"].items():
        for explainer, group in facts["explainers"].items():
            counts = group["counts"]["by_status"]
            missing = [
                f"{n} {str(status).replace('_', ' ')}"
                for status, n in counts.items()
                if n and status not in {*SCORED, Status.STAGED}
            ]
            if missing:
                lines.append(f"no score, {source} under {explainer}: {', '.join(missing)}")
    if lines:
        lines.append("why: `reason` in explanations.jsonl, and the report")
    return lines


def _mean(group: dict[str, Any] | None, *, with_interval: bool = False) -> str:
    """`0.31 [0.20, 0.42]`; a dash where there is no number."""
    found = (group or {}).get("excluded", group) or {}
    if found.get("mean") is None:
        return "–"
    interval = found.get("interval") if with_interval else None
    ends = f" [{interval['low']:.2f}, {interval['high']:.2f}]" if interval else ""
    return f"{found['mean']:.2f}{ends}"
