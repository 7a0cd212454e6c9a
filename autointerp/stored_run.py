"""A finished run, read without its models: what was asked and answered is looked up."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from autointerp.audit import audit_scorer
from autointerp.config import RunConfig, load_config
from autointerp.explainers.best_of import BestOf
from autointerp.judging import (
    asks_llm,
    judged_controls,
    judged_key,
    judged_steps,
    judges,
    others_of,
)
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
from autointerp.runner import Run
from autointerp.scorers import JudgedScorer, ScoreJob, load_scorer
from autointerp.scorers.simulation import IMPORTED_DESIGN, SimulationScorer, simulation_key
from autointerp.selection import NEAR_COPY_COSINE, Donors
from autointerp.simulation_stage import controls_of, score_key, score_steps, scorer_of
from autointerp.simulators import SimulationRequest
from autointerp.store import RunStore, config_file
from autointerp.store.files import file_key
from autointerp.stored_choices import choice_is_keyed, chosen_donors


class CannotRecomputeError(Exception):
    """This score cannot be computed again: says why, for a count."""


class StoredRun:
    """A finished run, read without its models."""

    def __init__(self, folder: str | Path) -> None:
        """Open it.

        Raises:
            AutointerpError: where the folder holds no finished run.
        """
        place = Path(folder)
        config = load_config(config_file(place), RunConfig)
        self.config = config.model_copy(update={"output": str(place)})
        self.store = RunStore(place, read_only=True)
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
        if self.config.corpus is not None:
            corpus = self.facts.get("corpus_key")
            broken += self._other_keys(self.store.corpus_files(), corpus)
        if self.run.design.key() != self._design_key:
            broken.append("the sampling design of config.yaml is not the one in provenance.json")
        for name in self.config.sources:
            says, hashed = self.records_key(name), self.records_hash(name)
            if says != hashed:
                broken.append(
                    f"{name}: its records' key {says} is not the hash {hashed} of subject, "
                    "source, corpus and design"
                )
            files = self.store.records_files(name)
            broken += (f"{name}: {told}" for told in self._other_keys(files, says))
        return broken

    def _other_keys(self, files: Iterable[Path], says: str | None) -> Iterator[str]:
        """Files that are missing, or have another key than `provenance.json` says, in words."""
        for path in files:
            name, key = path.relative_to(self.store.folder), file_key(path)
            if key is None:
                yield f"{name} is missing: run again, which makes it anew"
            elif key != says:
                yield f"{name} has the key {key}, provenance.json {says}"

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
        chooser = self.choosers.get(explanation.explainer)
        if chooser is not None:
            return "" if choice_is_keyed(self, explanation, chooser) else None
        keys = self._explanation_keys(explanation.unit, explanation.explainer)
        return next((llm for llm, key in keys.items() if key == explanation.key), None)

    def _explanation_keys(self, unit: UnitId, explainer: str) -> dict[str, str]:
        """Who was asked, "" for nobody → the key of an explanation that was made so."""
        return {
            llm or "": content_key(
                "explanation",
                unit=str(unit),
                records=self.records_key(unit.source),
                explainer=self.facts["explainers"].get(explainer),
                name=explainer,
                llm=llm,
                seed=self.config.seed,
            )
            for llm in dict.fromkeys((None, self.facts.get("llm")))
        }

    def explanation_of(self, unit: UnitId, explainer: str) -> Explanation | None:
        """The stored explanation of a unit by an explainer that chooses nothing."""
        keys = self._explanation_keys(unit, explainer).values()
        found = (self.store.get_explanation(key) for key in keys)
        return next((one for one in found if one is not None), None)

    @cached_property
    def choosers(self) -> dict[str, BestOf]:
        """The explainers that choose among the words of others."""
        from autointerp.explainers import load_explainer

        made = (
            load_explainer(settings, self.config.seed)
            for settings in self.config.explainers
            if settings.type == "best_of"
        )
        return {one.name: one for one in made if isinstance(one, BestOf)}

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
        return scorer_of(self.run, unit)

    def record(self, unit: UnitId) -> UnitRecord:
        """The stored record of a unit.

        Raises:
            CannotRecomputeError: where the run has none.
            AutointerpError: naming the file that is missing or damaged.
        """
        if unit.source not in self.config.sources:
            raise CannotRecomputeError("of a source that the config no longer has")
        if unit not in self._densities(unit.source):
            raise CannotRecomputeError("of a unit that is no longer recorded")
        return next(iter(self.store.read_units([unit])))

    def recompute(self, score: Score, record: UnitRecord) -> Score:
        """A score, computed again from what is stored."""
        if score.status == Status.FAILED:
            raise CannotRecomputeError("failed: there is nothing to compute them from")
        if score.n_failed_requests:
            raise self.incomplete()
        if not score.explainer:
            return self._of_unit(score, record)
        own = self.store.get_explanation(score.explanation_key)
        if own is None or self.explanation_link(own) is None:
            raise CannotRecomputeError("of an earlier state of this run")
        donors = tuple(self._donors(score, own))
        if score.scorer in ("simulation", "audit"):
            return self._simulated(score, record, own, donors)
        return self._judged(score, record, own, donors)

    def incomplete(self) -> CannotRecomputeError:
        """Why what lacks the answers of failed requests is not computed again, and the remedy."""
        return CannotRecomputeError(
            "incomplete: requests failed, and what they left out is not stored; "
            f"`autointerp retry {self.store.folder} --failed` asks for it again"
        )

    def _donors(self, score: Score, own: Explanation) -> Iterator[Explanation]:
        chosen = chosen_donors(own) if own.explainer in self.choosers else {}
        for control in score.controls:
            if control.name == "shuffled":
                key = control.explanation_key
                donor = chosen.get(key) or self.store.get_explanation(key)
                if donor is None:
                    raise CannotRecomputeError("of donors whose explanations are gone")
                yield donor

    def _simulated(
        self, score: Score, record: UnitRecord, own: Explanation, donors: tuple[Explanation, ...]
    ) -> Score:
        fingerprint = self.facts["simulators"].get(score.simulator)
        if fingerprint is None:
            raise CannotRecomputeError("of a simulator that the config no longer has")
        scorer = scorer_of(self.run, score.unit)
        controls = controls_of(self.config, score.explainer)
        if score.scorer == "audit":
            controls = ()
            scorer = audit_scorer(self.run, score.unit)
        # A score that is missing names no donors, so its key cannot be hashed again.
        key = score_key(scorer, own, donors, fingerprint, controls)
        if score.controls and key != score.key:
            raise CannotRecomputeError("of an earlier state of this run")
        job = ScoreJob(record, own, donors, score.simulator, fingerprint, score.key)
        steps = score_steps(self.run, job) if score.scorer == "simulation" else scorer.score(job)
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
        scorer, llm = self._judge(score)
        controls = judged_controls(self.run, scorer, score.explainer)
        if score.controls and judged_key(scorer, own, donors, llm, controls) != score.key:
            raise CannotRecomputeError("of an earlier state of this run")
        return self._asked(score, record, own, donors)

    def _judge(self, score: Score) -> tuple[JudgedScorer, str]:
        """The scorer of a score, and the fingerprint of the language model it asks."""
        settings = next((s for s in judges(self.run) if s.name == score.scorer), None)
        if settings is None:
            raise CannotRecomputeError("of a scorer that the config no longer has")
        if not asks_llm(settings):
            raise CannotRecomputeError("of measurements by a model, which are not kept")
        llm = self.facts.get("llm")
        if llm is None:
            raise CannotRecomputeError("of a scorer that the config no longer has")
        imported = self.config.sources[score.unit.source].type == "recorded"
        design = IMPORTED_DESIGN if imported else self.run.design.name
        return load_scorer(settings, self.config.score, design, self.config.seed), llm

    def _asked(
        self, score: Score, record: UnitRecord, own: Explanation, donors: tuple[Explanation, ...]
    ) -> Score:
        """A judge's score from the kept answers."""
        scorer, llm = self._judge(score)
        others = others_of(scorer, donors, {d.unit: self.record(d.unit) for d in donors})
        job = ScoreJob(record, own, donors, score.simulator, llm, score.key, others)
        return self._from_answers(judged_steps(self.run, scorer, job), llm)

    def _from_answers(self, steps: Any, llm: str) -> Score:
        from autointerp.llm.repair import repairing

        return from_store(repairing(steps), lambda r: self.answer(r, llm))

    def chosen_by(self, steps: Any) -> Score:
        """A score by which one of several texts was chosen, from what is stored.

        Raises:
            CannotRecomputeError: where it is not.
        """
        llm = self.facts.get("llm") or ""
        fingerprint = self.facts["simulators"].get(self.config.simulator.name, "")

        def answer(request: Any) -> Any:
            if isinstance(request, SimulationRequest):
                return self.simulation(request, fingerprint)
            return self.answer(request, llm)

        from autointerp.llm.repair import repairing

        return from_store(repairing(steps), answer)

    def _of_unit(self, score: Score, record: UnitRecord) -> Score:
        """A score of a unit itself: it names no donors, but its key is the hash of them."""
        scorer, llm = self._judge(score)
        own = self._stand_in(score.unit)
        near = {n.unit for n in record.neighbours or () if n.cosine > NEAR_COPY_COSINE}
        candidates = [
            self._stand_in(unit)
            for unit in self.run.units.known
            if unit not in near and not self.run.units.is_dead(unit)
        ]
        found = Donors(candidates, self.run.units.densities, {})
        donors = found.of(own, self.config.score.shuffled_donors)
        if judged_key(scorer, own, donors, llm) != score.key:
            raise CannotRecomputeError(
                "of units compared with others than the run's: of an earlier state of this run"
            )
        return self._asked(score, record, own, donors)

    def _stand_in(self, unit: UnitId) -> Explanation:
        """What stands in an explanation's place where a unit itself is scored."""
        key = content_key("unit", unit=unit, records=self.records_key(unit.source))
        return Explanation(unit, "", "", Status.OK, key)

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
        from autointerp.llm.cache import ResponseCache, open_cache

        setting = self.config.llm.cache
        folder = self.store.folder.absolute().parent
        try:
            if setting not in ("shared", "off", "read_only"):
                return ResponseCache(Path(setting).expanduser(), read_only=True)
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
