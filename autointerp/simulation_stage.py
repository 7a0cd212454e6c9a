"""Scoring by simulation in a run: what has no score under its key yet is simulated."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autointerp.config import BASELINE_EXPLAINERS, RecordedConfig, RunConfig
from autointerp.controls import FREE_CONTROLS, TEXT_CONTROLS, score_with_controls
from autointerp.explained import Wanted, everything, explained
from autointerp.records import (
    AutointerpError,
    Explanation,
    Score,
    Simulation,
    UnitId,
    content_key,
)
from autointerp.scorers.incomplete import noting_failures
from autointerp.scorers.simulation import (
    IMPORTED_DESIGN,
    VERSION,
    ScoreJob,
    SimulationScorer,
    simulation_key,
)
from autointerp.simulators import SimulationRequest, Simulator
from autointerp.simulators.asked import AskedSimulator
from autointerp.simulators.base import IncompleteSimulations
from autointerp.store.ledger import Spending

if TYPE_CHECKING:
    from autointerp.controls.scoring import Steps
    from autointerp.runner import Run

_BATCH = 12
"""Explanations simulated together on this machine."""


def simulation_scorer(run: "Run", design: str) -> SimulationScorer:
    """The scorer of windows that were drawn by a design."""
    return SimulationScorer(
        design,
        min_active_documents=run.config.score.min_active_documents,
        n_replicates=run.config.score.bootstrap,
        seed=run.config.seed,
        calibration=run.config.score.calibration,
        sample=run.config.score.windows,
    )


def scorer_of(run: "Run", unit: UnitId) -> SimulationScorer:
    """The scorer of one unit: windows recorded elsewhere have a design of their own."""
    imported = isinstance(run.config.sources[unit.source], RecordedConfig)
    return simulation_scorer(run, IMPORTED_DESIGN if imported else run.design.name)


def controls_of(config: RunConfig, explainer: str, *, judged: bool = False) -> tuple[str, ...]:
    """Controls that are scored beside an explainer's explanations.

    Tables and patterns are not read as words, and only simulations can be permuted.
    """
    wanted: tuple[str, ...] = config.control_names
    if judged:
        wanted = tuple(name for name in wanted if name in TEXT_CONTROLS)
    is_baseline = any(
        e.name == explainer and e.type in BASELINE_EXPLAINERS for e in config.explainers
    )
    return tuple(n for n in wanted if n in FREE_CONTROLS) if is_baseline else wanted


def score_key(
    scorer: SimulationScorer,
    explanation: Explanation,
    donors: Sequence[Explanation],
    simulator: str,
    controls: Sequence[str] = (),
) -> str:
    """Key of a score by simulation: everything it depends on.

    Args:
        simulator: fingerprint of who simulates.
        controls: names of those scored beside it.
    """
    return content_key(
        "score",
        version=VERSION,
        scorer=scorer.identity(),
        explanation=explanation.key,
        donors=[donor.key for donor in donors],
        simulator=simulator,
        controls=list(controls),
    )


Entry = tuple[str, Explanation, tuple[Explanation, ...]]
"""The key of a score, the explanation and its donors."""


def simulated(run: "Run") -> Iterator[Entry]:
    """Every explanation that is scored by simulation, with its score's key and its donors."""
    if not any(scorer.type == "simulation" for scorer in run.config.scorers):
        return
    for explanation, donors in explained(run):
        simulator = run.parts.simulator(explanation.explainer).fingerprint
        scorer = scorer_of(run, explanation.unit)
        controls = controls_of(run.config, explanation.explainer)
        key = score_key(scorer, explanation, donors, simulator, controls)
        yield key, explanation, donors


def score_jobs(run: "Run") -> Iterator[ScoreJob]:
    """Every explanation that is scored by simulation, with all that its score needs."""
    for entry in simulated(run):
        yield _score_job(run, entry)


def _score_job(run: "Run", entry: Entry) -> ScoreJob:
    key, explanation, donors = entry
    simulator = run.parts.simulator(explanation.explainer)
    record = run.units.records[explanation.unit]
    return ScoreJob(record, explanation, donors, simulator.name, simulator.fingerprint, key)


def score_steps(run: "Run", job: ScoreJob) -> "Steps":
    """A score by simulation in the making, with its controls."""
    scorer = scorer_of(run, job.record.unit)
    # A control is a number without an interval of its own.
    plain = replace(scorer, calibration="none", n_replicates=2)
    kinds = controls_of(run.config, job.explanation.explainer)
    steps = score_with_controls(
        scorer.score,
        job,
        kinds,
        score_control=plain.score,
        same_tokens=True,
        seed=run.config.seed,
    )
    return noting_failures(steps)


def score_by_simulation(run: "Run", wanted: Wanted = everything) -> None:
    """Score by simulation what is wanted."""
    known = run.store.score_keys("simulation")
    missing = [e for e in simulated(run) if e[0] not in known and wanted(e[1])]
    run.reporter.stage("score", len(missing), "scores")
    for simulator in run.parts.simulators.values():
        own = [e for e in missing if run.parts.simulator(e[1].explainer).name == simulator.name]
        _score_by(run, simulator, {entry[0]: entry for entry in own})


def _score_by(run: "Run", simulator: Simulator, entries: dict[str, Entry]) -> None:
    """Score what one simulator simulates."""
    from autointerp.llm import drive

    def done(_: str, score: Score) -> None:
        run.store.put_score(score)
        run.reporter.advance(1)

    def failed(key: str, error: AutointerpError) -> None:
        _, explanation, _ = entries[key]
        scorer = scorer_of(run, explanation.unit)
        score = Score.failed(
            explanation, scorer=scorer.name, simulator=simulator.name, key=key,
            design=scorer.design, reason=str(error),
        )  # fmt: skip
        done(key, score)

    def answer(requests: list[SimulationRequest]) -> list[list[Simulation]]:
        return simulate(run, simulator, requests)

    # Windows are read when a job's turn comes: a dictionary's do not fit into memory.
    jobs = ((key, score_steps(run, _score_job(run, entry))) for key, entry in entries.items())
    batch_size = simulation_batch(run, simulator)
    drive(jobs, {SimulationRequest: answer}, done, failed, batch_size=batch_size)


def simulation_batch(run: "Run", simulator: Simulator) -> int:
    """Explanations simulated together: where they go into batches of a provider, all."""
    asks = isinstance(simulator, AskedSimulator)
    return max(_BATCH, run.parts.llm_batch) if asks else _BATCH


def simulate(
    run: "Run", simulator: Simulator, requests: list[SimulationRequest]
) -> list[list[Simulation]]:
    """Answer requests from the store, after simulating and committing what it lacks."""
    keys = [simulation_key(request, simulator.fingerprint) for request in requests]
    missing = {
        key: request
        for key, request in zip(keys, requests, strict=True)
        if run.store.get_simulation(key) is None
    }
    # What a provider failed to answer is missing now. It is not stored, and the score notes it
    # (`noting_failures`): `autointerp retry` makes that score again.
    incomplete = _simulate_missing(run, simulator, missing) if missing else {}
    found = [incomplete.get(key) or run.store.get_simulation(key) for key in keys]
    return [parts for parts in found if parts is not None]


def _simulate_missing(
    run: "Run", simulator: Simulator, missing: dict[str, SimulationRequest]
) -> dict[str, IncompleteSimulations]:
    """Simulate and commit; returns what is incomplete, and so not committed, by key."""
    pairs = [(request.explanation, request.sequences) for request in missing.values()]
    started = time.monotonic()
    answers = simulator.simulate_many(pairs)
    seconds = time.monotonic() - started
    asks = isinstance(simulator, AskedSimulator)
    unanswered: dict[int, str] = simulator.unanswered if asks else {}
    incomplete: dict[str, IncompleteSimulations] = {}
    for place, (key, request) in enumerate(missing.items()):
        if place in unanswered:
            incomplete[key] = IncompleteSimulations(answers[place], unanswered[place])
        else:
            run.store.put_simulation(key, request.explanation, simulator.name, answers[place])
    # One that asks has every request of its own in the ledger already.
    if not asks:
        count = getattr(simulator, "count_tokens", None)
        spent = Spending(
            "simulate",
            simulator.name,
            requests=len(missing),
            input_tokens=count(pairs) if count else 0,
            seconds=seconds,
        )
        run.store.ledger.settle([], [spent])
    return incomplete
