"""Rows for other programs: `explanations.jsonl` and `scores.csv`.

Both hold one row per selected unit and explainer, whatever became of it; a number that does not
exist is `null` or an empty cell, and the status says why.
"""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autointerp.analysis.results import RunResults, UnitResult
from autointerp.analysis.values import Outcome, interval_json, outcome_of
from autointerp.records import SCHEMA_VERSION, Interval, Split, Status
from autointerp.store import write_text

SCORE_COLUMNS: tuple[str, ...] = (
    "unit", "source", "index", "polarity", "firing_rate", "explainer", "is_baseline", "status",
    "score", "score_low", "score_high", "lift", "lift_low", "lift_high", "control_mean",
    "n_controls", "lookup_score", "n_windows", "n_documents", "n_active_documents", "n_tokens",
    "n_unknown_tokens", "scorer", "simulator", "design", "split", "schema_version",
)  # fmt: skip
"""Columns of `scores.csv`, in order. Texts that a model wrote are in `explanations.jsonl` only:
a spreadsheet would run a cell that starts with `=`."""


def explanation_rows(results: RunResults) -> Iterator[dict[str, Any]]:
    """One object per unit and explainer, in the order of the units and of the config.

    `score` and `lift` are as measured: `None` for a constant prediction unless the scorer gave a
    number; means count it 0. `status` and `stage` say what became of the unit and where.
    """
    for unit in results.units:
        for explainer in results.explainers:
            yield _row(results, unit, explainer)


def score_rows(results: RunResults) -> Iterator[dict[str, Any]]:
    """The same rows, flat: the columns of `SCORE_COLUMNS`, `None` where there is no number."""
    for row in explanation_rows(results):
        flat = {
            **row,
            **_ends("score", row["score_interval"]),
            **_ends("lift", row["lift_interval"]),
            "n_controls": len(row["controls"]),
        }
        yield {column: flat[column] for column in SCORE_COLUMNS}


def write_explanations(results: RunResults, path: str | Path) -> None:
    """Write `explanations.jsonl`, whole or not at all."""
    lines = (
        json.dumps(row, ensure_ascii=False, allow_nan=False) for row in explanation_rows(results)
    )
    write_text(Path(path), "".join(f"{line}\n" for line in lines))


def write_scores(results: RunResults, path: str | Path) -> None:
    """Write `scores.csv`, whole or not at all; empty cells where there is no number."""
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, SCORE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(score_rows(results))
    write_text(Path(path), text.getvalue())


def _row(results: RunResults, unit: UnitResult, explainer: str) -> dict[str, Any]:
    outcome = outcome_of(unit, explainer)
    explanation, score = unit.explanations.get(explainer), unit.scores.get(explainer)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": results.name,
        "unit": str(unit.unit),
        "source": unit.unit.source,
        "index": unit.unit.index,
        "polarity": unit.unit.polarity,
        "firing_rate": _number(unit.density),
        "explainer": explainer,
        "is_baseline": explainer in results.baseline_explainers,
        "explanation": explanation.text if explanation else None,
        "status": str(outcome.status),
        "stage": outcome.stage,
        "reason": outcome.reason,
        "score": _number(score.value) if score else None,
        "score_interval": _interval(score.interval) if score else None,
        "lift": _number(score.lift) if score else None,
        "lift_interval": _interval(score.lift_interval) if score else None,
        "control_mean": _number(score.control_mean) if score else None,
        "controls": [
            {
                "name": control.name,
                "score": _number(control.value),
                "status": str(control.status),
                "donor": str(control.donor) if control.donor else None,
                "explanation_key": control.explanation_key,
            }
            for control in (score.controls if score else ())
        ],
        "lookup_score": _lookup_score(results, unit),
        "n_windows": score.n_windows if score else None,
        "n_documents": score.n_documents if score else None,
        "n_active_documents": score.n_active_documents if score else None,
        "n_tokens": score.n_tokens if score else None,
        "n_unknown_tokens": score.n_unknown_tokens if score else None,
        "scorer": score.scorer if score else None,
        "simulator": score.simulator if score else None,
        "design": score.design if score else None,
        "split": str(score.split) if score else str(Split.TEST),
        "keys": {
            "explanation": explanation.key if explanation else None,
            "score": score.key if score else None,
        },
    }


def _lookup_score(results: RunResults, unit: UnitResult) -> float | None:
    """Score of the first baseline that has one."""
    for baseline in results.baseline_explainers:
        outcome: Outcome = outcome_of(unit, baseline)
        if outcome.status is Status.OK:
            return outcome.value
    return None


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    return interval_json(interval)


def _ends(name: str, interval: dict[str, Any] | None) -> dict[str, float | None]:
    low, high = (interval["low"], interval["high"]) if interval else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
