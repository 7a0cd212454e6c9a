"""Scores the best units once more, on documents that nobody has looked at.

Units that are shown because they score best scored best partly by luck: on new documents they do
worse, and by how much is what this measures (regression to the mean). The `audit` split is read
here and nowhere else, and every reading is logged in the run's `audit_log.jsonl`.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from autointerp import stats
from autointerp.analysis.values import interval_json, outcome_of_score
from autointerp.config import RunConfig, load_config
from autointerp.progress import Reporter, Silent
from autointerp.records import (
    AutointerpError,
    Explanation,
    Score,
    Simulation,
    Split,
    Status,
    UnitId,
    derived_seed,
)
from autointerp.runner import Run
from autointerp.scorers import ScoreJob, SimulationScorer
from autointerp.scorers.incomplete import noting_failures
from autointerp.simulation_stage import (
    score_key,
    scorer_of,
    simulate,
    simulated,
    simulation_batch,
)
from autointerp.simulators import SimulationRequest, Simulator
from autointerp.simulators.asked import AskedSimulator
from autointerp.store import config_file

SCORER = "audit"
"""Name under which these scores are stored, beside those of `simulation`."""


@dataclass(frozen=True)
class AuditCost:
    """What an audit will ask for, before anything is asked."""

    simulator: str
    n_explanations: int
    n_simulations: int
    """Of windows under an own or a donor's explanation."""
    calls: int
    input_tokens: int
    most_usd: float | None
    """With the longest answers; 0 on this machine, `None` where the price is unknown."""


@dataclass(frozen=True)
class _Entry:
    explanation: Explanation
    donors: tuple[Explanation, ...]
    test: Score
    is_selected: bool


def audit_run(
    folder: str | Path,
    *,
    top: float = 0.25,
    reference: bool = True,
    dry: bool = False,
    reporter: Reporter | None = None,
    on_cost: Callable[[list[AuditCost]], None] | None = None,
) -> dict[str, Any]:
    """Score the best units of a finished run on its `audit` split.

    Args:
        folder: of the run; its budget holds here too.
        top: share of the units of every source and explainer that are selected, by their lift on
            `test` (their score where there is no lift).
        reference: score as many of the other units, drawn at random: what the splits differ by
            shows in both, regression in the selected alone.
        dry: say what it costs, and read nothing.
        reporter: hears of progress.
        on_cost: is told the cost per simulator before anything is asked.

    Returns:
        `cost`, and `groups`: per source and explainer `selected` and `reference`, each with `n`,
        `by_status`, and for lift and score the means on `test` and `audit` and the mean of
        test − audit with its interval; `missing`: `n` scores without a number or a lift per
        `status`, and the first `reason`; of a dry one those known before anything is asked. Also
        written to the run's `audit.json`.

    Raises:
        AutointerpError: where the folder holds no scored run, or the budget is spent.
    """
    place = Path(folder)
    path = config_file(place)
    if not 0 < top <= 1:
        raise AutointerpError(f"top must be a share above 0 and at most 1, not {top}")
    config = load_config(path, RunConfig).model_copy(update={"output": str(place)})
    run = Run(config, reporter or Silent(), None)
    with run.store.lock():
        try:
            entries = list(_chosen(run, top, reference))
            if not entries:
                raise AutointerpError(f"{str(folder)!r} has no scores by simulation to audit")
            cost = _costs(run, entries)
            if on_cost is not None:
                on_cost(cost)
            costs = [asdict(one) for one in cost]
            found: dict[str, Any] = {"run": config.name, "top": top, "cost": costs, "groups": []}
            if dry:
                return found | {"missing": _missing(_unstarted(run, entries))}
            _log(run, entries, top)
            scores = _score(run, entries)
            found["groups"] = list(_groups(entries, scores, config.seed))
            found["missing"] = _missing(zip(entries, scores, strict=True))
            run.store.write_json("audit.json", found)
            return found
        finally:
            run.store.close()


def _merit(score: Score) -> float | None:
    if score.status is Status.CONSTANT_PREDICTION and score.lift is None:
        return 0.0
    return score.value if score.lift is None else score.lift


def _chosen(run: Run, top: float, reference: bool) -> Iterator[_Entry]:
    """The best units of every source and explainer, and as many others."""
    groups: dict[tuple[str, str], list[_Entry]] = {}
    for key, explanation, donors in simulated(run):
        score = run.store.get_score(key)
        if score is not None and _merit(score) is not None:
            place = (explanation.unit.source, explanation.explainer)
            groups.setdefault(place, []).append(_Entry(explanation, donors, score, False))
    for place, group in groups.items():
        ranked = sorted(group, key=lambda e: (-(_merit(e.test) or 0.0), e.explanation.unit))
        n = math.ceil(top * len(ranked))
        yield from (replace(entry, is_selected=True) for entry in ranked[:n])
        rest = ranked[n:] if reference else []
        generator = np.random.default_rng(derived_seed(run.config.seed, "audit", *place))
        yield from (rest[i] for i in sorted(generator.permutation(len(rest))[:n].tolist()))


def audit_scorer(run: Run, unit: UnitId) -> SimulationScorer:
    """What scores a unit on `audit`, as on `test` but for the split.

    Where the design draws fewer active windows there than `score.min_active_documents` asks for,
    two documents are enough: else no unit of such a run could be audited.
    """
    plain = scorer_of(run, unit)
    enough = plain.min_active_documents
    if plain.design == run.design.name:
        quota = run.design.quotas[Split.AUDIT]
        enough = min(enough, 2) if quota.top + quota.intervals < enough else enough
    return replace(
        plain, split=Split.AUDIT, name=SCORER, calibration="none", min_active_documents=enough
    )


def _job(run: Run, entry: _Entry) -> ScoreJob:
    simulator = run.parts.simulator(entry.explanation.explainer)
    key = score_key(
        audit_scorer(run, entry.explanation.unit),
        entry.explanation,
        entry.donors,
        simulator.fingerprint,
    )
    record = run.units.records[entry.explanation.unit]
    return ScoreJob(
        record, entry.explanation, entry.donors, simulator.name, simulator.fingerprint, key
    )


def _score(run: Run, entries: Sequence[_Entry]) -> list[Score]:
    """The scores on `audit`, in order; those that are stored are not asked for again."""
    from autointerp.llm import drive

    jobs = [_job(run, entry) for entry in entries]
    scores: dict[str, Score] = {}
    for job in jobs:
        kept = run.store.get_score(job.key)
        if kept is not None:
            scores[job.key] = kept
    run.reporter.stage("audit", len(jobs) - len(scores), "scores")

    def done(_: str, score: Score) -> None:
        run.store.put_score(score)
        scores[score.key] = score
        run.reporter.advance(1)

    for simulator in list(run.parts.simulators.values()):
        own = {
            job.key: (job, entry)
            for job, entry in zip(jobs, entries, strict=True)
            if job.simulator == simulator.name and job.key not in scores
        }

        def failed(key: str, error: AutointerpError, own: dict[str, Any] = own) -> None:
            job, entry = own[key]
            # Of the score on `test` nothing stays: its numbers are of other documents.
            missing = Score.failed(
                entry.explanation, scorer=SCORER, simulator=job.simulator, key=key,
                design=entry.test.design, reason=str(error),
            )  # fmt: skip
            done(job.key, replace(missing, split=Split.AUDIT))

        def answer(
            requests: list[SimulationRequest], by: Simulator = simulator
        ) -> list[list[Simulation]]:
            return simulate(run, by, requests)

        steps = {
            key: noting_failures(audit_scorer(run, entry.explanation.unit).score(job))
            for key, (job, entry) in own.items()
        }
        handlers = {SimulationRequest: answer}
        drive(steps, handlers, done, failed, batch_size=simulation_batch(run, simulator))
    return [scores[job.key] for job in jobs]


# ---------------------------------------------------------------------- cost


def _costs(run: Run, entries: Sequence[_Entry]) -> list[AuditCost]:
    """From the real prompts; what is stored already is counted as if it were not."""
    pairs: dict[str, list[tuple[str, tuple[tuple[str, ...], ...]]]] = {}
    n: dict[str, int] = {}
    for entry in entries:
        job = _job(run, entry)
        asked = audit_scorer(run, entry.explanation.unit).requests(job)
        requests = [(r.explanation, r.sequences) for r in asked if r.sequences]
        pairs.setdefault(job.simulator, []).extend(requests)
        n[job.simulator] = n.get(job.simulator, 0) + 1
    return [_cost(run, run.parts.simulators[name], n[name], rows) for name, rows in pairs.items()]


def _cost(run: Run, simulator: Simulator, n: int, pairs: Sequence[Any]) -> AuditCost:
    if not isinstance(simulator, AskedSimulator):
        count = getattr(simulator, "count_tokens", None)
        tokens = count(pairs) if count else 0
        return AuditCost(simulator.name, n, len(pairs), 0, tokens, 0.0)
    from autointerp.dry_run import drive_dry, rule_counter
    from autointerp.llm.base import Usage
    from autointerp.llm.keys import by_vendor
    from autointerp.llm.options import ClientOptions
    from autointerp.llm.prices import load_prices

    model, counter = run.config.llm.model, rule_counter()
    options = ClientOptions.of(run.config.llm)
    vendor = model.startswith("local/") or by_vendor(model.partition("/")[0], options)
    price = load_prices(run.config.llm.prices).find(model, vendor=vendor)
    asked = [one.request for pair in pairs for one in drive_dry(simulator.steps(*pair))[1]]
    prompts = [counter.prompt(request) for request in asked]
    each = [
        price.usd(Usage(p, 0, r.max_tokens)) if price else None
        for p, r in zip(prompts, asked, strict=True)
    ]
    known = [one for one in each if one is not None]
    usd = sum(known) if len(known) == len(each) else None
    return AuditCost(simulator.name, n, len(pairs), len(asked), sum(prompts), usd)


# ---------------------------------------------------------------------- what came of it


def _groups(
    entries: Sequence[_Entry], scores: Sequence[Score], seed: int
) -> Iterator[dict[str, Any]]:
    pairs = list(zip(entries, scores, strict=True))
    places = dict.fromkeys((e.explanation.unit.source, e.explanation.explainer) for e in entries)
    for source, explainer in places:
        own = [
            (e, s)
            for e, s in pairs
            if (e.explanation.unit.source, e.explanation.explainer) == (source, explainer)
        ]
        yield {
            "source": source,
            "explainer": explainer,
            "selected": _regression([(e.test, s) for e, s in own if e.is_selected], seed),
            "reference": _regression([(e.test, s) for e, s in own if not e.is_selected], seed),
        }


def _regression(pairs: Sequence[tuple[Score, Score]], seed: int) -> dict[str, Any]:
    """Means on both splits of the units that have a number on both, and their difference."""
    statuses = [str(again.status) for _, again in pairs]
    return {
        "n": len(pairs),
        "by_status": {status: statuses.count(status) for status in sorted(set(statuses))},
        "lift": _paired([(a.lift, b.lift) for a, b in pairs], seed),
        "score": _paired([(_value(a), _value(b)) for a, b in pairs], seed),
    }


def _paired(values: Sequence[tuple[float | None, float | None]], seed: int) -> dict[str, Any]:
    known = [(a, b) for a, b in values if a is not None and b is not None]
    fallen = [a - b for a, b in known]
    return {
        "n": len(known),
        "test": fmean(a for a, _ in known) if known else None,
        "audit": fmean(b for _, b in known) if known else None,
        "fallen_by": fmean(fallen) if fallen else None,
        "interval": interval_json(stats.bootstrap_mean(fallen, seed=derived_seed(seed, "audit"))),
    }


def _value(score: Score) -> float | None:
    return 0.0 if score.status is Status.CONSTANT_PREDICTION else score.value


def _missing(pairs: Iterable[tuple[_Entry, Score]]) -> list[dict[str, Any]]:
    """How many scores on `audit` have no number, or no lift, and why the first has none."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry, score in pairs:
        again = outcome_of_score(score)
        if again.lift is not None and entry.test.lift is not None:
            continue
        why = again if again.lift is None else outcome_of_score(entry.test)
        what = "not scored" if again.value is None else "without lift"
        empty = {"what": what, "status": str(again.status), "n": 0, "reason": why.reason}
        found.setdefault((what, str(again.status)), empty)["n"] += 1
    return list(found.values())


def _unstarted(run: Run, entries: Sequence[_Entry]) -> Iterator[tuple[_Entry, Score]]:
    """The scores for which nothing need be asked: there is too little to score."""
    for entry in entries:
        steps = audit_scorer(run, entry.explanation.unit).score(_job(run, entry))
        try:
            next(steps)
        except StopIteration as end:
            yield entry, end.value
        steps.close()


def _log(run: Run, entries: Sequence[_Entry], top: float) -> None:
    """One line for every time the split is read."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "top": top,
        "units": sorted({str(entry.explanation.unit) for entry in entries}),
        "explainers": sorted({entry.explanation.explainer for entry in entries}),
    }
    with (run.store.folder / "audit_log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
