"""A run: its stages in order, what is done already, and how a killed run goes on.

    corpus ─► record ─► explain ─► score ─► report

Every result has a key, the hash of its inputs; a stage does what has no result under its key yet.
So running again continues, and a changed config recomputes what depends on the change.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from autointerp.analysis.results import RunResults
from autointerp.cascade import check_cascade, score_in_stages
from autointerp.config import RunConfig
from autointerp.corpus_stage import CorpusStage
from autointerp.estimate import duration, estimate_seconds
from autointerp.explain_stage import explain
from autointerp.explainers.best_of import BestOf
from autointerp.explainers.labels import with_labels
from autointerp.gathering import gather
from autointerp.judging import check_judges, check_live, judge
from autointerp.parts import Parts
from autointerp.progress import Reporter, Silent
from autointerp.record_stage import record
from autointerp.recording.design import SamplingDesign
from autointerp.records import AutointerpError, UnitId
from autointerp.run_units import RunUnits
from autointerp.selecting import Selection, check_selections, select, selections
from autointerp.simulation_stage import score_by_simulation
from autointerp.stopping import check_stop, score_until_known
from autointerp.store import RunStore, write_text

STAGES = ("corpus", "record", "explain", "score", "report")


def run(
    config: RunConfig,
    *,
    reporter: Reporter | None = None,
    until: str = "report",
    units: Sequence[UnitId | str] | None = None,
) -> RunResults | None:
    """Run all stages, or go on where an earlier call stopped.

    Args:
        config: what to do; its folder is `config.output`, or `results/NAME`.
        reporter: hears of stages and progress.
        until: the last stage to do, one of `STAGES`.
        units: these units (`UnitId`, or `source/index`) instead of the config's.

    Returns:
        The results, or `None` where an earlier stage was the last.

    Raises:
        AutointerpError: for what the user can mend; what was finished before stays.
    """
    if not isinstance(config, RunConfig):
        raise AutointerpError(
            f"{config!r:.80} is not a run's config: load it with autointerp.load_config first"
        )
    if until not in STAGES:
        raise AutointerpError(f"there is no stage {until!r}; stages are {', '.join(STAGES)}")
    return Run(config, reporter or Silent(), units).execute(until)


async def run_async(
    config: RunConfig,
    *,
    reporter: Reporter | None = None,
    until: str = "report",
    units: Sequence[UnitId | str] | None = None,
) -> RunResults | None:
    """As `run`, without blocking the event loop it is awaited in: it works in a thread."""
    return await asyncio.to_thread(run, config, reporter=reporter, until=until, units=units)


def run_folder(config: RunConfig) -> Path:
    """Where a config's run lies."""
    return Path(config.output or Path("results") / config.name)


def output_folder(config: RunConfig, units: Sequence[UnitId | str] | None) -> Path:
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

    def __init__(
        self, config: RunConfig, reporter: Reporter, units: Sequence[UnitId | str] | None
    ) -> None:
        config = with_labels(config, run_folder(config))
        self.config = config
        self.reporter = reporter
        self.store = RunStore(run_folder(config))
        self.seconds: dict[str, float] = {}
        window_length = config.corpus.window_length if config.corpus else 0
        self.design = SamplingDesign.of(config.record.design, window_length, config.seed)
        self.parts = Parts(config, self.store, reporter)
        self.units = RunUnits(config, self.parts, self.store, units)
        self._selections: dict[str, Mapping[UnitId, Selection]] = {}

    @cached_property
    def corpus_stage(self) -> CorpusStage:
        """What fixes splits and sequences."""
        return CorpusStage(self.config, self.parts, self.store, self.reporter)

    def selections_of(self, explainer: BestOf) -> Mapping[UnitId, Selection]:
        """What the best of several explanations is chosen among, once those are there."""
        if explainer.name not in self._selections:
            self._selections[explainer.name] = selections(self, explainer)
        return self._selections[explainer.name]

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
                    self._timed("record", lambda: record(self))
                if last >= STAGES.index("explain"):
                    self._timed("explain", self._explain)
                if last >= STAGES.index("score"):
                    self._timed("score", self._score)
                if until != "report":
                    return None
                results = gather(self)
                self._timed("report", lambda: self._report(results))
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
        self.units.check_names()

    def _timed(self, stage: str, work: Any) -> None:
        started = time.monotonic()
        work()
        self.seconds[stage] = round(time.monotonic() - started, 2)

    def _explain(self) -> None:
        """Explain every living chosen unit by every explainer, then choose among explanations."""
        explain(self)
        self._selections.clear()
        select(self)

    def _score(self) -> None:
        """Score every explanation that has no score under its key yet, as far as it is wanted."""
        if self.config.cascade is not None:
            score_in_stages(self)
        elif self.config.score.stop is not None:
            score_until_known(self)
        else:
            judge(self)
            score_by_simulation(self)

    def _report(self, results: RunResults) -> None:
        """Write tables, figures and the page."""
        from autointerp.outputs import write_outputs

        self.reporter.stage("report", 1, "page")
        folder = output_folder(self.config, self.units.names)
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
