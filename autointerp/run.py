"""A run: its stages in order, what is done already, and how a killed run goes on.

    corpus ─► record ─► explain ─► score ─► report

Every result has a key, the hash of its inputs; a stage does what has no result under its key yet.
So running again continues, and a changed config recomputes what depends on the change.
"""

import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from autointerp import resources
from autointerp.analysis.results import RunResults, UnitResult
from autointerp.config import NeuronsConfig, RecordedConfig, RunConfig, SaeConfig
from autointerp.executor import EXECUTORS
from autointerp.progress import Reporter, Silent
from autointerp.recording.design import SamplingDesign
from autointerp.records import (
    SCHEMA_VERSION,
    SPLITS,
    AutointerpError,
    Explanation,
    Score,
    Simulation,
    Split,
    Status,
    UnitId,
    UnitRecord,
    content_key,
    derived_seed,
)
from autointerp.scorers.simulation import (
    IMPORTED_DESIGN,
    ScoreJob,
    SimulationScorer,
    simulation_key,
)
from autointerp.selection import choose_donors, stratified_sample
from autointerp.simulators import SimulationRequest, Simulator, load_simulator
from autointerp.store import RunStore, UnitSummary, write_text

if TYPE_CHECKING:
    from autointerp.explainers import Explainer
    from autointerp.llm import CachedClient
    from autointerp.recording.corpus import Corpus
    from autointerp.recording.imported import Imported
    from autointerp.subject import Subject
    from autointerp.units import UnitSource

STAGES = ("corpus", "record", "explain", "score", "report")

_LLM_BATCH = 8
_SIMULATION_BATCH = 12
_BASELINE_EXPLAINERS = ("token_lookup",)
"""Explainer types that are controls rather than words."""


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


def run_folder(config: RunConfig) -> Path:
    """Where a config's run lies."""
    return Path(config.output or Path("results") / config.name)


def shipped_path(path: str, what: str) -> Path:
    """`demo` is the shipped thing; anything else is a path of the user's."""
    return resources.path(f"datasets/demo/{what}") if path == "demo" else Path(path)


class Run:
    """One execution of one config. `run()` is the way in."""

    def __init__(self, config: RunConfig, reporter: Reporter, units: Sequence[str] | None) -> None:
        self.config = config
        self.reporter = reporter
        self.chosen = units
        self.store = RunStore(run_folder(config))
        self.seconds: dict[str, float] = {}
        window_length = config.corpus.window_length if config.corpus else 0
        self.design = SamplingDesign.of(config.record.design, window_length, config.seed)
        self._subjects: dict[str, Subject] = {}
        self._simulators: dict[str, Simulator] = {}

    def execute(self, until: str) -> RunResults | None:
        """Do the stages up to `until` while holding the folder's lock."""
        last = STAGES.index(until)
        with self.store.lock():
            try:
                self._write_config()
                self._timed("corpus", self.prepare_corpus)
                if last >= STAGES.index("record"):
                    self._say_how_long()
                    self._timed("record", self.record)
                if last >= STAGES.index("explain"):
                    self._timed("explain", self.explain)
                if last >= STAGES.index("score"):
                    self._timed("score", self.score)
                if until != "report":
                    return None
                results = self.gather()
                self._timed("report", lambda: self.report(results))
                return results
            finally:
                self.store.close()

    def _timed(self, stage: str, work: Any) -> None:
        started = time.monotonic()
        work()
        self.seconds[stage] = round(time.monotonic() - started, 2)

    # ------------------------------------------------------------------ parts, made when needed

    def subject(self, name: str) -> "Subject":
        """The loaded subject called `name` in the config."""
        from autointerp.subject import load_subject

        if name not in self._subjects:
            settings = self.config.subjects[name]
            self._subjects[name] = load_subject(
                settings.model,
                device=settings.device,
                dtype=settings.dtype,
                trust_remote_code=settings.trust_remote_code,
            )
        return self._subjects[name]

    def _model(self, name: str) -> "Subject":
        """A language model that explains or simulates; a subject of the same name is shared."""
        from autointerp.subject import load_subject

        for subject_name, settings in self.config.subjects.items():
            if settings.model == name:
                return self.subject(subject_name)
        if name not in self._subjects:
            self._subjects[name] = load_subject(name)
        return self._subjects[name]

    @cached_property
    def sources(self) -> dict[str, "UnitSource"]:
        """The unit sources that are recorded from a subject."""
        from autointerp.units import Neurons, SaeLatents, load_sae

        made: dict[str, UnitSource] = {}
        for name, source in self.config.sources.items():
            if isinstance(source, NeuronsConfig):
                subject = self.subject(source.subject)
                made[name] = Neurons.of(name, source.subject, subject, source.hook_point)
            elif isinstance(source, SaeConfig):
                subject = self.subject(source.subject)
                sae = load_sae(shipped_path(source.path, "sae"))
                made[name] = SaeLatents.of(name, source.subject, subject, sae, source.hook_point)
        return made

    @cached_property
    def imported(self) -> dict[str, "Imported"]:
        """The unit sources that were recorded elsewhere."""
        from autointerp.recording.imported import import_records

        return {
            name: import_records(source.path, name)
            for name, source in self.config.sources.items()
            if isinstance(source, RecordedConfig)
        }

    @cached_property
    def corpus(self) -> "Corpus":
        """The documents of the config's corpus."""
        from autointerp.recording.corpus import read_corpus

        assert self.config.corpus is not None
        settings = self.config.corpus
        path = shipped_path(settings.path, "corpus.jsonl")
        return read_corpus(path, text_field=settings.text_field)

    @cached_property
    def client(self) -> "CachedClient":
        """The explainer's language model behind its cache."""
        from autointerp.llm import CachedClient, ResponseCache, load_client

        name = self.config.llm.model
        client = load_client(name, subject=self._model(name.removeprefix("local/")))

        def note(entry: Any) -> None:
            if not entry.from_cache:
                usage = entry.usage
                self.store.add_to_ledger(
                    purpose=entry.purpose,
                    model=entry.client,
                    requests=1,
                    input_tokens=usage.input_tokens,
                    cached_tokens=usage.cached_tokens,
                    output_tokens=usage.output_tokens,
                    seconds=0.0,
                )

        cache = ResponseCache(self.store.folder / "responses.sqlite")
        return CachedClient(client, cache, note)

    @cached_property
    def explainers(self) -> list["Explainer"]:
        """The explainers in config order."""
        from autointerp.explainers import load_explainer

        return [load_explainer(settings, self.config.seed) for settings in self.config.explainers]

    def simulator(self, explainer: str) -> Simulator:
        """Who simulates the explanations of one explainer: a token table is looked up."""
        kind = self._explainer_type(explainer)
        name = "token_lookup" if kind in _BASELINE_EXPLAINERS else self.config.simulator.name
        if name not in self._simulators:
            settings = self.config.simulator
            options = (
                {}
                if name == "token_lookup"
                else {
                    "subject": self._model(settings.model),
                    "prompt": settings.prompt,
                    "mass_floor": settings.mass_floor,
                }
            )
            self._simulators[name] = load_simulator(name, **options)
        return self._simulators[name]

    def _explainer_type(self, name: str) -> str:
        return next(e.type for e in self.config.explainers if e.name == name)

    # ------------------------------------------------------------------ corpus

    @cached_property
    def corpus_key(self) -> str:
        """Hash of the texts, the tokenizer and how they are cut, and of imported records."""
        if self.config.corpus is None:
            prints = {name: i.fingerprint() for name, i in self.imported.items()}
            return content_key("corpus", imported=prints)
        return content_key(
            "corpus",
            documents=self.corpus.fingerprint(),
            tokenizer=self._tokenizer_print(),
            settings=self.config.corpus.model_dump(exclude={"path", "text_field"}),
            imported={name: i.fingerprint() for name, i in self.imported.items()},
        )

    def _tokenizer_print(self) -> str:
        prints: dict[str, str] = {}
        for name in sorted({source.subject for source in self.sources.values()}):
            tokenizer = self.subject(name).tokenizer
            prints[name] = content_key("tokenizer", state=tokenizer.backend_tokenizer.to_str())
        if len(set(prints.values())) > 1:
            raise AutointerpError(
                f"the subjects {', '.join(prints)} have different tokenizers; give each a run of "
                "its own"
            )
        return next(iter(prints.values()), "")

    def prepare_corpus(self) -> None:
        """Fix splits and sequences, by text alone."""
        if self.store.corpus_key() == self.corpus_key:
            return
        sequences: list[Any] = []
        texts: dict[str, tuple[str, str, str]] = {}
        vocabulary: list[str] = []
        if self.config.corpus is not None:
            from autointerp.recording.corpus import sequences_of_corpus
            from autointerp.recording.corpus import vocabulary as token_texts

            settings = self.config.corpus
            tokenizer = self.subject(next(iter(self.sources.values())).subject).tokenizer
            sequences = sequences_of_corpus(
                self.corpus,
                tokenizer,
                length=settings.sequence_length,
                n_masked_start=settings.n_masked_start,
                min_length=settings.n_masked_start + settings.window_length,
                max_tokens=settings.max_tokens,
                max_tokens_per_document=settings.max_tokens_per_document,
            )
            self._check_corpus_size(sequences)
            texts = {d.document_id: (d.text, d.name, d.kind) for d in self.corpus.documents}
            vocabulary = token_texts(tokenizer)
            if self.corpus.n_duplicates:
                self.reporter.note(f"{self.corpus.n_duplicates} repeated documents were dropped")
        for name, imported in self.imported.items():
            offset = len(vocabulary)
            vocabulary += imported.vocabulary
            known = {sequence.sequence_id for sequence in sequences}
            for sequence in imported.sequences:
                if sequence.sequence_id not in known:
                    moved = {**vars(sequence), "token_ids": sequence.token_ids + offset}
                    sequences.append(type(sequence)(**moved))
            texts.update(imported.texts)
            if imported.rejected:
                self.reporter.note(
                    f"{name}: {len(imported.rejected)} rows refused; the first: "
                    f"{imported.rejected[0]}"
                )
        self.store.write_corpus(self.corpus_key, sequences, texts, vocabulary)

    def _check_corpus_size(self, sequences: list[Any]) -> None:
        """Refuse a corpus that cannot give the splits their documents, naming what is missing."""
        from autointerp.recording.corpus import documents_per_split

        have = documents_per_split(sequences)
        need = {
            Split.EXPLAIN: self.config.units.min_active_documents,
            Split.TEST: self.config.score.min_active_documents,
        }
        missing = [
            f"{split}: {n - have[split]} more documents ({have[split]} of {n})"
            for split, n in need.items()
            if have[split] < n
        ]
        if missing:
            shares = ", ".join(f"{split} {have[split]}" for split in SPLITS)
            raise AutointerpError(
                f"the corpus is too small for the sampling design; missing in {'; '.join(missing)}."
                f" Documents per split: {shares}. A document must hold at least one window of "
                f"{self.design.window_length} tokens; 40 % of documents go to explain and to test "
                "each: add documents, or lower units.min_active_documents and "
                "score.min_active_documents"
            )

    # ------------------------------------------------------------------ record

    def records_key(self, source: str) -> str:
        """Hash of everything the records of one source depend on."""
        if source in self.imported:
            return content_key("records", imported=self.imported[source].fingerprint())
        unit_source = self.sources[source]
        return content_key(
            "records",
            subject=self.subject(unit_source.subject).fingerprint,
            source=unit_source.fingerprint(),
            name=source,
            corpus=self.corpus_key,
            design=self.design.key(),
        )

    def record(self) -> None:
        """Record every source that has no records under its key yet."""
        for name, imported in self.imported.items():
            if self.store.records_key(name) != self.records_key(name):
                self.store.write_records(name, self.records_key(name), imported.units)
        missing = [n for n in self.sources if self.store.records_key(n) != self.records_key(n)]
        for subject in sorted({self.sources[name].subject for name in missing}):
            self._record_pass(
                subject, [self.sources[n] for n in missing if self.sources[n].subject == subject]
            )

    def _record_pass(self, subject: str, sources: list["UnitSource"]) -> None:
        """One streaming pass over the corpus for all sources of one subject."""
        from autointerp.recording.passes import record_corpus
        from autointerp.recording.recorder import WindowTable

        assert self.config.corpus is not None
        sequences, _ = self.store.read_sequences()
        settings = self.config.corpus
        finished = record_corpus(
            WindowTable.of(sequences, settings.window_length, settings.n_masked_start),
            self.store.read_vocabulary(),
            self.subject(subject),
            {self.records_key(source.name): source for source in sources},
            self.design,
            checkpoint=self.store.records_folder / ".recording",
            shard_tokens=self.config.record.shard_tokens,
            batch_tokens=self.config.record.batch_tokens,
            executor=EXECUTORS[self.config.executor](),
            reporter=self.reporter,
        )
        for key, source, units in finished:
            self.store.write_records(source.name, key, units)

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
        wanted = self.chosen or self.config.units.ids
        if wanted:
            units = tuple(dict.fromkeys(UnitId.parse(text) for text in wanted))
            for unit in units:
                if unit.source not in self.config.sources:
                    known = ", ".join(self.config.sources)
                    raise AutointerpError(f"unit {unit}: there is no source but {known}")
                if unit not in self.densities:
                    n = len(self.summaries[unit.source])
                    raise AutointerpError(
                        f"unit {unit} does not exist: {unit.source} has {n} recorded units"
                    )
            return units
        frame = self.config.units
        drawn = [
            unit
            for summaries in self.summaries.values()
            for unit in stratified_sample(
                summaries, frame.sample, frame.min_active_documents, self.config.seed
            )
        ]
        if not drawn:
            raise AutointerpError(
                "no unit is active in enough `explain` documents "
                f"(units.min_active_documents: {frame.min_active_documents}); record a larger "
                "corpus or lower it"
            )
        return tuple(drawn)

    @cached_property
    def records(self) -> dict[UnitId, UnitRecord]:
        """Everything recorded of the chosen units."""
        return dict(zip(self.units, self.store.read_units(self.units), strict=True))

    def _is_dead(self, unit: UnitId) -> bool:
        return self.records[unit].explain_maximum() <= 0

    # ------------------------------------------------------------------ explain

    def explanation_key(self, unit: UnitId, explainer: "Explainer") -> str:
        """Hash of everything an explanation depends on."""
        return content_key(
            "explanation",
            unit=str(unit),
            records=self.records_key(unit.source),
            explainer=explainer.fingerprint,
            name=explainer.name,
            llm=self.client.fingerprint if _needs_llm(explainer) else None,
            seed=self.config.seed,
        )

    def explain(self) -> None:
        """Explain every living chosen unit with every explainer."""
        from autointerp.explainers import ExplainView
        from autointerp.llm import Request, drive

        jobs = {
            key: explainer.explain(ExplainView.of(self.records[unit]), key)
            for explainer in self.explainers
            for unit in self.units
            if not self._is_dead(unit)
            and self._is_missing(key := self.explanation_key(unit, explainer))
        }
        owners = {
            self.explanation_key(unit, explainer): (unit, explainer.name)
            for explainer in self.explainers
            for unit in self.units
        }
        self.reporter.stage("explain", len(jobs), "explanations")

        def done(_: str, explanation: Explanation) -> None:
            self.store.put_explanation(explanation)
            self.reporter.advance(1)

        def failed(key: str, error: AutointerpError) -> None:
            unit, name = owners[key]
            done(key, Explanation(unit, name, None, Status.FAILED, key, str(error)))

        def complete(requests: list[Request]) -> Any:
            return self.client.complete(requests)

        drive(jobs, {Request: complete}, done, failed, batch_size=_LLM_BATCH)

    def _is_missing(self, key: str) -> bool:
        return self.store.get_explanation(key) is None

    def explanations(self, explainer: "Explainer") -> dict[UnitId, Explanation]:
        """The stored explanations of the chosen living units by one explainer."""
        found: dict[UnitId, Explanation] = {}
        for unit in self.units:
            if not self._is_dead(unit):
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
        )

    def scorer_of(self, unit: UnitId) -> SimulationScorer:
        """The scorer of one unit: windows recorded elsewhere have a design of their own."""
        imported = isinstance(self.config.sources[unit.source], RecordedConfig)
        return self._scorer(IMPORTED_DESIGN) if imported else self.scorer

    def score_jobs(self) -> Iterator[ScoreJob]:
        """Every explanation with its donors and the key of its score."""
        directions = self._directions()
        for explainer in self.explainers:
            explanations = self.explanations(explainer)
            simulator = self.simulator(explainer.name)
            for unit, explanation in explanations.items():
                donors = choose_donors(
                    explanation,
                    list(explanations.values()),
                    self.densities,
                    directions,
                    self.config.score.shuffled_donors,
                )
                key = content_key(
                    "score",
                    scorer=vars(self.scorer_of(unit)),
                    explanation=explanation.key,
                    donors=[donor.key for donor in donors],
                    simulator=simulator.fingerprint,
                )
                yield ScoreJob(
                    self.records[unit],
                    explanation,
                    donors,
                    simulator.name,
                    simulator.fingerprint,
                    key,
                )

    def _directions(self) -> dict[UnitId, np.ndarray]:
        """What every chosen unit writes, where that is known."""
        found: dict[UnitId, np.ndarray] = {}
        for name, source in self.sources.items():
            units = [unit for unit in self.units if unit.source == name]
            rows = source.write_directions([unit.index for unit in units])
            if rows is not None:
                for unit, row in zip(units, rows.float().cpu().numpy(), strict=True):
                    found[unit] = unit.polarity * row
        return found

    def score(self) -> None:
        """Score every explanation that has no score under its key yet."""
        from autointerp.llm import drive

        jobs = [job for job in self.score_jobs() if self.store.get_score(job.key) is None]
        self.reporter.stage("score", len(jobs), "scores")

        def done(_: str, score: Score) -> None:
            self.store.put_score(score)
            self.reporter.advance(1)

        for simulator in self._simulators.values():
            own = {job.key: job for job in jobs if job.simulator == simulator.name}

            def failed(key: str, error: AutointerpError, jobs: dict[str, ScoreJob] = own) -> None:
                job = jobs[key]
                done(key, _failed_score(job, self.scorer_of(job.record.unit), str(error)))

            def simulate(
                requests: list[SimulationRequest], by: Simulator = simulator
            ) -> list[list[Simulation]]:
                return self._simulate(by, requests)

            drive(
                {key: self.scorer_of(j.record.unit).score(j) for key, j in own.items()},
                {SimulationRequest: simulate},
                done,
                failed,
                batch_size=_SIMULATION_BATCH,
            )

    def _simulate(
        self, simulator: Simulator, requests: list[SimulationRequest]
    ) -> list[list[Simulation]]:
        """Answer requests from the store, after simulating and committing what it lacks."""
        keys = [simulation_key(request, simulator.fingerprint) for request in requests]
        missing = {
            key: request
            for key, request in zip(keys, requests, strict=True)
            if self.store.get_simulation(key) is None
        }
        if missing:
            pairs = [(request.explanation, request.sequences) for request in missing.values()]
            started = time.monotonic()
            answers = simulator.simulate_many(pairs)
            seconds = time.monotonic() - started
            for (key, request), answer in zip(missing.items(), answers, strict=True):
                self.store.put_simulation(key, request.explanation, simulator.name, answer)
            count = getattr(simulator, "count_tokens", None)
            self.store.add_to_ledger(
                purpose="simulate",
                model=simulator.name,
                requests=len(missing),
                input_tokens=count(pairs) if count else 0,
                cached_tokens=0,
                output_tokens=0,
                seconds=seconds,
            )
        found = [self.store.get_simulation(key) for key in keys]
        return [parts for parts in found if parts is not None]

    # ------------------------------------------------------------------ results

    def gather(self) -> RunResults:
        """Everything this config has results for."""
        scores: dict[UnitId, dict[str, Score]] = {unit: {} for unit in self.units}
        simulations: dict[UnitId, dict[str, tuple[Simulation, ...]]] = {u: {} for u in self.units}
        for job in self.score_jobs():
            score = self.store.get_score(job.key)
            if score is None:
                continue
            scores[job.record.unit][score.explainer] = score
            request = self.scorer_of(job.record.unit).requests(job)[0]
            parts = self.store.get_simulation(simulation_key(request, job.simulator_fingerprint))
            if parts is not None:
                simulations[job.record.unit][score.explainer] = tuple(parts)
        explanations: dict[UnitId, dict[str, Explanation]] = {unit: {} for unit in self.units}
        for explainer in self.explainers:
            for unit, explanation in self.explanations(explainer).items():
                explanations[unit][explainer.name] = explanation
        results = tuple(
            UnitResult(
                unit=unit,
                record=self.records[unit],
                density=self.densities[unit],
                explanations=explanations[unit],
                scores=scores[unit],
                scored_windows=self.scorer_of(unit).windows(self.records[unit]),
                simulations=simulations[unit],
                status=Status.DEAD if self._is_dead(unit) else Status.OK,
            )
            for unit in self.units
        )
        sequences, texts = self.store.read_sequences()
        frame = self.config.units.min_active_documents
        return RunResults(
            name=self.config.name,
            explainers=tuple(e.name for e in self.config.explainers),
            baseline_explainers=tuple(
                e.name for e in self.config.explainers if e.type in _BASELINE_EXPLAINERS
            ),
            sources=tuple(self.config.sources),
            units=results,
            recorded={
                name: {
                    "n_units": len(units),
                    "n_dead": sum(u.maximum <= 0 for u in units),
                    "n_too_rare": sum(u.maximum > 0 and u.active_documents < frame for u in units),
                }
                for name, units in self.summaries.items()
            },
            sequence_texts=texts,
            char_spans={s.sequence_id: (s.char_starts, s.char_ends) for s in sequences},
            provenance=self.provenance(),
            config=self.config.model_dump(mode="json"),
            ledger=tuple(self.store.ledger_totals()),
            seconds=dict(self.seconds),
        )

    def report(self, results: RunResults) -> None:
        """Write tables, figures and the page."""
        from autointerp.outputs import write_outputs

        self.reporter.stage("report", 1, "pages")
        self.store.write_json("provenance.json", results.provenance)
        write_outputs(results, self.store.folder)
        self.reporter.advance(1)

    # ------------------------------------------------------------------ facts

    def provenance(self) -> dict[str, Any]:
        """Versions, hashes and seeds: what one needs to trace or repeat a score."""
        names = ("autointerp", "torch", "transformers", "numpy", "scipy", "pyarrow", "tokenizers")
        return {
            "schema_version": SCHEMA_VERSION,
            "seed": self.config.seed,
            "subjects": {
                name: {"model": subject.name, "fingerprint": subject.fingerprint}
                for name, subject in self._subjects.items()
            },
            "sources": {
                name: {
                    "records_key": self.records_key(name),
                    **(
                        {"fingerprint": self.sources[name].fingerprint()}
                        if name in self.sources
                        else {"file": str(getattr(settings, "path", ""))}
                    ),
                }
                for name, settings in self.config.sources.items()
            },
            "corpus_key": self.corpus_key,
            "corpus_fingerprint": self.corpus.fingerprint() if self.config.corpus else None,
            "design": {"name": self.design.name, "key": self.design.key()},
            "explainers": {e.name: e.fingerprint for e in self.explainers},
            "llm": self.client.fingerprint if any(_needs_llm(e) for e in self.explainers) else None,
            "simulators": {s.name: s.fingerprint for s in self._simulators.values()},
            "bootstrap_seed": derived_seed(self.config.seed, "bootstrap"),
            "versions": {name: _version(name) for name in names},
            "python": sys.version.split()[0],
            "platform": platform.platform(),
        }

    def _write_config(self) -> None:
        self.store.folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(
            self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        )
        write_text(self.store.folder / "config.yaml", text)

    def _say_how_long(self) -> None:
        """Time the subject for a second or two and say how long the rest will take."""
        seconds = self._estimate_seconds()
        if seconds is not None:
            self.reporter.note(
                f"this will take about {_duration(seconds)} on this machine"
                if seconds > 5
                else "nothing long is left to do"
            )

    def _estimate_seconds(self) -> float | None:
        """Seconds the missing work will take, from a timed forward pass; `None` without a subject.

        Tokens through the whole model are what costs; a truncated pass counts by its share of
        blocks. Later stages are estimated from the config, before their inputs exist.
        """
        if not self.sources or self.config.corpus is None:
            return None
        import torch

        source = next(iter(self.sources.values()))
        subject = self.subject(source.subject)
        tokens = torch.zeros((8, 128), dtype=torch.long)
        hook = subject.hook(source.read_at)
        blocks = (hook.block if hook.block is not None else subject.n_blocks - 1) + 1
        subject.run(tokens[:1], [source.read_at])
        started = time.monotonic()
        subject.run(tokens, [source.read_at])
        per_block_token = (time.monotonic() - started) / tokens.numel() / blocks
        full = per_block_token * subject.n_blocks
        seconds = 0.0
        if any(self.store.records_key(n) != self.records_key(n) for n in self.sources):
            sequences, _ = self.store.read_sequences()
            seconds += sum(len(s.token_ids) for s in sequences) * per_block_token * blocks * 1.25
        n_units = (self.config.units.sample or 0) * len(self.config.sources)
        if self.chosen or self.config.units.ids:
            n_units = len(self.chosen or self.config.units.ids or ())
        missing = max(0, n_units * len(self.config.explainers) - sum(
            self.store.count("scores").values()
        ))  # fmt: skip
        share = missing / max(1, n_units * len(self.config.explainers))
        quota = self.design.quotas[Split.TEST]
        windows = quota.total - quota.random
        in_words = sum(e.type not in _BASELINE_EXPLAINERS for e in self.config.explainers)
        asked = sum(e.type == "token_activation_pairs" for e in self.config.explainers)
        per_text = windows * (self.design.window_length * 3 + 12)
        read = n_units * in_words * (1 + self.config.score.shuffled_donors) * per_text
        read += n_units * asked * 1500
        return seconds + share * read * full * 1.1 + 5


def _failed_score(job: ScoreJob, scorer: SimulationScorer, reason: str) -> Score:
    return Score(
        unit=job.record.unit,
        explanation_key=job.explanation.key,
        explainer=job.explanation.explainer,
        scorer=scorer.name,
        simulator=job.simulator,
        value=None,
        status=Status.FAILED,
        key=job.key,
        design=scorer.design,
        reason=reason,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


@dataclass(frozen=True)
class RunStatus:
    """How far a run is, read from its folder."""

    folder: Path
    recorded: dict[str, bool]
    explanations: dict[str, int]
    """Stored explanations per status, of all configs this folder has seen."""
    scores: dict[str, int]
    held_by: str | None
    finished: bool
    """Whether the page of results is there."""


def run_status(folder: str | Path) -> RunStatus:
    """How far a run is. Never waits for its lock and writes nothing.

    Raises:
        AutointerpError: where the folder holds no run.
    """
    place = Path(folder)
    if not (place / "config.yaml").exists():
        raise AutointerpError(f"{str(folder)!r} holds no run: there is no config.yaml in it")
    store = RunStore(place)
    names = (yaml.safe_load((place / "config.yaml").read_text()) or {}).get("sources", {})
    held = store.lock().holder()
    try:
        return RunStatus(
            place,
            {name: store.records_key(name) is not None for name in names},
            store.count("explanations"),
            store.count("scores"),
            held,
            (place / "report.html").exists(),
        )
    finally:
        store.close()


def start_from_records(file: Path, folder: Path) -> tuple["Imported", Path]:
    """Check a file of recorded units and write a config that explains and scores them.

    Returns:
        What the file holds, and the path of the config.

    Raises:
        AutointerpError: where nothing in the file can be used.
    """
    from autointerp.recording.imported import import_records

    found = import_records(file)
    config = {
        "name": folder.name,
        "output": str(folder),
        "sources": {"recorded": {"type": "recorded", "path": str(file.resolve())}},
        "units": {"sample": None, "min_active_documents": 1},
        "explainers": [
            {"name": "top_tokens", "type": "top_tokens"},
            {"name": "token_lookup", "type": "token_lookup"},
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "import.yaml"
    header = "# Explain and score recorded units. Add explainers as you like; see the README.\n"
    write_text(path, header + yaml.safe_dump(config, sort_keys=False))
    return found, path


def _needs_llm(explainer: "Explainer") -> bool:
    return getattr(explainer, "needs_llm", True)
