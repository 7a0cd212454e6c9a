"""What a judge was asked about a unit and how it answered, from what the run kept: nobody is asked.

The questions are planned again from the stored windows, as `verify` does; the answers are looked up
by the hash of the question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from autointerp.analysis.wording import number
from autointerp.browser.opened import OpenedRun
from autointerp.browser.strips import Strip, strip_of
from autointerp.browser.units import Stored
from autointerp.records import AutointerpError, Score, Status

MAX_ITEMS = 400


@dataclass(frozen=True)
class ItemRow:
    """One thing that was asked about."""

    group: int
    """Number of the question, from 1."""

    kind: str
    truth: str
    answer: str
    verdict: str
    """`right`, `wrong` or `missing`."""

    mark: str
    """The same for those who see no colours."""

    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Items:
    """All questions of one scorer about one explanation."""

    scorer: str
    explainer: str
    rows: tuple[ItemRow, ...] = ()
    n_groups: int = 0
    problem: str = ""
    """Why there is nothing to show."""

    @property
    def n_right(self) -> int:
        """Right answers."""
        return sum(row.verdict == "right" for row in self.rows)

    @property
    def n_missing(self) -> int:
        """Items without a usable answer."""
        return sum(row.verdict == "missing" for row in self.rows)


class JudgedItems:
    """Questions and answers of one run."""

    def __init__(self, run: OpenedRun) -> None:
        self.run = run

    @cached_property
    def _stored(self) -> Any:
        from autointerp.stored_run import StoredRun

        stored = StoredRun(self.run.folder)
        stored.store.close()
        stored.store = self.run.store
        return stored

    def of(self, unit: Stored, explainer: str, scorer: str) -> Items:
        """What one scorer asked about a unit's explanation."""
        from autointerp.stored_run import CannotRecomputeError

        try:
            return self._items(unit, explainer, scorer)
        except (CannotRecomputeError, AutointerpError) as error:
            return Items(scorer, explainer, problem=f"The answers cannot be shown: {error}.")

    def _items(self, unit: Stored, explainer: str, scorer: str) -> Items:
        row = next((r for r in unit.rows if r["explainer"] == explainer), None)
        own = (row or {}).get("scores", {}).get(scorer)
        score = unit.scores.get(own["key"]) if own and own["key"] else None
        if row is None or own is None or score is None or unit.record is None:
            why = (own or {}).get("reason") or "this scorer has no score of it"
            return Items(scorer, explainer, problem=f"Nothing was asked: {why}.")
        if score.status not in (Status.OK, Status.CONSTANT_PREDICTION):
            return Items(scorer, explainer, problem=f"Nothing was asked: {score.reason}.")
        made, plan, values = self._answers(unit, score)
        maximum = unit.record.explain_maximum()
        groups = {place: i for i, group in enumerate(plan.groups, 1) for place in group}
        order = [place for group in plan.groups for place in group][:MAX_ITEMS]
        choices = made.kind in ("intruder",) or max(plan.truth, default=0) > 1
        rows = [
            self._row(plan.items[p], groups[p], float(values[p]), maximum, choices) for p in order
        ]
        return Items(scorer, explainer, tuple(rows), len(plan.groups))

    def _answers(self, unit: Stored, score: Score) -> tuple[Any, Any, Sequence[float]]:
        """The scorer, its plan and its judge's answers, NaN where there is none."""
        from autointerp.halves import asked
        from autointerp.judging import judges, others_of
        from autointerp.scorers import ScoreJob, load_scorer
        from autointerp.scorers.judged import Judging, Problem
        from autointerp.scorers.simulation import IMPORTED_DESIGN
        from autointerp.stored_run import CannotRecomputeError, from_store

        stored = self._stored
        settings = next((s for s in judges(stored.run) if s.name == score.scorer), None)
        llm = stored.facts.get("llm")
        if settings is None:
            raise CannotRecomputeError("the config no longer has this scorer")
        imported = stored.config.sources[score.unit.source].type == "recorded"
        design = IMPORTED_DESIGN if imported else stored.run.design.name
        scorer: Any = load_scorer(settings, stored.config.score, design, stored.config.seed)
        if not isinstance(scorer, Judging) or llm is None:
            raise CannotRecomputeError(
                "this scorer measures, and asks no judge about stored windows"
            )
        record = unit.record
        assert record is not None
        explanation = self.run.store.get_explanation(score.explanation_key)
        if explanation is None:
            raise CannotRecomputeError("its explanation is gone")
        keys = [c.explanation_key for c in score.controls if c.name == "shuffled"]
        donors = [d for key in keys if (d := self.run.store.get_explanation(key)) is not None]
        records = {d.unit: r for d in donors if (r := self.run.record(d.unit)) is not None}
        others = others_of(scorer, donors, records)
        job = ScoreJob(record, explanation, tuple(donors), score.simulator, llm, score.key, others)
        plan = scorer.plan(job, scorer.windows(job))
        if isinstance(plan, Problem):
            raise CannotRecomputeError(plan.reason)
        arm = scorer.arms(job, plan)[0]
        answers = from_store(asked(arm.requests), lambda r: stored.answer(r, llm))
        return scorer, plan, scorer.heard(plan, [arm], answers)[0].answers.tolist()

    def _row(self, item: Any, group: int, value: float, maximum: float, choices: bool) -> ItemRow:
        missing = bool(np.isnan(value))
        said = value if choices else float(value > 0.5)
        verdict = "missing" if missing else "right" if said == item.truth else "wrong"
        names = None if choices else {0.0: "no", 1.0: "yes"}

        def shown(one: float) -> str:
            if names is None:
                return number(one, 0)
            return names.get(one, number(one))

        strips = [strip_of(self.run.sequences, w, None, maximum, None) for w in item.windows]
        return ItemRow(
            group,
            str(item.kind).replace("_", " "),
            shown(float(item.truth)),
            "no usable answer" if missing else shown(value),
            verdict,
            {"right": "✓", "wrong": "✗", "missing": "–"}[verdict],
            tuple(strips),
        )
