"""Score a unit by the intruder task (Paulo and Belrose 2025): no explanation is needed.

A judge sees n texts with marked tokens: n - 1 are active windows of the unit's `test` split, one is
the intruder. Where the unit responds to one thing, the intruder stands out.

    score = share of intruders found; chance is 1/n

The intruder is a silent window that bears the marks of an active window of the unit, moved over as
a whole (`scorers.marks`); it stands at every place equally often. In the within-unit form the
intruder is active, too, but of another part of the unit's range: who finds it sees that weak and
strong activations have different meanings.

The control ("mixture") is the same task without anything in common: the members come each from
another unit, the intruder stays as it is. A judge that finds it there goes by the marks, not by the
meaning. Within the unit, the control draws all windows from the whole range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autointerp import stats
from autointerp.explainers.windows import highlighted_where, unmasked_maximum
from autointerp.llm import Request
from autointerp.records import ActivationRecord, ControlScore, Interval, Status
from autointerp.scorers.choices import weighted_accuracy
from autointerp.scorers.judged import (
    SILENT_SHARE,
    Arm,
    FloatArray,
    Item,
    Judging,
    Plan,
    Problem,
    Sampled,
    plain_interval,
    sampled_windows,
)
from autointerp.scorers.marks import Marks, TokenFacts, lend, moved, true_marks
from autointerp.scorers.prompts import answer_schema, choice, fenced
from autointerp.scorers.simulation import ScoreJob

Shown = tuple[ActivationRecord, Marks]
"""A window and its marks."""


@dataclass(frozen=True)
class IntruderScorer(Judging):
    """Scores a unit by how often a judge finds the window that is not of it."""

    kind: ClassVar[str] = "intruder"
    metric: ClassVar[str] = "accuracy"
    reads_explanation: ClassVar[bool] = False
    needs_others: ClassVar[bool] = True

    n_shown: int = 5
    """Texts in one question, the intruder among them."""

    n_trials: int = 20
    """Questions."""

    within: bool = False
    """Whether the intruder is active, too, in another part of the unit's range."""

    n_parts: int = 2
    """Parts of equally many windows that the range is cut into, with `within`."""

    negatives: tuple[str, ...] = ("silent",)
    """Kinds of silent windows that intruders are taken from."""

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """The trials: members, intruder and its place."""
        trials = self._within(job, windows) if self.within else self._apart(job, windows)
        if isinstance(trials, Problem):
            return trials
        items = tuple(
            self._item(members, intruder, place)
            for (members, intruder), place in zip(trials, self._places(job), strict=True)
        )
        shown = {window.window for item in items for window in item.windows}
        facts = {"n_shown_windows": len(shown), "n_contradicted": windows.n_contradicted}
        return Plan(items, tuple((place,) for place in range(len(items))), facts)

    def request(self, explanation: str, items: Sequence[Item]) -> Request:
        """The question about one trial; there is no explanation in it."""
        (item,) = items
        texts = [
            fenced(highlighted_where(window.tokens, marks))
            for window, marks in zip(item.windows, item.payload, strict=True)
        ]
        return self.template.request(
            {"texts": texts}, answer_schema(1, choice(len(texts))), max_tokens=24, purpose=self.kind
        )

    def arms(self, job: ScoreJob, plan: Plan) -> list[Arm]:
        """The unit's own trials, and those of a mixture."""
        arms = [Arm([self.request("", [item]) for item in plan.items])]
        mixture = self._mixture(job, plan)
        if mixture is not None:
            control = ControlScore("mixture", None, Status.FAILED)
            arms.append(Arm([self.request("", [item]) for item in mixture], control))
        return arms

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Share of intruders found."""
        return weighted_accuracy(weights, truth, answers)

    def chance(self, truth: FloatArray) -> float:
        """One of the texts shown."""
        return 1.0 / self.n_shown

    def base_rate(self, truth: FloatArray) -> float | None:
        """What always naming the best place would score."""
        return float(max(np.bincount(truth.astype(int)))) / len(truth)

    def strata(self, items: Sequence[Item]) -> Sequence[Any]:
        """All trials are drawn alike."""
        return [0] * len(items)

    def clusters(self, items: Sequence[Item]) -> Sequence[Any]:
        """Trials are drawn independently of each other from the same windows."""
        return list(range(len(items)))

    def interval(
        self, job: ScoreJob, items: Sequence[Item], truth: FloatArray, answers: FloatArray
    ) -> Interval | None:
        """Exact binomial, over the drawing of trials from the recorded windows."""
        found = stats.exact_binomial(int((truth == answers).sum()), len(truth)).interval
        return None if found is None else plain_interval(found)

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """The exact test against chance, and how often each place was named."""
        n_right = int((plan.truth[places] == answers).sum())
        test = stats.exact_binomial(n_right, len(places), p0=1.0 / self.n_shown)
        return {
            "n_right": n_right,
            "p_value": test.p_value,
            "n_shown": self.n_shown,
            "form": "within" if self.within else "apart",
            "named": [int((answers == place).sum()) for place in range(1, self.n_shown + 1)],
        }

    # ------------------------------------------------------------- trials

    def _places(self, job: ScoreJob) -> list[int]:
        """Where the intruder stands in every trial, from 0: everywhere equally often, shuffled."""
        places = np.arange(self.n_trials) % self.n_shown
        return [int(place) for place in self.generator(job, "places").permutation(places)]

    def _item(self, members: Sequence[Shown], intruder: Shown, place: int) -> Item:
        shown = [*members[:place], intruder, *members[place:]]
        return Item(tuple(w for w, _ in shown), float(place + 1), payload=[m for _, m in shown])

    def _apart(self, job: ScoreJob, windows: Sampled) -> list[tuple[list[Shown], Shown]] | Problem:
        """Members of the whole range; the intruder bears the marks of a window not among them."""
        silent = windows.silent(self.negatives)
        n_members = self.n_shown - 1
        if _n_documents(windows.active) < n_members or not silent:
            return Problem(
                Status.INSUFFICIENT_DATA,
                f"active in {_n_documents(windows.active)} documents and {len(silent)} silent "
                f"windows; {n_members} documents and a silent window are needed",
            )
        generator = self.generator(job, "members")
        drawn = [_drawn(windows.active, n_members, generator) for _ in range(self.n_trials)]
        sources = [self._source(windows.active, members, generator) for members in drawn]
        bound = SILENT_SHARE * job.record.explain_maximum()
        facts = TokenFacts((*windows.active, *silent), bound)
        trials: list[tuple[list[Shown], Shown]] = []
        for members, source, place in zip(
            drawn, sources, lend(sources, silent, facts), strict=True
        ):
            if place is None:
                return Problem(
                    Status.INSUFFICIENT_DATA, "no silent window can bear the marks of an active one"
                )
            marks = moved(true_marks(source), len(silent[place].tokens))
            trials.append(([_marked(w) for w in members], (silent[place], marks)))
        return trials

    def _source(
        self,
        active: Sequence[ActivationRecord],
        members: Sequence[ActivationRecord],
        generator: np.random.Generator,
    ) -> ActivationRecord:
        """An active window outside a trial where there is one, to lend its marks."""
        inside = {member.window for member in members}
        free = [w for w in active if w.window not in inside] or list(active)
        return free[int(generator.integers(len(free)))]

    def _within(self, job: ScoreJob, windows: Sampled) -> list[tuple[list[Shown], Shown]] | Problem:
        """Members of one part of the range, the intruder of another."""
        ranked = sorted(windows.active, key=lambda w: (-unmasked_maximum(w), w.window))
        size = len(ranked) / self.n_parts
        parts = [ranked[round(i * size) : round((i + 1) * size)] for i in range(self.n_parts)]
        if ranked and unmasked_maximum(ranked[0]) == unmasked_maximum(ranked[-1]):
            return Problem(Status.UNDEFINED_TRUTH, "all active windows are equally active")
        n_members = self.n_shown - 1
        own = [part for part in parts if _n_documents(part) >= n_members]
        if not own or len(parts) < 2:
            return Problem(
                Status.INSUFFICIENT_DATA,
                f"no part of the range is active in {n_members} sampled documents",
            )
        generator = self.generator(job, "within")
        trials: list[tuple[list[Shown], Shown]] = []
        for number in range(self.n_trials):
            part = own[number % len(own)]
            others = [w for other in parts if other is not part for w in other]
            members = _drawn(part, n_members, generator)
            intruder = others[int(generator.integers(len(others)))]
            trials.append(([_marked(w) for w in members], _marked(intruder)))
        return trials

    def _mixture(self, job: ScoreJob, plan: Plan) -> list[Item] | None:
        """The same trials with members that have nothing in common; `None` where there are none."""
        generator = self.generator(job, "mixture")
        if self.within:
            active = self.windows(job).active
            if _n_documents(active) < self.n_shown:
                return None
            return [
                self._mixed(_drawn(active, self.n_shown, generator), item) for item in plan.items
            ]
        pools = [sampled_windows(record, self.split).active for record in job.others]
        pools = [pool for pool in pools if pool]
        n_members = self.n_shown - 1
        if len(pools) < n_members:
            return None
        mixed: list[Item] = []
        for item in plan.items:
            place = int(item.truth) - 1
            chosen = generator.permutation(len(pools))[:n_members]
            members = [pools[i][int(generator.integers(len(pools[i])))] for i in chosen]
            intruder = (item.windows[place], item.payload[place])
            mixed.append(self._item([_marked(w) for w in members], intruder, place))
        return mixed

    def _mixed(self, drawn: Sequence[ActivationRecord], item: Item) -> Item:
        place = int(item.truth) - 1
        return self._item([_marked(w) for w in drawn[1:]], _marked(drawn[0]), place)


def _marked(window: ActivationRecord) -> Shown:
    return window, true_marks(window)


def _n_documents(windows: Sequence[ActivationRecord]) -> int:
    return len({window.document_id for window in windows})


def _drawn(
    windows: Sequence[ActivationRecord], n: int, generator: np.random.Generator
) -> list[ActivationRecord]:
    """`n` windows of different documents, at random."""
    found: dict[str, ActivationRecord] = {}
    for place in generator.permutation(len(windows)):
        found.setdefault(windows[place].document_id, windows[place])
    return list(found.values())[:n]
