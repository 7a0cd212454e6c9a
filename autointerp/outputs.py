"""Writes what a person reads: tables, figures and the page of a finished run."""

from itertools import combinations
from pathlib import Path
from typing import Any

from autointerp.analysis.results import RunResults
from autointerp.store import write_text


def write_outputs(results: RunResults, folder: Path) -> dict[str, Any]:
    """Write explanations.jsonl, scores.csv, summary.json, comparison.png/.svg and report.html.

    Returns:
        The summary that is in summary.json.
    """
    import json

    from autointerp.analysis.aggregate import summarise
    from autointerp.analysis.compare import compare_all
    from autointerp.analysis.figure import draw_comparison
    from autointerp.analysis.tables import write_explanations, write_scores
    from autointerp.viewer.report import write_report

    write_explanations(results, folder / "explanations.jsonl")
    write_scores(results, folder / "scores.csv")
    summary = summarise(results)
    comparisons = compare_all(results, list(combinations(results.sources, 2)))
    stem = folder / "comparison"
    draw_comparison(results, comparisons, stem)
    everything = {**summary, "comparisons": comparisons}
    text = json.dumps(everything, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "summary.json", text + "\n")
    figure = stem.with_suffix(".svg").read_text(encoding="utf-8")
    write_report(results, summary, comparisons, figure, folder / "report.html")
    return everything
