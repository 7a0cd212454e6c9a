"""Gathers a run's results under its present config, and the facts needed to trace them."""

import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

from autointerp.analysis.groups import layer_in
from autointerp.analysis.results import RunResults, UnitResult
from autointerp.cascade import mark_staged
from autointerp.config import BASELINE_EXPLAINERS
from autointerp.explained import explanations
from autointerp.judging import asks_llm, judged, judges
from autointerp.presets import preset_facts
from autointerp.record_stage import records_key
from autointerp.records import (
    SCHEMA_VERSION,
    Explanation,
    Score,
    Simulation,
    Status,
    UnitId,
    derived_seed,
)
from autointerp.scorers.simulation import simulation_key
from autointerp.simulation_stage import score_jobs, scorer_of
from autointerp.stopping import mark_stopped

if TYPE_CHECKING:
    from autointerp.runner import Run
    from autointerp.subject import Subject


def gather(run: "Run") -> RunResults:
    """Everything this config has results for."""
    scores: dict[UnitId, dict[str, Score]] = {unit: {} for unit in run.units.chosen}
    simulations: dict[UnitId, dict[str, tuple[Simulation, ...]]] = {u: {} for u in run.units.chosen}
    for job in score_jobs(run):
        score = run.store.get_score(job.key)
        if score is None:
            continue
        scores[job.record.unit][score.explainer] = score
        request = scorer_of(run, job.record.unit).requests(job)[0]
        parts = run.store.get_simulation(simulation_key(request, job.simulator_fingerprint))
        if parts is not None:
            simulations[job.record.unit][score.explainer] = tuple(parts)
    words: dict[UnitId, dict[str, Explanation]] = {unit: {} for unit in run.units.chosen}
    for explainer in run.parts.explainers:
        for unit, explanation in explanations(run, explainer).items():
            words[unit][explainer.name] = explanation
    by_judges = judged(run)
    staged: dict[str, Any] = {}
    if run.config.cascade is not None:
        staged = mark_staged(run, scores, by_judges)
    elif run.config.score.stop is not None:
        staged = mark_stopped(run, scores, by_judges)
    results = tuple(
        UnitResult(
            unit=unit,
            record=run.units.records[unit],
            density=run.units.densities[unit],
            explanations=words[unit],
            scores=scores[unit],
            judged=by_judges.get(unit, {}),
            scored_windows=scorer_of(run, unit).windows(run.units.records[unit]),
            simulations=simulations[unit],
            status=Status.DEAD if run.units.is_dead(unit) else Status.OK,
        )
        for unit in run.units.chosen
    )
    shown = {record.window.sequence_id for one in results for record in one.record.records}
    spans = {name: run.store.sequence(name) for name in sorted(shown)}
    frame = run.config.units.min_active_documents
    return RunResults(
        name=run.config.name,
        explainers=tuple(e.name for e in run.config.explainers),
        baseline_explainers=tuple(
            e.name for e in run.config.explainers if e.type in BASELINE_EXPLAINERS
        ),
        sources=tuple(run.config.sources),
        units=results,
        recorded={
            name: {
                "n_units": len(units),
                "n_dead": sum(u.maximum <= 0 for u in units),
                "n_too_rare": sum(u.maximum > 0 and u.active_documents < frame for u in units),
            }
            for name, units in run.units.summaries.items()
        },
        sequence_texts=run.store.read_facts(shown),
        char_spans={name: (one.char_starts, one.char_ends) for name, one in spans.items()},
        provenance=provenance(run),
        config=run.config.model_dump(mode="json"),
        ledger=tuple(run.store.ledger_totals()),
        seconds=dict(run.seconds),
        staged=staged,
    )


def provenance(run: "Run") -> dict[str, Any]:
    """Versions, hashes and seeds: what one needs to trace or repeat a score."""
    names = ("autointerp", "torch", "transformers", "numpy", "scipy", "pyarrow", "tokenizers")
    return {
        "schema_version": SCHEMA_VERSION,
        "seed": run.config.seed,
        "subjects": {
            name: {"model": subject.name, "fingerprint": subject.fingerprint}
            for name, subject in {**run.parts.models, **run.parts.subjects}.items()
        },
        "sources": {
            name: {
                "records_key": records_key(run, name),
                "facts": source_facts(run, name),
                **(
                    {"fingerprint": run.parts.sources[name].fingerprint()}
                    if name in run.parts.sources
                    else {
                        "file": str(getattr(settings, "path", "")),
                        "fingerprint": run.parts.imported[name].fingerprint(),
                    }
                ),
            }
            for name, settings in run.config.sources.items()
        },
        "first_use": run.store.read_json("first_use.json"),
        "corpus_key": run.corpus_stage.key,
        "corpus": run.store.read_json("corpus.json") if run.config.corpus else None,
        "corpus_fingerprint": run.corpus_stage.fingerprint,
        "design": {"name": run.design.name, "key": run.design.key()},
        "explainers": {e.name: e.fingerprint for e in run.parts.explainers},
        "llm": run.parts.client.fingerprint if _asks(run) else None,
        "simulators": {s.name: s.fingerprint for s in run.parts.simulators.values()},
        "bootstrap_seed": derived_seed(run.config.seed, "bootstrap"),
        "versions": {name: _version(name) for name in names},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        **({"preset": preset} if (preset := preset_facts(run.config)) else {}),
    }


def _asks(run: "Run") -> bool:
    """Whether a language model explains or judges."""
    return any(map(asks_llm, judges(run))) or any(e.needs_llm for e in run.parts.explainers)


def source_facts(run: "Run", name: str) -> dict[str, Any]:
    """What a source is, for comparisons: type, place, layer, width, subject; `None` if unknown."""
    settings = run.config.sources[name]
    source = run.parts.sources.get(name)
    subject = run.config.subjects.get(source.subject) if source else None
    return {
        "type": settings.type,
        "hook_point": source.read_at if source else None,
        "layer": layer_in(source.read_at) if source else None,
        "width": source.n_units if source else len(run.units.summaries[name]),
        "subject": subject.model if subject else None,
        "n_parameters": _n_parameters(run.parts.subject(source.subject)) if source else None,
        "l0": getattr(getattr(settings, "sparsify", None), "l0", None),
    }


def _n_parameters(subject: "Subject") -> int:
    return sum(int(p.numel()) for p in subject.model.parameters())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
