"""Try: what a unit does on a text of one's own, and how an explanation of one's own scores.

Models are loaded when they are first asked for, in the worker's thread, and stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from autointerp.analysis.results import UnitResult
from autointerp.analysis.sentences import explain_score
from autointerp.browser.opened import OpenedRun
from autointerp.browser.strips import signed, strip_html
from autointerp.browser.units import read_unit, scored_windows
from autointerp.records import (
    AutointerpError,
    Explanation,
    Simulation,
    Split,
    Status,
    UnitId,
    UsageError,
    content_key,
)
from autointerp.viewer.tokens import N_SHADES, Cell, level_scale, shown_text

MAX_TEXT = 4_000
MAX_EXPLANATION = 2_000
MAX_TOKENS = 512


@dataclass(frozen=True)
class Asked:
    """What somebody wants to know."""

    unit: UnitId
    text: str
    explanation: str
    score: bool


class Trying:
    """Runs the subject and the simulator of a run on new texts and explanations."""

    def __init__(self, run: OpenedRun, *, spend: bool) -> None:
        self.run, self.spend = run, spend

    # ------------------------------------------------------------------ the form, in the loop

    def form(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """What the form shows, and what is asked; `asked` is `None` where nothing is yet."""
        name = parameters.get("unit", "").strip()
        text = parameters.get("text", "").replace("\r\n", "\n")
        explanation = parameters.get("explanation", "").strip()
        for what, value, most in (("text", text, MAX_TEXT),
                                  ("explanation", explanation, MAX_EXPLANATION)):  # fmt: skip
            if len(value) > most:
                raise UsageError(f"the {what} has {len(value)} characters; give at most {most}")
        asked = None
        known: list[tuple[str, str]] = []
        if name:
            unit = UnitId.parse(name)
            code = self.run.facts(unit).code
            for explainer in self.run.explainers:
                words = self.run.words(code, explainer)
                if words and explainer not in self.run.baselines:
                    known.append((explainer, words))
            if text.strip() or (explanation and parameters.get("score")):
                asked = Asked(unit, text, explanation, bool(parameters.get("score")))
        return {
            "unit": name,
            "text": text,
            "explanation": explanation,
            "known": known,
            "asked": asked,
            "simulator": self._simulator_text,
            "problem": "",
            "activation": None,
            "scored": None,
        }

    @cached_property
    def _simulator_text(self) -> str:
        simulator: Mapping[str, Any] = self.run.config.get("simulator") or {}
        name = str(simulator.get("name") or "embedded")
        return f"{name}, which asks {self._hosted}" if self._hosted else name

    @cached_property
    def _hosted(self) -> str:
        """The hosted model that simulating asks; empty where it runs on this machine."""
        simulator: Mapping[str, Any] = self.run.config.get("simulator") or {}
        if str(simulator.get("name") or "embedded") in ("embedded", "all_at_once", "trained_head"):
            return ""
        model = str((self.run.config.get("llm") or {}).get("model") or "")
        return "" if model.startswith("local/") else model

    # ------------------------------------------------------------------ the answer, in the worker

    def answer(self, asked: Asked) -> dict[str, Any]:
        """What the unit does on the text, and what the explanation scores."""
        try:
            found: dict[str, Any] = {}
            if asked.text.strip():
                found["activation"] = self._activation(asked)
            if asked.score and asked.explanation:
                found["scored"] = self._scored(asked)
            return found
        except AutointerpError as error:
            return {"problem": str(error)}

    @cached_property
    def _parts(self) -> Any:
        from autointerp.config import RunConfig, load_config
        from autointerp.parts import Parts
        from autointerp.store import RunStore

        config = load_config(self.run.folder / "config.yaml", RunConfig).without_remote_code()
        config = config.model_copy(update={"output": str(self.run.folder)})
        return Parts(config, RunStore(self.run.folder))

    @cached_property
    def _own_run(self) -> OpenedRun:
        """The run once more: the pages' own is for their thread."""
        from autointerp.progress import Silent

        return OpenedRun(self.run.folder, Silent())

    @cached_property
    def _live(self) -> Any:
        from autointerp.live import LiveSubject

        corpus = self._parts.config.corpus

        def maximum(unit: UnitId) -> float:
            return self._own_run.facts(unit).maximum or 0.0

        return LiveSubject(
            self._parts.sources.get,
            self._parts.subject,
            maximum,
            lambda name: self._own_run.sequences[name].token_ids.tolist(),
            bos=corpus.bos if corpus else "auto",
            n_masked_start=corpus.n_masked_start if corpus else 1,
        )

    def _activation(self, asked: Asked) -> dict[str, Any]:
        from autointerp.subject.requests import ActivationRequest

        maximum = self._own_run.facts(asked.unit).maximum or 0.0
        (found,) = self._live.activations(ActivationRequest(asked.unit, (asked.text,)))
        n = min(len(found.tokens), MAX_TOKENS)
        tokens, values, masked = found.tokens[:n], found.activations[:n], found.masked[:n]
        simulation = None
        if asked.explanation:
            simulation = self._simulated(asked.explanation, [tokens])[0]
        scale = level_scale((simulation,)) if simulation is not None else None
        cells = [
            self._cell(token, float(value), bool(hidden), i, simulation, maximum, scale)
            for i, (token, value, hidden) in enumerate(zip(tokens, values, masked, strict=True))
        ]
        negative = asked.unit.polarity < 0
        visible = np.where(masked, 0.0, values)
        return {
            "html": strip_html(cells, negative=negative, with_levels=scale is not None),
            "maximum": maximum,
            "negative": negative,
            "scale": scale,
            "largest": signed(float(visible.max(initial=0.0)), negative),
            "n_active": int((visible > 0).sum()),
            "n_tokens": int((~masked).sum()),
            "is_cut": len(found.tokens) > n,
            "table": [
                (cell.text, signed(cell.true, negative), cell.level)
                for cell in sorted(cells, key=lambda c: -c.true)[:10]
                if cell.true > 0
            ],
        }

    @staticmethod
    def _cell(
        token: str,
        value: float,
        hidden: bool,
        place: int,
        simulation: Simulation | None,
        maximum: float,
        scale: Any,
    ) -> Cell:
        level = None
        if simulation is not None and not hidden and bool(simulation.known[place]):
            level = float(simulation.expected[place])
        share = min(1.0, value / maximum) if maximum > 0 else float(value > 0)
        shade = None if hidden else int(np.ceil(N_SHADES * share - 1e-6))
        level_shade = scale.shade(level) if level is not None and scale is not None else None
        return Cell(shown_text(token), shade, level_shade, "", 0.0 if hidden else value, level)

    def _simulator(self) -> Any:
        if self._hosted and not self.spend:
            raise AutointerpError(
                f"simulating here asks {self._hosted}, which may cost money: start with "
                "`autointerp view RUN --spend` to allow it"
            )
        worded = [e for e in self.run.explainers if e not in self.run.baselines]
        if not worded:
            raise AutointerpError("this run has no explainer with words, so nothing reads words")
        return self._parts.simulator(worded[0])

    def _simulated(self, explanation: str, sequences: Any) -> list[Simulation]:
        return self._simulator().simulate(explanation, sequences)

    def _scored(self, asked: Asked) -> dict[str, Any]:
        """The score of an explanation on the run's test windows, with the run's own donors."""
        from autointerp.scorers.simulation import (
            IMPORTED_DESIGN,
            ScoreJob,
            SimulationScorer,
        )
        from autointerp.store.rows import pack_simulations, unpack_simulations
        from autointerp.stored_run import from_store

        run, config = self._own_run, self._parts.config
        stored = read_unit(run, asked.unit)
        if stored.record is None:
            raise AutointerpError(f"nothing is recorded of {asked.unit}: there are no windows")
        record = stored.record
        imported = config.sources[asked.unit.source].type == "recorded"
        known = next((s for s in stored.scores.values() if s.scorer == "simulation"), None)
        design = IMPORTED_DESIGN if imported else known.design if known else ""
        scorer = SimulationScorer(
            design,
            min_active_documents=config.score.min_active_documents,
            n_replicates=config.score.bootstrap,
            seed=config.seed,
        )
        own = Explanation(
            asked.unit, "yours", asked.explanation, Status.OK,
            content_key("explanation tried", text=asked.explanation),
        )  # fmt: skip
        donors = self._donors(stored)
        simulator = self._simulator()
        job = ScoreJob(record, own, donors, simulator.name, simulator.fingerprint, own.key)
        read: list[list[Simulation]] = []

        def answer(request: Any) -> list[Simulation]:
            # Rounded as the run stores them: its own words then get its own score.
            found = simulator.simulate(request.explanation, request.sequences)
            read.append(unpack_simulations(*pack_simulations(found)))
            return read[-1]

        score = from_store(scorer.score(job), answer)
        result = UnitResult(
            asked.unit, record, stored.facts.density, {"yours": own}, {"yours": score},
            scored_windows(record), {"yours": tuple(read[0])} if read else {},
        )  # fmt: skip
        return {
            "score": replace(score, details={}),
            "sentence": explain_score(result, "yours", run.baselines),
            "n_donors": len(donors),
            "others": [
                (row["explainer"], row["scores"]["simulation"])
                for row in stored.rows
                if "simulation" in row["scores"]
            ],
            "split": Split.TEST,
        }

    def _donors(self, stored: Any) -> tuple[Explanation, ...]:
        """The explanations of other units that the run compared this unit's words with."""
        found: tuple[Explanation, ...] = ()
        wordless = set(self.run.baselines)
        for score in stored.scores.values():
            if score.scorer != "simulation" or score.explainer in wordless:
                continue
            keys = [c.explanation_key for c in score.controls if c.name == "shuffled"]
            kept = [self._own_run.store.get_explanation(key) for key in keys]
            donors = tuple(d for d in kept if d is not None and d.text)
            if len(donors) > len(found):
                found = donors
        return found
