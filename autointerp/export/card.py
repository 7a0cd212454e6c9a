"""The card of a data set: what was measured, how, and what is missing."""

import json
from collections.abc import Mapping
from typing import Any

from autointerp.export.rows import FinishedRun, TextChoice

_ABOUT = {
    "score": "value of the metric on windows of the `test` split, which no explainer saw",
    "lift": "score minus the mean score of other units' explanations on the same windows",
    "chance": "what an explanation without content scores on the same windows",
}


def card_of(run: FinishedRun, choice: TextChoice, n_rows: int) -> str:
    """README.md of the data set folder of a run."""
    summary = run.summary
    design = (run.facts.get("design") or {}).get("name")
    text = "are left out" if not choice.with_text else (
        f"are cut to {choice.max_context} tokens" if choice.max_context else "are whole windows"
    )  # fmt: skip
    licence = choice.licence or "not stated: find out before you pass texts on"
    parts = [
        "---",
        f"pretty_name: {json.dumps(f'Explanations of units: {run.name}', ensure_ascii=False)}",
        "tags: [interpretability, autointerp]",
        "configs:",
        "- config_name: default",
        '  data_files: "data/*.parquet"',
        "---",
        "",
        f"# Explanations of units: {_plain(run.name)}",
        "",
        f"{n_rows} rows, one per unit and explainer, with every scorer's number under `scores`.",
        "",
        "## What was explained",
        "",
        *_sources(run),
        "",
        "## How it was measured",
        "",
        f"Windows were drawn by the sampling design `{_plain(design)}`. Documents are split by "
        "near-duplicate clusters: explainers saw `explain` only, scores are of `test`, and the "
        "`audit` split is held back. Intervals are of windows within the unit.",
        "",
        *(f"- **{name}**: {what}." for name, what in _ABOUT.items()),
        "- **status**: `ok`, or why there is no number; a missing number is null, never zero.",
        "",
        *_scores(summary),
        "",
        "## Corpus and texts",
        "",
        f"Licence of the corpus: **{_plain(licence)}**. Texts of examples {text}; explanations, "
        "top tokens and reasons may still quote single words of it.",
        "",
        "## Reading it",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'rows = load_dataset("path/to/this/folder", split="train")',
        "```",
        "",
        "Columns are those of schema version 1 of `autointerp export`.",
        "",
    ]
    return "\n".join(parts)


def _sources(run: FinishedRun) -> list[str]:
    lines = ["| source | type | subject | hook point | units in it |", "|---|---|---|---|---|"]
    for name, own in (run.facts.get("sources") or {}).items():
        facts: Mapping[str, Any] = own.get("facts") or {}
        cells = (name, *(facts.get(k) for k in ("type", "subject", "hook_point", "width")))
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return lines


def _scores(summary: Mapping[str, Any]) -> list[str]:
    lines = [
        "| scorer | metric | source | explainer | lift (95 % interval) | score | scored |",
        "|---|---|---|---|---|---|---|",
    ]
    for scorer, facts in (summary.get("scorers") or {}).items():
        for source, found in facts["sources"].items():
            for explainer, group in found["explainers"].items():
                counts = group["counts"]
                cells = (
                    *(scorer, facts["metric"], source, explainer),
                    _mean(group.get("lift")),
                    _mean(group.get("score"), interval=False),
                    f"{counts['scored']} of {counts['selected']}",
                )
                lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return lines


def _mean(group: Any, *, interval: bool = True) -> str:
    found = (group or {}).get("excluded", group) or {}
    if found.get("mean") is None:
        return "–"
    ends = found.get("interval") if interval else None
    return f"{found['mean']:.3f}" + (f" [{ends['low']:.3f}, {ends['high']:.3f}]" if ends else "")


def _plain(value: Any) -> str:
    """A value that stays text in Markdown: no markup, no new cell, no new line."""
    text = "–" if value is None else " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#!" else c for c in text)
