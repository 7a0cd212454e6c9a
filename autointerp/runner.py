"""A run: its stages in order, what is done already, and how a killed run goes on.

    corpus ─► record ─► explain ─► score ─► report

Every result has a key, the hash of its inputs; a stage does what has no result under its key yet.
So running again continues, and a changed config recomputes what depends on the change.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from autointerp.analysis.results import RunResults
from autointerp.cascade import check_cascade, score_in_stages
from autointerp.config import (
    BASELINE_EXPLAINERS,
    RecordedConfig,
    RunConfig,
)
from autointerp.controls import FREE_CONTROLS, TEXT_CONTROLS, score_with_controls
from autointerp.corpus_stage import CorpusStage
from autointerp.estimate import duration, estimate_seconds
from autointerp.executor import EXECUTORS
from autointerp.explainers.best_of import BestOf
from autointerp.explainers.labels import Labels, with_labels
from autointerp.gathering import gather
from autointerp.judging import Wanted, check_judges, check_live, everything, judge, live_subject
from autointerp.lazy_records import LazyRecords
from autointerp.parts import Parts
from autointerp.progress import Reporter, Silent
from autointerp.recording.design import SamplingDesign
from autointerp.records import (
    AutointerpError,
    Explanation,
    Score,
    Simulation,
    Status,
    UnitId,
    UnitRecord,
    content_key,
)
from autointerp.scorers.simulation import (
    IMPORTED_DESIGN,
    VERSION,
    ScoreJob,
    SimulationScorer,
    simulation_key,
)
from autointerp.selecting import Selection, check_selections, donors_of, select, selections
from autointerp.selection import Donors, stratified_sample
from autointerp.simulators import SimulationRequest, Simulator
from autointerp.simulators.asked import AskedSimulator
from autointerp.stopping import check_stop, score_until_known
from autointerp.store import RunStore, UnitSummary, write_text
from autointerp.store.ledger import Spending

if TYPE_CHECKING:
    from autointerp.controls.scoring import Steps
    from autointerp.explainers import Explainer
    from autointerp.units import UnitSource

STAGES = ("corpus", "record", "explain", "score", "report")

_SIMULATION_BATCH = 12


def run(
    config: RunConfig,
    *,
    reporter: Reporter | None = None,
    until: str = "report",
    units: Sequence[str] | None = None,
) -> RunResults | None:
    """Run all stages, or go on where an earlier call stopped.

    Args:
        config: what to do; its folder is `config.output`, or `results/NAME`.
        reporter: hears of stages and progress.
        until: the last stage to do, one of `STAGES`.
        units: these units (`source/index`) instead of the config's.

    Returns:
        The results, or `None` where an earlier stage was the last.

    Raises:
        AutointerpError: for what the user can mend; what was finished before stays.
    """
    if until not in STAGES:
        raise AutointerpError(f"there is no stage {until!r}; stages are {', '.join(STAGES)}")
    return Run(config, reporter or Silent(), units).execute(until)


async def run_async(
    config: RunConfig,
    *,
    reporter: Reporter | None = None,
    until: str = "report",
    units: Sequence[str] | None = None,
) -> RunResults | None:
    """As `run`, without blocking the event loop it is awaited in: it works in a thread."""
    return await asyncio.to_thread(run, config, reporter=reporter, until=until, units=units)


def run_folder(config: RunConfig) -> Path:
    """Where a config's run lies."""
    return Path(config.output or Path("results") / config.name)


def output_folder(config: RunConfig, units: Sequence[str] | None) -> Path:
    """Where tables and page go: the run's folder, or one of their own for units asked for singly.

    So that looking at one unit does not replace the page of the whole run.
    """
    folder = run_folder(config)
    if not units:
        return folder
    name = "_".join(str(UnitId.parse(unit)).replace("/", ".") for unit in units)
    return folder / "units" / name[:100]


class Run:
    """One execution of one config. `run()` is the way in."""

    def __init__(self, config: RunConfig, reporter: Reporter, units: Sequence[str] | None) -> None:
        config = with_labels(config, run_folder(config))
        self.config = config
        self.reporter = reporter
        self.chosen = units
        self.store = RunStore(run_folder(config))
        self.seconds: dict[str, float] = {}
        window_length = config.corpus.window_length if config.corpus else 0
        self.design = SamplingDesign.of(config.record.design, window_length, config.seed)
        self.parts = Parts(config, self.store, reporter)
        self._selections: dict[str, Mapping[UnitId, Selection]] = {}

    def execute(self, until: str) -> RunResults | None:
        """Do the stages up to `until` while holding the folder's lock."""
        last = STAGES.index(until)
        with self.store.lock():
            try:
                self._check_names()
                self._write_config()
                self._timed("corpus", self.corpus_stage.prepare)
                if last >= STAGES.index("record"):
                    self._say_how_long()
                    self._timed("record", self.record)
                if last >= STAGES.index("explain"):
                    self._timed("explain", self.explain)
                if last >= STAGES.index("score"):
                    self._timed("score", self.score)
                if until != "report":
                    return None
                results = gather(self)
                self._timed("report", lambda: self.report(results))
                return results
            finally:
                self.store.close()

    def _check_names(self) -> None:
        """Refuse a wrong explainer, prompt or unit now, not after hours of recording."""
        from autointerp.llm.capabilities import Needs, check_needs

        self.parts.check_simulator()
        for explainer in self.parts.explainers:
            if explainer.needs_llm:
                needs = getattr(explainer, "needs", None) or Needs()
                check_needs(f"explainer {explainer.name!r}", needs, self.parts.client)
        check_judges(self)
        check_live(self)
        check_selections(self)
        check_cascade(self)
        check_stop(self)
        _ = self.parts.sources
        self._named(self.chosen or self.config.units.ids or ())

    def _timed(self, stage: str, work: Any) -> None:
        started = time.monotonic()
        work()
        self.seconds[stage] = round(time.monotonic() - started, 2)

    # ------------------------------------------------------------------ corpus

    @cached_property
    def corpus_stage(self) -> CorpusStage:
        """What fixes splits and sequences."""
        return CorpusStage(self.config, self.parts, self.store, self.reporter)

    @property
    def corpus_key(self) -> str:
        """Hash of the texts, the tokenizers and how they are cut, and of imported records."""
        return self.corpus_stage.key

    # ------------------------------------------------------------------ record

    def records_key(self, source: str) -> str:
        """Hash of everything the records of one source depend on."""
        if source in self.parts.imported:
            return content_key("records", imported=self.parts.imported[source].fingerprint())
        unit_source = self.parts.sources[source]
        return content_key(
            "records",
            subject=self.parts.subject(unit_source.subject).fingerprint,
            source=unit_source.fingerprint(),
            name=source,
            corpus=self.corpus_key,
            design=self.design.key(),
        )

    def record(self) -> None:
        """Record every source that has no records under its key yet."""
        for name, imported in self.parts.imported.items():
            if self.store.records_key(name) != self.records_key(name):
                self.store.write_records(name, self.records_key(name), imported.units)
        missing = [
            n for n in self.parts.sources if self.store.records_key(n) != self.records_key(n)
        ]
        sources = [self.parts.sources[name] for name in missing]
        for subject in sorted({source.subject for source in sources}):
            self._record_pass(subject, [s for s in sources if s.subject == subject])
        self._keep_output_sides()

    def _keep_output_sides(self) -> None:
        """What the units of every source write into the logits, beside their records."""
        from autointerp.written import keep_output_side

        for source in self.parts.sources.values():
            subject = self.parts.subject(source.subject)
            n_tokens = len(self.store.read_vocabulary(subject.tokenizer_name))
            keep_output_side(
                source, subject, self.store, self.config.record, n_tokens, self.reporter
            )

    def _record_pass(self, subject: str, sources: list["UnitSource"]) -> None:
        """One streaming pass over the corpus for all sources of one subject."""
        from autointerp.recording.first_use import try_dictionaries
        from autointerp.recording.memory import range_size
        from autointerp.recording.passes import record_corpus
        from autointerp.recording.windows import WindowTable

        assert self.config.corpus is not None
        tokenizer = self.parts.subject(subject).tokenizer_name
        sequences, _ = self.store.read_sequences(tokenizer)
        settings, record = self.config.corpus, self.config.record
        try_dictionaries(sources, self.parts.subject(subject), sequences, self.store, self.reporter)
        size = range_size(
            sources,
            self.design,
            record.batch_tokens,
            unit_range_size=record.unit_range_size,
            memory_gb=record.memory_gb,
        )
        finished = record_corpus(
            WindowTable.of(sequences, settings.window_length, settings.n_masked_start),
            self.store.read_vocabulary(tokenizer),
            self.parts.subject(subject),
            {self.records_key(source.name): source for source in sources},
            self.design,
            checkpoint=self.store.records_folder / ".recording",
            shard_tokens=record.shard_tokens,
            batch_tokens=record.batch_tokens,
            executor=EXECUTORS[self.config.executor](),
            reporter=self.reporter,
            unit_range_size=size,
        )
        for key, source, tables in finished:
            self.store.write_record_tables(source.name, key, tables)

    # ------------------------------------------------------------------ units

    @cached_property
    def summaries(self) -> dict[str, list[UnitSummary]]:
        """All recorded units of every source."""
        return {name: self.store.units(name) for name in self.config.sources}

    @cached_property
    def densities(self) -> dict[UnitId, float]:
        """Firing rate of every recorded unit in `explain`."""
        return {u.unit: u.density for units in self.summaries.values() for u in units}

    @cached_property
    def units(self) -> tuple[UnitId, ...]:
        """The units that are explained and scored."""
        if self.chosen:
            return self._existing(self.chosen)
        if not self.configured_units:
            raise AutointerpError(
                "no unit is active in enough `explain` documents "
                f"(units.min_active_documents: {self.config.units.min_active_documents}); record "
                "a larger corpus or lower it"
            )
        return self.configured_units

    @cached_property
    def configured_units(self) -> tuple[UnitId, ...]:
        """The units the config asks for: those it lists, or a stratified sample."""
        frame = self.config.units
        if frame.ids is not None:
            return self._existing(frame.ids)
        return tuple(
            unit
            for summaries in self.summaries.values()
            for unit in stratified_sample(
                summaries, frame.sample, frame.min_active_documents, self.config.seed
            )
        )

    def _named(self, names: Sequence[str]) -> tuple[UnitId, ...]:
        """Units by name, each once; one of an unknown source is refused."""
        units = tuple(dict.fromkeys(UnitId.parse(text) for text in names))
        for unit in units:
            if unit.source not in self.config.sources:
                known = ", ".join(self.config.sources)
                raise AutointerpError(f"unit {unit}: there is no source but {known}")
        return units

    def _existing(self, names: Sequence[str]) -> tuple[UnitId, ...]:
        """Units by name, each once; one that was not recorded is refused."""
        units = self._named(names)
        for unit in units:
            if unit not in self.densities:
                n = len(self.summaries[unit.source])
                raise AutointerpError(
                    f"unit {unit} does not exist: {unit.source} has {n} recorded units"
                )
        return units

    @cached_property
    def records(self) -> Mapping[UnitId, UnitRecord]:
        """Everything recorded of the chosen units, read when it is asked for."""
        return LazyRecords(self.store, self.units)

    @cached_property
    def maxima(self) -> dict[UnitId, float]:
        """Largest activation of every recorded unit in `explain`."""
        return {u.unit: u.maximum for units in self.summaries.values() for u in units}

    def is_dead(self, unit: UnitId) -> bool:
        """Whether a chosen unit never fired in `explain`."""
        return self.maxima[unit] <= 0

    # ------------------------------------------------------------------ explain

    def explanation_key(self, unit: UnitId, explainer: "Explainer") -> str:
        """Hash of everything an explanation depends on."""
        if isinstance(explainer, BestOf):
            return self.selections_of(explainer)[unit].key
        return content_key(
            "explanation",
            unit=str(unit),
            records=self.records_key(unit.source),
            explainer=explainer.fingerprint,
            name=explainer.name,
            llm=self.parts.client.fingerprint if explainer.needs_llm else None,
            seed=self.config.seed,
        )

    def explain(self) -> None:
        """Explain every living chosen unit with every explainer."""
        from autointerp.explainers import ExplainView
        from autointerp.llm import Request, drive

        owners = {
            key: (unit, explainer)
            for explainer in self.parts.explainers
            if not isinstance(explainer, BestOf)
            for unit in self.units
            if not self.is_dead(unit)
            and self._is_missing(key := self.explanation_key(unit, explainer))
        }
        jobs = (
            (key, explainer.explain(ExplainView.of(self.records[unit]), key))
            for key, (unit, explainer) in owners.items()
        )
        self.reporter.stage("explain", len(owners), "explanations")

        def done(_: str, explanation: Explanation) -> None:
            self.store.put_explanation(explanation)
            self.reporter.advance(1)

        def failed(key: str, error: AutointerpError) -> None:
            unit, explainer = owners[key]
            done(key, Explanation(unit, explainer.name, None, Status.FAILED, key, str(error)))

        asks = any(explainer.needs_llm for _, explainer in owners.values())
        handlers = {Request: self.parts.client.handler} if asks else {}
        handlers |= live_subject(self).handlers
        drive(jobs, handlers, done, failed, batch_size=self.parts.llm_batch)
        self._selections.clear()
        select(self)

    def selections_of(self, explainer: BestOf) -> Mapping[UnitId, Selection]:
        """What the best of several explanations is chosen among, once those are there."""
        if explainer.name not in self._selections:
            self._selections[explainer.name] = selections(self, explainer)
        return self._selections[explainer.name]

    def _is_missing(self, key: str) -> bool:
        return self.store.get_explanation(key) is None

    def explanations(self, explainer: "Explainer") -> dict[UnitId, Explanation]:
        """The stored explanations of the chosen living units by one explainer."""
        found: dict[UnitId, Explanation] = {}
        for unit in self.units:
            if not self.is_dead(unit):
                explanation = self.store.get_explanation(self.explanation_key(unit, explainer))
                if explanation is not None:
                    found[unit] = explanation
        return found

    # ------------------------------------------------------------------ score

    @cached_property
    def scorer(self) -> SimulationScorer:
        """The scorer of sources recorded here."""
        return self._scorer(self.design.name)

    def _scorer(self, design: str) -> SimulationScorer:
        return SimulationScorer(
            design,
            min_active_documents=self.config.score.min_active_documents,
            n_replicates=self.config.score.bootstrap,
            seed=self.config.seed,
            calibration=self.config.score.calibration,
            sample=self.config.score.windows,
        )

    def scorer_of(self, unit: UnitId) -> SimulationScorer:
        """The scorer of one unit: windows recorded elsewhere have a design of their own."""
        imported = isinstance(self.config.sources[unit.source], RecordedConfig)
        return self._scorer(IMPORTED_DESIGN) if imported else self.scorer

    def explained(self) -> Iterator[tuple[Explanation, tuple[Explanation, ...]]]:
        """Every explanation with its donors."""
        directions = self.directions()
        for explainer in self.parts.explainers:
            if isinstance(explainer, BestOf):
                for explanation in self.explanations(explainer).values():
                    yield explanation, donors_of(explanation)
                continue
            candidates = self._donor_candidates(explainer)
            donors = Donors(candidates, self.densities, directions)
            for explanation in self.explanations(explainer).values():
                yield explanation, donors.of(explanation, self.config.score.shuffled_donors)

    def living(self) -> Iterator[tuple[Explanation, tuple[Explanation, ...]]]:
        """Every chosen living unit with units to compare it with, each in an explanation's place.

        For scores of units themselves: the explanations are empty, by nobody, and their keys are of
        the records.
        """
        places = {
            unit: Explanation(
                unit,
                "",
                "",
                Status.OK,
                content_key("unit", unit=unit, records=self.records_key(unit.source)),
            )
            for unit in self.known_units()
            if not self.is_dead(unit)
        }
        donors = Donors(list(places.values()), self.densities, self.directions())
        for unit in self.units:
            if unit in places:
                yield places[unit], donors.of(places[unit], self.config.score.shuffled_donors)

    def simulated(self) -> Iterator[tuple[str, Explanation, tuple[Explanation, ...]]]:
        """Every explanation that is scored by simulation, with its score's key and its donors."""
        if not any(scorer.type == "simulation" for scorer in self.config.scorers):
            return
        for explanation, donors in self.explained():
            simulator = self.parts.simulator(explanation.explainer).fingerprint
            scorer = self.scorer_of(explanation.unit)
            controls = self.controls_of(explanation.explainer)
            key = score_key(scorer, explanation, donors, simulator, controls)
            yield key, explanation, donors

    def controls_of(self, explainer: str, *, judged: bool = False) -> tuple[str, ...]:
        """Controls that are scored beside an explainer's explanations.

        Tables and patterns are not read as words, and only simulations can be permuted.
        """
        wanted: tuple[str, ...] = self.config.control_names
        if judged:
            wanted = tuple(name for name in wanted if name in TEXT_CONTROLS)
        is_baseline = any(
            e.name == explainer and e.type in BASELINE_EXPLAINERS for e in self.config.explainers
        )
        return tuple(n for n in wanted if n in FREE_CONTROLS) if is_baseline else wanted

    def score_steps(self, job: ScoreJob) -> "Steps":
        """A score by simulation in the making, with its controls."""
        scorer = self.scorer_of(job.record.unit)
        # A control is a number without an interval of its own.
        plain = replace(scorer, calibration="none", n_replicates=2)
        kinds = self.controls_of(job.explanation.explainer)
        return score_with_controls(
            scorer.score, job, kinds, score_control=plain.score, seed=self.config.seed
        )

    def score_jobs(self) -> Iterator[ScoreJob]:
        """Every explanation that is scored by simulation, with all that its score needs."""
        for key, explanation, donors in self.simulated():
            yield self._score_job(key, explanation, donors)

    def _score_job(
        self, key: str, explanation: Explanation, donors: tuple[Explanation, ...]
    ) -> ScoreJob:
        simulator = self.parts.simulator(explanation.explainer)
        record = self.records[explanation.unit]
        return ScoreJob(record, explanation, donors, simulator.name, simulator.fingerprint, key)

    def _donor_candidates(self, explainer: "Explainer") -> list[Explanation]:
        """Stored explanations that may serve as controls.

        Those of the chosen units, and of the config's own where single units were asked for: one
        unit alone has nobody to be compared with.
        """
        keys = (self.explanation_key(unit, explainer) for unit in self.known_units())
        found = (self.store.get_explanation(key) for key in keys)
        known = [explanation for explanation in found if explanation is not None]
        if not isinstance(explainer, Labels):
            return known
        # A few labels have no others to be compared with: the rest of the units lend theirs.
        own = {one.unit for one in known if one.status is Status.OK}
        lent = next(
            (
                self._donor_candidates(e)
                for e, settings in zip(self.parts.explainers, self.config.explainers, strict=True)
                if not isinstance(e, Labels | BestOf) and settings.type not in BASELINE_EXPLAINERS
            ),
            [],
        )
        return [*(k for k in known if k.unit in own), *(e for e in lent if e.unit not in own)]

    def known_units(self) -> tuple[UnitId, ...]:
        """The chosen units and the config's own."""
        return tuple(dict.fromkeys((*self.units, *self.configured_units)))

    def directions(self) -> dict[UnitId, np.ndarray]:
        """What every chosen unit and possible donor writes, where that is known."""
        found: dict[UnitId, np.ndarray] = {}
        for name, source in self.parts.sources.items():
            units = [unit for unit in self.known_units() if unit.source == name]
            rows = source.write_directions([unit.index for unit in units])
            if rows is not None:
                for unit, row in zip(units, rows.float().cpu().numpy(), strict=True):
                    found[unit] = unit.polarity * row
        return found

    def score(self) -> None:
        """Score every explanation that has no score under its key yet, as far as it is wanted."""
        if self.config.cascade is not None:
            score_in_stages(self)
        elif self.config.score.stop is not None:
            score_until_known(self)
        else:
            judge(self)
            self.score_by_simulation()

    def score_by_simulation(self, wanted: Wanted = everything) -> None:
        """Score by simulation what is wanted."""
        from autointerp.llm import drive

        known = self.store.score_keys("simulation")
        missing = [e for e in self.simulated() if e[0] not in known and wanted(e[1])]
        self.reporter.stage("score", len(missing), "scores")

        def done(_: str, score: Score) -> None:
            self.store.put_score(score)
            self.reporter.advance(1)

        for simulator in self.parts.simulators.values():
            own = {
                key: (explanation, donors)
                for key, explanation, donors in missing
                if self.parts.simulator(explanation.explainer).name == simulator.name
            }

            def failed(
                key: str,
                error: AutointerpError,
                own: dict[str, Any] = own,
                simulator: Simulator = simulator,
            ) -> None:
                explanation, _ = own[key]
                scorer = self.scorer_of(explanation.unit)
                score = Score.failed(
                    explanation, scorer=scorer.name, simulator=simulator.name, key=key,
                    design=scorer.design, reason=str(error),
                )  # fmt: skip
                done(key, score)

            def simulate(
                requests: list[SimulationRequest], by: Simulator = simulator
            ) -> list[list[Simulation]]:
                return self.simulate(by, requests)

            # Windows are read when a job's turn comes: a dictionary's do not fit into memory.
            jobs = (
                (key, self.score_steps(self._score_job(key, *entry))) for key, entry in own.items()
            )
            drive(
                jobs,
                {SimulationRequest: simulate},
                done,
                failed,
                batch_size=self.simulation_batch(simulator),
            )

    def simulation_batch(self, simulator: Simulator) -> int:
        """Explanations simulated together: where they go into batches of a provider, all."""
        asks = isinstance(simulator, AskedSimulator)
        return max(_SIMULATION_BATCH, self.parts.llm_batch) if asks else _SIMULATION_BATCH

    def simulate(
        self, simulator: Simulator, requests: list[SimulationRequest]
    ) -> list[list[Simulation]]:
        """Answer requests from the store, after simulating and committing what it lacks."""
        keys = [simulation_key(request, simulator.fingerprint) for request in requests]
        missing = {
            key: request
            for key, request in zip(keys, requests, strict=True)
            if self.store.get_simulation(key) is None
        }
        # What a provider failed to answer is missing now, and asked for again another time.
        incomplete: dict[str, list[Simulation]] = {}
        if missing:
            pairs = [(request.explanation, request.sequences) for request in missing.values()]
            started = time.monotonic()
            answers = simulator.simulate_many(pairs)
            seconds = time.monotonic() - started
            asks = isinstance(simulator, AskedSimulator)
            unanswered = simulator.unanswered if asks else {}
            for place, (key, request) in enumerate(missing.items()):
                if place in unanswered:
                    incomplete[key] = answers[place]
                else:
                    self.store.put_simulation(
                        key, request.explanation, simulator.name, answers[place]
                    )
            count = getattr(simulator, "count_tokens", None)
            spent = Spending(
                "simulate",
                simulator.name,
                requests=len(missing),
                input_tokens=count(pairs) if count else 0,
                seconds=seconds,
            )
            # One that asks has every request of its own in the ledger already.
            if not asks:
                self.store.ledger.settle([], [spent])
        found = [incomplete.get(key) or self.store.get_simulation(key) for key in keys]
        return [parts for parts in found if parts is not None]

    # ------------------------------------------------------------------ report

    def report(self, results: RunResults) -> None:
        """Write tables, figures and the page."""
        from autointerp.outputs import write_outputs

        self.reporter.stage("report", 1, "page")
        folder = output_folder(self.config, self.chosen)
        folder.mkdir(parents=True, exist_ok=True)
        self.store.write_json("provenance.json", results.provenance)
        write_outputs(results, folder)
        self.reporter.advance(1)

    def _write_config(self) -> None:
        self.store.folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(
            self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        )
        write_text(self.store.folder / "config.yaml", text)

    def _say_how_long(self) -> None:
        """Time the subject for a second or two and say how long the rest will take."""
        seconds = estimate_seconds(self)
        if seconds is not None:
            self.reporter.note(
                f"this will take about {duration(seconds)} on this machine"
                if seconds > 5
                else "nothing long is left to do"
            )


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
