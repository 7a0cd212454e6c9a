"""Recomputes what a run's folder claims, without a model: nothing is asked, nothing is changed.

Two things are checked. **Scores**: every score is computed again from the stored activations and
the stored simulations (or the kept answers of a judge) and compared number by number. **Links**:
every key is the hash of what it was made from, so the keys of the corpus, records, explanations and
scores are hashed again from the facts in `provenance.json`.

    model, corpus, dictionary, design ─► records ─► explanation ─┐
                        donors' explanations, simulator, scorer ─┴► score
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from autointerp.config import RunConfig, load_config
from autointerp.judging import judged_controls, judged_key, judged_steps, judges, others_of
from autointerp.progress import Silent
from autointerp.records import (
    AutointerpError,
    Explanation,
    Score,
    Status,
    UnitId,
    UnitRecord,
    content_key,
)
from autointerp.runner import Run, score_key
from autointerp.scorers import ScoreJob, load_scorer
from autointerp.scorers.simulation import IMPORTED_DESIGN, SimulationScorer, simulation_key
from autointerp.simulators import SimulationRequest
from autointerp.store import RunStore

TOLERANCE = 1e-9
"""Numbers are compared exactly; what is less than this apart is reported, but is no difference:
another machine may add in another order."""


@dataclass(frozen=True)
class Difference:
    """Something that is not as the folder says."""

    unit: str
    explainer: str
    scorer: str
    field: str
    """Which number or fact, such as `value` or `lift_interval.low`."""
    stored: Any
    found: Any
    size: float | None
    """|stored − found|; `None` where they are no numbers."""


@dataclass
class Verification:
    """What came of checking a run."""

    run: str
    n_recomputed: int = 0
    n_differing: int = 0
    """Scores with a difference."""
    max_difference: float = 0.0
    """Largest |stored − found| of all numbers, those within the tolerance too."""
    differences: list[Difference] = field(default_factory=list[Difference])
    broken_links: list[str] = field(default_factory=list[str])
    """Keys that are not the hash of what they should be made from, in words."""
    not_recomputed: Counter[str] = field(default_factory=Counter[str])
    """Why → scores that could not be computed again."""

    @property
    def is_exact(self) -> bool:
        """Whether everything that could be computed again is as stored."""
        return not self.differences and not self.broken_links

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        found = asdict(self)
        return found | {"not_recomputed": dict(self.not_recomputed), "is_exact": self.is_exact}


class CannotRecomputeError(Exception):
    """This score cannot be computed again: says why, for a count."""


def verify_run(folder: str | Path, tolerance: float = TOLERANCE) -> Verification:
    """Recompute all scores of a run from what is stored, and hash its keys again.

    Args:
        folder: of a finished run.
        tolerance: differences up to this are none.

    Raises:
        AutointerpError: where the folder holds no finished run, or its files cannot be read.
    """
    stored = StoredRun(folder)
    try:
        found = Verification(stored.config.name, broken_links=stored.broken_links())
        for unit, scores in _by_unit(stored.store.scores()):
            record: UnitRecord | None = None
            for score in scores:
                try:
                    if record is None:
                        record = stored.record(unit)
                    again = stored.recompute(score, record)
                except CannotRecomputeError as why:
                    found.not_recomputed[str(why)] += 1
                    continue
                _compare(found, score, again, tolerance)
        return found
    finally:
        stored.store.close()


def _compare(found: Verification, score: Score, again: Score, tolerance: float) -> None:
    found.n_recomputed += 1
    old, new = _flat(asdict(score)), _flat(asdict(again))
    rows: list[Difference] = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        size = _distance(a, b)
        if size is not None:
            found.max_difference = max(found.max_difference, size)
        if a != b and (size is None or size > tolerance):
            rows.append(
                Difference(str(score.unit), score.explainer, score.scorer, name, a, b, size)
            )
    found.differences += rows
    found.n_differing += bool(rows)


def _distance(a: Any, b: Any) -> float | None:
    numbers = (int, float)
    if isinstance(a, bool) or isinstance(b, bool):
        return None
    if not isinstance(a, numbers) or not isinstance(b, numbers):
        return None
    size = abs(a - b)
    return size if math.isfinite(size) else None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` → `{"a.b": 1}`; whatever JSON would make of a value."""
    if isinstance(value, Mapping):
        items = [(str(k), v) for k, v in cast("Mapping[Any, Any]", value).items()]
    elif isinstance(value, list | tuple):
        items = [(str(i), v) for i, v in enumerate(cast("Sequence[Any]", value))]
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, part in items:
        found |= _flat(part, f"{name}.{key}" if name else key)
    return found


def _by_unit(scores: Iterator[Score]) -> Iterator[tuple[UnitId, list[Score]]]:
    group: list[Score] = []
    for score in scores:
        if group and group[0].unit != score.unit:
            yield group[0].unit, group
            group = []
        group.append(score)
    if group:
        yield group[0].unit, group


class StoredRun:
    """A finished run, read without its models."""

    def __init__(self, folder: str | Path) -> None:
        """Open it.

        Raises:
            AutointerpError: where the folder holds no finished run.
        """
        place = Path(folder)
        if not (place / "config.yaml").exists():
            raise AutointerpError(f"{str(folder)!r} holds no run: there is no config.yaml in it")
        config = load_config(place / "config.yaml", RunConfig)
        self.config = config.model_copy(update={"output": str(place)})
        self.store = RunStore(place)
        facts = self.store.read_json("provenance.json")
        if facts is None or not (place / "results.sqlite").exists():
            raise AutointerpError(
                f"{str(folder)!r} is not finished: it has no provenance.json or results.sqlite; "
                "run it to its end first"
            )
        self.facts: dict[str, Any] = facts
        self.run = Run(self.config, Silent(), None)
        self._rates: dict[str, dict[UnitId, float]] = {}

    # ------------------------------------------------------------------ links

    def broken_links(self) -> list[str]:
        """Keys of corpus and records that are not the hash of what the folder says of them."""
        broken: list[str] = []
        corpus = self.facts.get("corpus_key")
        if self.config.corpus is not None and self.store.corpus_key() != corpus:
            broken.append(
                f"corpus.parquet has the key {self.store.corpus_key()}, provenance.json {corpus}"
            )
        if self.run.design.key() != self._design_key:
            broken.append("the sampling design of config.yaml is not the one in provenance.json")
        for name in self.config.sources:
            says, hashed = self.records_key(name), self.records_hash(name)
            if says != hashed:
                broken.append(
                    f"{name}: its records' key {says} is not the hash {hashed} of subject, "
                    "source, corpus and design"
                )
            if self.store.records_key(name) != says:
                broken.append(
                    f"{name}: records/{name}.parquet has the key {self.store.records_key(name)}, "
                    f"provenance.json {says}"
                )
        return broken

    @property
    def _design_key(self) -> str | None:
        return (self.facts.get("design") or {}).get("key")

    def records_key(self, source: str) -> str | None:
        """The key that `provenance.json` gives for a source's records."""
        return self.facts["sources"].get(source, {}).get("records_key")

    def records_hash(self, source: str) -> str:
        """That key, hashed again from the facts it stands for."""
        facts = self.facts["sources"].get(source, {})
        settings = self.config.sources[source]
        if settings.type == "recorded":
            return content_key("records", imported=facts.get("fingerprint"))
        return content_key(
            "records",
            subject=self.facts["subjects"].get(settings.subject, {}).get("fingerprint"),
            source=facts.get("fingerprint"),
            name=source,
            corpus=self.facts.get("corpus_key"),
            design=self._design_key,
        )

    def explanation_link(self, explanation: Explanation) -> str | None:
        """Who made an explanation: a language model's fingerprint, "" for none.

        Returns:
            `None` where its key is not the hash of these records, this explainer and this seed: it
            is of an earlier state of the run.
        """
        fingerprint = self.facts["explainers"].get(explanation.explainer)
        for llm in dict.fromkeys((None, self.facts.get("llm"))):
            key = content_key(
                "explanation",
                unit=str(explanation.unit),
                records=self.records_key(explanation.unit.source),
                explainer=fingerprint,
                name=explanation.explainer,
                llm=llm,
                seed=self.config.seed,
            )
            if key == explanation.key:
                return llm or ""
        return None

    def rate_ratio(self, unit: UnitId, donor: UnitId | None) -> float | None:
        """Firing rate of a donor, divided by the unit's own; both of `explain`."""
        own = self._densities(unit.source).get(unit)
        other = self._densities(donor.source).get(donor) if donor else None
        return other / own if own and other is not None else None

    def _densities(self, source: str) -> dict[UnitId, float]:
        if source not in self._rates:
            self._rates[source] = {u.unit: u.density for u in self.store.units(source)}
        return self._rates[source]

    def explainer_today(self, name: str) -> str | None:
        """The fingerprint that the present code and prompts give an explainer."""
        from autointerp.explainers import load_explainer

        settings = next((e for e in self.config.explainers if e.name == name), None)
        return load_explainer(settings, self.config.seed).fingerprint if settings else None

    # ------------------------------------------------------------------ scores

    def simulation_scorer(self, unit: UnitId) -> SimulationScorer:
        """What scored a unit by simulation."""
        return self.run.scorer_of(unit)

    def record(self, unit: UnitId) -> UnitRecord:
        """The stored record of a unit."""
        if unit.source not in self.config.sources:
            raise CannotRecomputeError("of a source that the config no longer has")
        try:
            return next(iter(self.store.read_units([unit])))
        except AutointerpError:
            raise CannotRecomputeError("of a unit that is no longer recorded") from None

    def recompute(self, score: Score, record: UnitRecord) -> Score:
        """A score, computed again from what is stored."""
        if score.status == Status.FAILED:
            raise CannotRecomputeError("failed: there is nothing to compute them from")
        if not score.explainer:
            raise CannotRecomputeError("of a unit itself, without an explanation")
        own = self.store.get_explanation(score.explanation_key)
        if own is None or self.explanation_link(own) is None:
            raise CannotRecomputeError("of an earlier state of this run")
        donors = tuple(self._donors(score))
        if score.scorer in ("simulation", "audit"):
            return self._simulated(score, record, own, donors)
        return self._judged(score, record, own, donors)

    def _donors(self, score: Score) -> Iterator[Explanation]:
        for control in score.controls:
            if control.name == "shuffled":
                donor = self.store.get_explanation(control.explanation_key)
                if donor is None:
                    raise CannotRecomputeError("of donors whose explanations are gone")
                yield donor

    def _simulated(
        self, score: Score, record: UnitRecord, own: Explanation, donors: tuple[Explanation, ...]
    ) -> Score:
        fingerprint = self.facts["simulators"].get(score.simulator)
        if fingerprint is None:
            raise CannotRecomputeError("of a simulator that the config no longer has")
        scorer = self.run.scorer_of(score.unit)
        controls = self.run.controls_of(score.explainer)
        if score.scorer == "audit":
            controls = ()
            scorer = replace(scorer, split=score.split, name="audit", calibration="none")
        # A score that is missing names no donors, so its key cannot be hashed again.
        key = score_key(scorer, own, donors, fingerprint, controls)
        if score.controls and key != score.key:
            raise CannotRecomputeError("of an earlier state of this run")
        job = ScoreJob(record, own, donors, score.simulator, fingerprint, score.key)
        steps = self.run.score_steps(job) if score.scorer == "simulation" else scorer.score(job)
        return from_store(steps, lambda r: self.simulation(r, fingerprint))

    def simulation(self, request: SimulationRequest, fingerprint: str) -> Any:
        """The stored answer of a simulator.

        Raises:
            CannotRecomputeError: where there is none.
        """
        parts = self.store.get_simulation(simulation_key(request, fingerprint))
        if parts is None:
            raise CannotRecomputeError("of simulations that are not stored")
        return parts

    def _judged(
        self, score: Score, record: UnitRecord, own: Explanation, donors: tuple[Explanation, ...]
    ) -> Score:
        from autointerp.llm.repair import repairing

        settings = next((s for s in judges(self.run) if s.name == score.scorer), None)
        llm = self.facts.get("llm")
        if settings is None or llm is None:
            raise CannotRecomputeError("of a scorer that the config no longer has")
        imported = self.config.sources[score.unit.source].type == "recorded"
        design = IMPORTED_DESIGN if imported else self.run.design.name
        scorer = load_scorer(settings, self.config.score, design, self.config.seed)
        controls = judged_controls(self.run, scorer, score.explainer)
        if score.controls and judged_key(scorer, own, donors, llm, controls) != score.key:
            raise CannotRecomputeError("of an earlier state of this run")
        others = others_of(scorer, donors, {d.unit: self.record(d.unit) for d in donors})
        job = ScoreJob(record, own, donors, score.simulator, llm, score.key, others)
        return from_store(
            repairing(judged_steps(self.run, scorer, job)), lambda r: self.answer(r, llm)
        )

    def answer(self, request: Any, llm: str) -> Any:
        """The kept answer of a language model.

        Raises:
            CannotRecomputeError: where there is none.
        """
        from autointerp.llm.base import Request, request_key

        if not isinstance(request, Request):
            raise CannotRecomputeError("of texts that the subject ran, which are not kept")
        if self._cache is None:
            raise CannotRecomputeError("of a judge whose answers are not kept")
        answer = self._cache.get(request_key(cast(Any, _Fingerprint(llm)), request))
        if answer is None:
            raise CannotRecomputeError("of a judge whose answers are not kept")
        return answer

    @cached_property
    def _cache(self) -> Any:
        from autointerp.llm.cache import open_cache

        setting = self.config.llm.cache
        folder = self.store.folder.absolute().parent
        try:
            return open_cache("read_only" if setting == "shared" else setting, folder)
        except AutointerpError:
            return None


@dataclass(frozen=True)
class _Fingerprint:
    """All that the key of a request takes from a client."""

    fingerprint: str


def from_store(steps: Any, answer: Any) -> Any:
    """What steps return, with answers that are looked up."""
    answers: list[Any] | None = None
    while True:
        try:
            requests = next(steps) if answers is None else steps.send(answers)
        except StopIteration as end:
            return end.value
        answers = [answer(request) for request in requests]
