"""Writes what a person reads: tables, figures and the page of a finished run."""

import json
from pathlib import Path
from typing import Any

from autointerp.analysis.results import RunResults
from autointerp.store import write_text


def write_outputs(results: RunResults, folder: Path) -> dict[str, Any]:
    """Write explanations.jsonl, scores.csv, summary.json, comparison.png/.svg and report.html.

    Returns:
        The summary that is in summary.json.
    """
    from autointerp.analysis.aggregate import summarise
    from autointerp.analysis.compare import compare_all
    from autointerp.analysis.figure import draw_comparison
    from autointerp.analysis.tables import write_explanations, write_scores
    from autointerp.viewer.report import write_report

    write_explanations(results, folder / "explanations.jsonl")
    write_scores(results, folder / "scores.csv")
    summary = summarise(results)
    comparisons = compare_all(results)
    _, svg = draw_comparison(results, comparisons, folder / "comparison")
    everything = {**summary, "comparisons": comparisons}
    text = json.dumps(everything, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "summary.json", text + "\n")
    figure = svg.read_text(encoding="utf-8")
    write_report(results, summary, comparisons, figure, folder / "report.html")
    return everything


def print_summary(summary: dict[str, Any], console: Any) -> None:
    """Print the headline table and the verdicts on a rich console."""
    from rich.table import Table

    table = Table(
        caption="mean over units, 95 % interval; others': score of other units' explanations",
        caption_justify="left",
    )
    for name in ("source", "explainer"):
        table.add_column(name, no_wrap=True)
    for name in ("lift", "score", "others'", "scored"):
        table.add_column(name, justify="right", no_wrap=True)
    for source, facts in summary["sources"].items():
        for explainer, group in facts["explainers"].items():
            counts = group["counts"]
            table.add_row(
                source,
                explainer,
                _mean(group["lift"], with_interval=True),
                _mean(group["score"]),
                _mean(group["controls"]),
                f"{counts['scored']} of {counts['selected']}",
            )
    console.print(table)
    for comparison in summary["comparisons"]:
        if not comparison["is_baseline"]:
            console.print(f"{comparison['explainer']}: {comparison['verdict']}", highlight=False)


def _mean(group: dict[str, Any] | None, *, with_interval: bool = False) -> str:
    """`0.31 [0.20, 0.42]`; a dash where there is no number."""
    found = (group or {}).get("excluded", group) or {}
    if found.get("mean") is None:
        return "–"
    interval = found.get("interval") if with_interval else None
    ends = f" [{interval['low']:.2f}, {interval['high']:.2f}]" if interval else ""
    return f"{found['mean']:.2f}{ends}"
