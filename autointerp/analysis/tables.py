"""Rows for other programs: `explanations.jsonl` and `scores.csv`.

The first holds an object per selected unit and explainer, with an object per scorer in it; the
second a row per unit, explainer and scorer; both whatever became of it. A number that does not
exist is `null` or an empty cell, and the status says why.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.analysis.results import RunResults, UnitResult
from autointerp.analysis.scorer_facts import ScorerFacts, chance_of
from autointerp.analysis.token_entropy import token_entropy
from autointerp.analysis.values import Outcome, interval_json, outcome_of
from autointerp.records import Split, Status
from autointerp.store import write_text

TABLES_VERSION = 2
"""`schema_version` of `explanations.jsonl`, `scores.csv` and `summary.json`. It is their own: these
files are written anew from the store, whose keys and answers need not change with a column.

1: one score per row, by simulation. 2: every scorer; see docs/run-folder.md.
"""

_COMPARED = ("shuffled", "mixture")
"""Controls that a lift is against: other units' explanations, and the intruder's."""

SCORE_COLUMNS: tuple[str, ...] = (
    "unit", "source", "index", "polarity", "firing_rate", "explainer", "is_baseline", "scorer",
    "metric", "status", "score", "score_low", "score_high", "chance", "lift", "lift_low",
    "lift_high", "control_mean", "n_controls", "lookup_score", "n_windows", "n_documents",
    "n_active_documents", "n_tokens", "n_unknown_tokens", "simulator", "design", "split",
    "schema_version",
)  # fmt: skip
"""Columns of `scores.csv`, in order. Texts that a model wrote are in `explanations.jsonl` only:
a spreadsheet would run a cell that starts with `=`."""


def explanation_rows(results: RunResults) -> Iterator[dict[str, Any]]:
    """One object per unit and explainer, in the order of the units and of the config.

    `scores` has an object per scorer. Its `score` and `lift` are as measured: `None` for a constant
    prediction unless the scorer gave a number; means count it as chance. Its `status` and `stage`
    say what became of the unit and where; `status` of the row says it of the explanation.
    """
    views = {facts.name: results.under(facts.name) for facts in results.scorers}
    for place, unit in enumerate(results.units):
        seen = {name: view.units[place] for name, view in views.items()}
        for explainer in results.explainers:
            yield {
                **_unit_facts(results, unit, explainer),
                "scores": {
                    facts.name: _score_facts(results, seen[facts.name], explainer, facts)
                    for facts in results.scorers
                },
            }


def score_rows(results: RunResults) -> Iterator[dict[str, Any]]:
    """One row per unit, explainer and scorer: the columns of `SCORE_COLUMNS`, `None` for none."""
    for row in explanation_rows(results):
        for scorer, score in row["scores"].items():
            flat = {
                **row,
                **score,
                **_ends("score", score["score_interval"]),
                **_ends("lift", score["lift_interval"]),
                "scorer": scorer,
                "n_controls": n_in_control_mean(score["controls"]),
            }
            yield {column: flat[column] for column in SCORE_COLUMNS}


def n_in_control_mean(controls: Sequence[Mapping[str, Any]]) -> int:
    """How many controls `control_mean` is the mean of; those of other kinds are in no mean."""
    missing = {str(Status.FAILED), str(Status.NOT_RUN)}
    return sum(c["name"] in _COMPARED and c["status"] not in missing for c in controls)


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


def _unit_facts(results: RunResults, unit: UnitResult, explainer: str) -> dict[str, Any]:
    explanation = unit.explanations.get(explainer)
    missing = Status.NOT_RUN if unit.status is Status.OK else unit.status
    return {
        "schema_version": TABLES_VERSION,
        "run": results.name,
        "unit": str(unit.unit),
        "source": unit.unit.source,
        "index": unit.unit.index,
        "polarity": unit.unit.polarity,
        "firing_rate": _number(unit.density),
        "token_entropy": token_entropy(unit.record),
        "explainer": explainer,
        "is_baseline": explainer in results.baseline_explainers,
        "explanation": explanation.text if explanation else None,
        "explanation_key": explanation.key if explanation else None,
        "author": explanation.details.get("author") if explanation else None,
        "status": str(explanation.status if explanation else missing),
        "reason": explanation.reason if explanation else "",
    }


def _score_facts(
    results: RunResults, unit: UnitResult, explainer: str, facts: ScorerFacts
) -> dict[str, Any]:
    """One score; `unit` as the scorer sees it."""
    outcome = outcome_of(unit, explainer)
    score = unit.scores.get(explainer)
    chance = chance_of(score) if score else None
    return {
        "metric": facts.metric,
        "status": str(outcome.status),
        "stage": outcome.stage,
        "reason": outcome.reason,
        "score": _number(score.value) if score else None,
        "score_interval": interval_json(score.interval) if score else None,
        "chance": _number(facts.chance if chance is None else chance),
        "lift": _number(score.lift) if score else None,
        "lift_interval": interval_json(score.lift_interval) if score else None,
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
        "simulator": score.simulator if score else None,
        "design": score.design if score else None,
        "split": str(score.split) if score else str(Split.TEST),
        "key": score.key if score else None,
    }


def _lookup_score(results: RunResults, unit: UnitResult) -> float | None:
    """Score of the first baseline that has one."""
    for baseline in results.baseline_explainers:
        outcome: Outcome = outcome_of(unit, baseline)
        if outcome.status is Status.OK:
            return outcome.value
    return None


def _ends(name: str, interval: dict[str, Any] | None) -> dict[str, float | None]:
    low, high = (interval["low"], interval["high"]) if interval else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
