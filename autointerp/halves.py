"""Scores on two halves of a unit's windows, from what a run stored: nobody is asked.

Windows are halved by documents, so that no document is in both halves. Documents are ordered by
their most active window and neighbours are separated by a coin's toss: both halves have windows of
the unit's whole range.
"""

from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from autointerp import stats
from autointerp.judging import judges
from autointerp.records import AutointerpError, Score, Status, derived_seed
from autointerp.scorers import ScoreJob, load_scorer
from autointerp.scorers.judged import Judging, Problem
from autointerp.scorers.simulation import IMPORTED_DESIGN
from autointerp.stored_run import CannotRecomputeError, StoredRun, from_store

N_SPLITS = 20
"""Ways of halving every unit's windows."""

FloatArray: TypeAlias = npt.NDArray[np.float64]
Partial: TypeAlias = Callable[[npt.NDArray[np.bool_]], float | None]
"""The score on some of a unit's items; `None` where they define none."""


class StoredHalves:
    """Half scores of one run."""

    def __init__(self, folder: str | Path, n_splits: int = N_SPLITS) -> None:
        """Open a finished run.

        Raises:
            AutointerpError: where the folder holds none.
        """
        self._stored = StoredRun(folder)
        self._n_splits = n_splits

    def close(self) -> None:
        """Let go of the folder."""
        self._stored.store.close()

    def of(self, key: str) -> FloatArray | None:
        """[2, n_splits] the score under a key on either half of its windows, NaN for none.

        `None` where its answers are not stored, or are not answers about single windows.

        Raises:
            AutointerpError: naming the file that is missing or damaged.
        """
        score = self._stored.store.get_score(key)
        if score is None or score.status not in (Status.OK, Status.CONSTANT_PREDICTION):
            return None
        try:
            clusters, partial = self._items(score)
        except CannotRecomputeError:
            return None
        found = np.full((2, self._n_splits), np.nan)
        generator = np.random.default_rng(
            derived_seed(self._stored.config.seed, "halves", score.unit)
        )
        for split in range(self._n_splits):
            side = halved(clusters, generator)
            for place, half in enumerate((side, ~side)):
                value = partial(half) if half.any() else None
                if value is not None:
                    found[place, split] = value
        return found

    def _items(self, score: Score) -> tuple[Sequence[Hashable], Partial]:
        """Clusters of a score's items, the most active first, and the score on some of them."""
        stored = self._stored
        record = stored.record(score.unit)
        own = stored.store.get_explanation(score.explanation_key)
        if own is None:
            raise CannotRecomputeError("of an explanation that is gone")
        if score.scorer == "simulation":
            fingerprint = stored.facts["simulators"].get(score.simulator)
            if fingerprint is None:
                raise CannotRecomputeError("of a simulator that the config no longer has")
            scorer = stored.simulation_scorer(score.unit)
            job = ScoreJob(record, own, (), score.simulator, fingerprint, score.key)
            simulations = stored.simulation(scorer.requests(job)[0], fingerprint)
            windows = scorer.windows(record)
            kept = [~w.masked & s.known for w, s in zip(windows, simulations, strict=True)]

            def correlation(half: npt.NDArray[np.bool_]) -> float | None:
                places = [i for i in np.flatnonzero(half) if kept[i].any()]
                found = stats.pooled_pearson(
                    [windows[i].activations[kept[i]] for i in places],
                    [simulations[i].expected[kept[i]] for i in places],
                )
                return _counted(found)

            return [w.document_id for w in windows], correlation
        return self._judged_items(score, record, own)

    def _judged_items(
        self, score: Score, record: Any, own: Any
    ) -> tuple[Sequence[Hashable], Partial]:
        stored = self._stored
        settings = next((s for s in judges(stored.run) if s.name == score.scorer), None)
        llm = stored.facts.get("llm")
        if settings is None or llm is None:
            raise CannotRecomputeError("of a scorer that the config no longer has")
        imported = stored.config.sources[score.unit.source].type == "recorded"
        design = IMPORTED_DESIGN if imported else stored.run.design.name
        scorer: Any = load_scorer(settings, stored.config.score, design, stored.config.seed)
        if not isinstance(scorer, Judging):
            raise CannotRecomputeError("of a scorer that does not ask about stored windows")
        job = ScoreJob(record, own, (), score.simulator, llm, score.key)
        plan = scorer.plan(job, scorer.windows(job))
        if isinstance(plan, Problem):
            raise CannotRecomputeError(plan.reason)
        arm = scorer.arms(job, plan)[0]
        answers = from_store(asked(arm.requests), lambda r: stored.answer(r, llm))
        values = scorer.heard(plan, [arm], answers)[0].answers
        weights = np.array([item.weight for item in plan.items], np.float64)
        truth = plan.truth

        def statistic(half: npt.NDArray[np.bool_]) -> float | None:
            places = half & ~np.isnan(values)
            if scorer.undefined(truth[places]):
                return None
            return float(scorer.statistic(weights[None, places], truth[places], values[places])[0])

        return scorer.clusters(plan.items), statistic


@contextmanager
def open_halves(folder: str | Path) -> Generator[Callable[[str], FloatArray | None]]:
    """Half scores of a run's scores by their keys.

    Where the run cannot be read, for only its tables are there, asking for one says why.
    """
    try:
        halves = StoredHalves(folder)
    except AutointerpError as error:
        why = error

        def refuse(key: str) -> FloatArray | None:
            raise why

        yield refuse
        return
    try:
        yield halves.of
    finally:
        halves.close()


def halved(clusters: Sequence[Hashable], generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """[n_items] True for one half, False for the other; items of one cluster stay together.

    Args:
        clusters: [n_items] what each belongs to; neighbours in the order of their first items are
            put into different halves.
        generator: tosses the coins.
    """
    order = list(dict.fromkeys(clusters))
    coins = generator.integers(0, 2, (len(order) + 1) // 2)
    side = {name: bool((place + coins[place // 2]) % 2) for place, name in enumerate(order)}
    return np.array([side[name] for name in clusters], bool)


def _counted(found: stats.Estimate) -> float | None:
    """A constant prediction counts 0, as in headlines; an undefined truth has no score."""
    return 0.0 if found.status is Status.CONSTANT_PREDICTION else found.value


def asked(requests: Sequence[Any]) -> Generator[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """The answers to some requests, asked for again where they did not follow their schema."""
    from autointerp.llm.repair import repairing

    def once() -> Generator[Sequence[Any], Sequence[Any], Sequence[Any]]:
        return (yield requests)

    return (yield from repairing(once()))
