"""OpenAI's files: a NeuronRecord per unit, and its NeuronSimulationResults (Bills et al. 2023).

    OUTPUT/SOURCE/neurons/LAYER/INDEX.json
    OUTPUT/SOURCE/explanations/LAYER/INDEX.jsonl

The negative side of a unit goes to `SOURCE__negative`. Levels are simulated ones (0 to 10), and
distributions are left empty, as that code does without log probabilities. A sequence with a token
of which the simulator said nothing is left out, for the format has no word for it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autointerp import stats
from autointerp.export.reading.openai import NEGATIVE
from autointerp.export.rows import FinishedRun, TextChoice, around_peak
from autointerp.records import (
    ActivationRecord,
    Simulation,
    Split,
    SplitStatistics,
    Strata,
    UnitId,
    UnitRecord,
    UsageError,
)
from autointerp.scorers.simulation import simulation_key
from autointerp.simulators.base import SimulationRequest

_SCALE = "simulated_normalized_activations"


def write_openai(
    run: FinishedRun, folder: Path, choice: TextChoice, layer: int | None = None
) -> int:
    """Write both files of every unit; returns the number of units.

    Args:
        layer: of sources whose layer is not known, such as recorded ones.

    Raises:
        UsageError: where a layer is neither known nor given.
    """
    n = 0
    for unit, rows, record in run.units():
        found = run.provenance(unit.source, "")["layer"]
        number = layer if found is None else found
        if number is None:
            raise UsageError(f"the layer of source {unit.source!r} is not known: give --layer N")
        name = {"layer_index": number, "neuron_index": unit.index, "dataclass_name": "NeuronId"}
        place = folder / (unit.source if unit.polarity > 0 else f"{unit.source}{NEGATIVE}")
        _write(place / "neurons" / str(number) / f"{unit.index}.json",
               {"neuron_id": name, **neuron_record(record, choice)})  # fmt: skip
        scored = [s for row in rows for s in _scored(run, unit, row, record, choice)]
        results = {"neuron_id": name, "scored_explanations": scored,
                   "dataclass_name": "NeuronSimulationResults"}  # fmt: skip
        _write(place / "explanations" / str(number) / f"{unit.index}.jsonl", results)
        n += 1
    return n


def neuron_record(record: UnitRecord, choice: TextChoice) -> dict[str, Any]:
    """The fields of a NeuronRecord but its name.

    `random_sample_by_quantile` holds the windows of the value intervals, lowest first, without
    boundaries, for intervals of value are no quantiles.
    """
    by = {
        name: [r for r in record.records if r.stratum == name] if choice.with_text else []
        for name in Strata.ordered()
    }
    intervals = [Strata.interval(i) for i in range(1, Strata.N_INTERVALS + 1)]
    top = sorted(by[Strata.TOP], key=lambda r: (-r.maximum, r.window))
    return {
        "random_sample": [_activations(r, choice) for r in by[Strata.RANDOM]],
        "random_sample_by_quantile": [[_activations(r, choice) for r in by[i]] for i in intervals],
        "quantile_boundaries": None,
        **moments(record.statistics.get(Split.EXPLAIN)),
        "most_positive_activation_records": [_activations(r, choice) for r in top],
        "dataclass_name": "NeuronRecord",
    }


def moments(found: SplitStatistics | None) -> dict[str, float | None]:
    """Mean, variance, and standardised third and fourth central moment; `None` where undefined."""
    if found is None or not found.n_tokens:
        return dict.fromkeys(("mean", "variance", "skewness", "kurtosis"))
    a, b, c, d = found.moments
    variance = b - a**2
    third = c - 3 * a * b + 2 * a**3
    fourth = d - 4 * a * c + 6 * a**2 * b - 3 * a**4
    varies = variance > 1e-12 * b
    return {
        "mean": a,
        "variance": variance if varies else 0.0,
        "skewness": third / variance**1.5 if varies else None,
        "kurtosis": fourth / variance**2 if varies else None,
    }


def _activations(record: ActivationRecord, choice: TextChoice) -> dict[str, Any]:
    shown = around_peak(record.activations, choice.max_context)
    return {
        "tokens": list(record.tokens[shown]),
        "activations": [float(value) for value in record.activations[shown]],
        "dataclass_name": "ActivationRecord",
    }


def _scored(
    run: FinishedRun, unit: UnitId, row: dict[str, Any], record: UnitRecord, choice: TextChoice
) -> list[dict[str, Any]]:
    """The explanation of one explainer, with its score by simulation where there is one."""
    text, score = row["explanation"], row["scores"].get("simulation")
    if text is None or row["is_baseline"] or score is None or score["score"] is None:
        return []
    windows, parts = _simulated(run, text, score, record)
    sequences = [
        _sequence(window, part, choice)
        for window, part in zip(windows, parts, strict=True)
        if choice.with_text and part.known.all()
    ]
    simulation = {
        "scored_sequence_simulations": sequences,
        "ev_correlation_score": score["score"],
        "rsquared_score": None,
        "absolute_dev_explained_score": None,
        "dataclass_name": "ScoredSimulation",
    }
    return [{"explanation": text, "scored_simulation": simulation,
             "dataclass_name": "ScoredExplanation"}]  # fmt: skip


def _simulated(
    run: FinishedRun, text: str, score: dict[str, Any], record: UnitRecord
) -> tuple[Sequence[ActivationRecord], Sequence[Simulation]]:
    """The scored windows and what was simulated on them; nothing where that is not stored."""
    windows = [r for r in record.of(Split(score["split"])) if r.stratum != Strata.RANDOM]
    fingerprint = (run.facts.get("simulators") or {}).get(score["simulator"])
    request = SimulationRequest(text, tuple(w.tokens for w in windows))
    parts = run.store.get_simulation(simulation_key(request, str(fingerprint)))
    return (windows, parts) if parts is not None else ((), ())


def _sequence(window: ActivationRecord, part: Simulation, choice: TextChoice) -> dict[str, Any]:
    shown = around_peak(window.activations, choice.max_context)
    true, expected = window.activations[shown], part.expected[shown]
    return {
        "simulation": {
            "tokens": list(window.tokens[shown]),
            "expected_activations": [float(value) for value in expected],
            "activation_scale": _SCALE,
            "distribution_values": [],
            "distribution_probabilities": [],
            "uncalibrated_simulation": None,
            "dataclass_name": "SequenceSimulation",
        },
        "true_activations": [float(value) for value in true],
        "ev_correlation_score": stats.pooled_pearson([true], [expected]).value,
        "rsquared_score": None,
        "absolute_dev_explained_score": None,
        "dataclass_name": "ScoredSequenceSimulation",
    }


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")
