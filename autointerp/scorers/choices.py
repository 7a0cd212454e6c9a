"""Two-alternative choices: which of two texts an explanation fits, and fits more.

`pair`: one window is active and one silent, of the same document where there is one: the
contrastive choice of the Circuits Updates of August 2024 ("Contrastive Eval"), with an explanation
instead of the unit's visualisation. `sort`: both are active, one more than the other ("Sort Eval"
there sorts texts between two features; here two texts are sorted by one unit's activation).

    score = share of right choices; chance is 1/2

Every pair is asked about twice, in both orders and in different questions, so that a preference for
a place gives 1/2 exactly. A pair that is answered differently in the two orders is a tie and counts
one half. No window is in two pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from autointerp import stats
from autointerp.explainers.windows import unmasked_maximum
from autointerp.llm import Request
from autointerp.records import ActivationRecord, Interval, Status
from autointerp.scorers.judged import (
    NEGATIVES,
    FloatArray,
    Item,
    Judging,
    Plan,
    Problem,
    Sampled,
    plain_interval,
    two_passes,
)
from autointerp.scorers.prompts import answer_schema, choice, shown_text
from autointerp.scorers.simulation import ScoreJob

Pair = tuple[ActivationRecord, ActivationRecord]
"""The window that should be chosen, and the other."""


@dataclass(frozen=True)
class Choosing(Judging):
    """What `pair` and `sort` share."""

    metric: ClassVar[str] = "accuracy"

    n_pairs: int = 10
    """Most pairs."""

    n_per_prompt: int = 5
    """Pairs in one question."""

    def pairs(self, job: ScoreJob, windows: Sampled) -> list[Pair] | Problem:
        """Pairs of windows, none of them in two."""
        raise NotImplementedError

    def plan(self, job: ScoreJob, windows: Sampled) -> Plan | Problem:
        """Every pair in both orders."""
        pairs = self.pairs(job, windows)
        if isinstance(pairs, Problem):
            return pairs
        items = tuple(
            Item(shown, truth, "", bundle)
            for bundle, (right, wrong) in enumerate(pairs)
            for truth, shown in ((1.0, (right, wrong)), (2.0, (wrong, right)))
        )
        groups = two_passes(len(pairs), self.n_per_prompt, self.generator(job, "groups"))
        return Plan(items, tuple(groups), {"n_contradicted": windows.n_contradicted})

    def request(self, explanation: str, items: Sequence[Item]) -> Request:
        """The question about some pairs."""
        pairs = [[shown_text(window.tokens) for window in item.windows] for item in items]
        return self.template.request(
            {"explanation": explanation, "pairs": pairs},
            answer_schema(len(items), choice(2)),
            max_tokens=24 + 4 * len(items),
            purpose=self.kind,
        )

    def statistic(self, weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
        """Share of right answers."""
        return weighted_accuracy(weights, truth, answers)

    def chance(self, truth: FloatArray) -> float:
        """One half."""
        return 0.5

    def base_rate(self, truth: FloatArray) -> float | None:
        """One half: every pair comes in both orders."""
        return float(max((truth == 1).mean(), (truth == 2).mean()))

    def strata(self, items: Sequence[Item]) -> Sequence[Any]:
        """All alike: a pair has windows of two strata."""
        return [0] * len(items)

    def clusters(self, items: Sequence[Item]) -> Sequence[Any]:
        """Pairs that share a document, directly or through others."""
        return linked([[window.document_id for window in item.windows] for item in items])

    def interval(
        self, job: ScoreJob, items: Sequence[Item], truth: FloatArray, answers: FloatArray
    ) -> Interval | None:
        """Exact, of the pairs' values 1, 1/2 and 0; pairs that share documents count less."""
        right, clusters = truth == answers, self.clusters(items)
        of_pair: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            of_pair.setdefault(item.bundle, []).append(place)
        values = [float(right[places].mean()) for places in of_pair.values()]
        found = stats.share_interval(values, [clusters[p[0]] for p in of_pair.values()])
        return None if found is None else plain_interval(found)

    def metrics(self, plan: Plan, places: Sequence[int], answers: FloatArray) -> dict[str, Any]:
        """Pairs won, tied and lost, the exact test of those decided, and the choice of places."""
        right = plan.truth[places] == answers
        wins: dict[int, int] = {}
        for place, is_right in zip(places, right, strict=True):
            bundle = plan.items[place].bundle
            wins[bundle] = wins.get(bundle, 0) + int(is_right)
        counts = [list(wins.values()).count(n) for n in (2, 1, 0)]
        decided = stats.exact_binomial(counts[0], counts[0] + counts[2])
        return {
            "n_pairs": len(wins),
            "n_right": counts[0],
            "n_tied": counts[1],
            "n_wrong": counts[2],
            "accuracy_decided": decided.share,
            "p_value_decided": decided.p_value,
            "share_first": float((answers == 1).mean()),
        }


@dataclass(frozen=True)
class PairScorer(Choosing):
    """Which of two texts does it respond to: an active window beside a silent one."""

    kind: ClassVar[str] = "pair"

    negatives: tuple[str, ...] = NEGATIVES
    """Kinds of silent windows that active ones are paired with."""

    def pairs(self, job: ScoreJob, windows: Sampled) -> list[Pair] | Problem:
        """Active windows of the whole range, each with a silent one: of its document if it can."""
        silent = windows.silent(self.negatives)
        n = min(self.n_pairs, len(windows.active), len(silent))
        if n == 0:
            return Problem(
                Status.INSUFFICIENT_DATA, "no silent window to set an active one against"
            )
        chosen = spread(windows.active, n)
        apart = np.array([[a.document_id != s.document_id for s in silent] for a in chosen], float)
        jitter = self.generator(job, "pairs").random(apart.shape) / 2
        rows, columns = linear_sum_assignment(apart + jitter)
        return [(chosen[i], silent[j]) for i, j in zip(rows, columns, strict=True)]


@dataclass(frozen=True)
class SortScorer(Choosing):
    """Which of two texts does it respond to more strongly: both windows are active."""

    kind: ClassVar[str] = "sort"

    def pairs(self, job: ScoreJob, windows: Sampled) -> list[Pair] | Problem:
        """The stronger half of the windows against the weaker, rank by rank."""
        ranked = sorted(windows.active, key=lambda w: (-unmasked_maximum(w), w.window))
        half = len(ranked) // 2
        found = [
            (strong, weak)
            for strong, weak in zip(ranked[:half], ranked[len(ranked) - half :], strict=True)
            if unmasked_maximum(strong) > unmasked_maximum(weak)
        ]
        if not found:
            return Problem(
                Status.UNDEFINED_TRUTH,
                f"none of {len(ranked)} active windows is more active than another",
            )
        return [found[place] for place in _spread_places(len(found), self.n_pairs)]


def weighted_accuracy(weights: FloatArray, truth: FloatArray, answers: FloatArray) -> FloatArray:
    """[n_replicates] share of right answers under weights [n_replicates, n_items]."""
    total = weights.sum(axis=1)
    right = weights @ (truth == answers).astype(np.float64)
    return np.divide(right, total, out=np.zeros_like(total), where=total > 0)


def spread(windows: Sequence[ActivationRecord], n: int) -> list[ActivationRecord]:
    """`n` of some windows, evenly spread over their order."""
    return [windows[place] for place in _spread_places(len(windows), n)]


def _spread_places(n: int, wanted: int) -> list[int]:
    k = min(n, wanted)
    return [place * n // k for place in range(k)]


def linked(names: Sequence[Sequence[str]]) -> list[int]:
    """Numbers that are the same for items with a name in common, directly or through others."""
    known = {name: place for place, name in enumerate(sorted({n for item in names for n in item}))}
    size = len(names) + len(known)
    graph = np.zeros((size, size), bool)
    for place, item in enumerate(names):
        graph[place, [len(names) + known[name] for name in item]] = True
    labels = connected_components(graph, directed=False)[1]
    return [int(label) for label in labels[: len(names)]]
