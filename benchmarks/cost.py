"""What cheap scores and early stopping save, and whether their promises hold: JSON.

Units: lifts of which 40 % are near zero and the others spread up to 1
(`tests/stats/score_populations.py`), with a cheap score of a given correlation.

prediction_powered: how often the interval of the mean covers; how many times as many gold units
would give the same error without the cheap score; beside it the interval of the gold units alone.

sequential: units scored until the mean is known to ± a half-width by a confidence sequence, how
often the mean is covered then, and at all looks together; the units a plan with known variance
would take; and how often an ordinary interval, looked at as often, covers at all looks.

cascade: of 2,000 units a share is gold; a cheap and a middle score decide what they can. How many
units need the most expensive score, the share of wrong decisions, and how often it is above the
share allowed.

    python -m benchmarks.cost --replications 1000
"""

import argparse
import itertools
import json
import time
from typing import Any

import numpy as np

from autointerp import stats
from autointerp.stats.cascade import Thresholds, thresholds
from autointerp.stats.prediction_powered import prediction_powered_mean
from autointerp.stats.sequential import ConfidenceSequence, looks, stopped_at
from tests.stats.score_populations import cheap_scores, lifts

ALLOWED = 0.1
BARS = (0.1, 0.3)


def prediction_powered(n: int, seed: int) -> list[dict[str, Any]]:
    """Coverage and saving for 1,000 units by gold units, correlation and population."""
    rng = np.random.default_rng(seed)
    mean = float(lifts(np.random.default_rng(0), 400_000).mean())
    found: list[dict[str, Any]] = []
    for n_gold in (10, 30, 100):
        for correlation in (0.0, 0.7, 0.9):
            hits: dict[str, list[bool]] = {"units_like_these": [], "these_units": [], "alone": []}
            gains: dict[str, list[float]] = {"units_like_these": [], "these_units": []}
            for _ in range(n):
                y = lifts(rng, 1000)
                f = cheap_scores(rng, y, correlation)
                for population, truth in (("units_like_these", mean), ("these_units", y.mean())):
                    one = prediction_powered_mean(
                        y[:n_gold], f[:n_gold], f[n_gold:], population=population,
                        n_replicates=300, seed=rng,
                    )  # fmt: skip
                    interval = one.interval
                    assert interval is not None and one.gain is not None
                    hits[population].append(interval.low <= truth <= interval.high)
                    gains[population].append(one.gain)
                alone = stats.bootstrap_mean(y[:n_gold], n_replicates=300, seed=rng)
                assert alone is not None
                hits["alone"].append(alone.low <= mean <= alone.high)
            found.append({
                "gold": n_gold, "of": 1000, "correlation": correlation,
                **{f"coverage, {k}": round(float(np.mean(v)), 4) for k, v in hits.items()},
                **{f"gain, {k}": round(float(np.median(v)), 2) for k, v in gains.items()},
            })  # fmt: skip
    return found


def sequential(n: int, seed: int) -> list[dict[str, Any]]:
    """Units taken and coverage, by units there are and half-width asked for."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    for n_total, half_width in ((200, 0.08), (1000, 0.05), (1000, 0.03), (5000, 0.03)):
        taken: list[int] = []
        at_stop: list[bool] = []
        always: list[bool] = []
        ordinary: list[bool] = []
        planned: list[float] = []
        for _ in range(n):
            y = np.clip(lifts(rng, n_total), -1, 1)
            truth = float(y.mean())
            units, interval = stopped_at(y, (-1, 1), half_width=half_width, n_total=n_total)
            taken.append(units)
            at_stop.append(interval.low <= truth <= interval.high)
            always.append(_covers_always(y[:units], truth, half_width, n_total))
            fixed = (1.96 * y.std() / half_width) ** 2
            planned.append(fixed / (1 + fixed / n_total))
            peeks = [stats.bootstrap_mean(y[:k], n_replicates=100, seed=rng)
                     for k in looks(units, 16)]  # fmt: skip
            ordinary.append(all(i is not None and i.low <= truth <= i.high for i in peeks))
        found.append({
            "units": n_total, "half_width": half_width, "n": n,
            "coverage when stopped": round(float(np.mean(at_stop)), 4),
            "coverage at all looks": round(float(np.mean(always)), 4),
            "ordinary interval at all looks": round(float(np.mean(ordinary)), 4),
            "mean units taken": round(float(np.mean(taken)), 1),
            "share saved": round(1 - float(np.mean(taken)) / n_total, 3),
            "units a plan would take": round(float(np.mean(planned)), 1),
        })  # fmt: skip
    return found


def _covers_always(y: np.ndarray, truth: float, half_width: float, n_total: int) -> bool:
    sequence = ConfidenceSequence((-1, 1), half_width=half_width, n_total=n_total)
    for n in looks(len(y), 16):
        sequence.add(y[sequence.n : n])
        if not sequence.interval.low <= truth <= sequence.interval.high:
            return False
    return True


def cascade(n: int, seed: int) -> list[dict[str, Any]]:
    """Decisions of two stages before the gold score, by gold share and correlations."""
    rng = np.random.default_rng(seed)
    n_units, found = 2000, []
    for share, bar, correlations in itertools.product(
        (0.05, 0.1, 0.2), BARS, ((0.5, 0.8), (0.7, 0.9))
    ):
        asked: list[float] = []
        wrong: list[float] = []
        above: list[bool] = []
        for _ in range(n):
            y = lifts(rng, n_units)
            cheap = [cheap_scores(rng, y, c) for c in correlations]
            is_gold = np.arange(n_units) < round(share * n_units)
            is_open = np.ones(n_units, bool)
            errors: list[float] = []
            n_wrong = n_decided = 0
            for f in cheap:
                known = is_open & is_gold
                rule = thresholds(f[known], y[known], bar=bar, max_error=ALLOWED, delta=0.025)
                poor, good = _decided(rule, f, is_open)
                errors += [float((y[poor] >= bar).mean()) if poor.any() else 0.0,
                           float((y[good] < bar).mean()) if good.any() else 0.0]  # fmt: skip
                n_wrong += int((y[poor] >= bar).sum() + (y[good] < bar).sum())
                n_decided += int(poor.sum() + good.sum())
                is_open &= ~(poor | good)
            asked.append(float((is_open | is_gold).mean()))
            wrong.append(n_wrong / max(1, n_decided))
            above.append(max(errors) > ALLOWED)
        found.append({
            "gold share": share, "bar": bar, "correlations": list(correlations), "n": n,
            "share that needs the gold score": round(float(np.mean(asked)), 3),
            "share of decisions that is wrong": round(float(np.mean(wrong)), 4),
            "share allowed": ALLOWED,
            "how often any end is above it": round(float(np.mean(above)), 4),
            "allowed so often": 0.05,
        })  # fmt: skip
    return found


def _decided(rule: Thresholds, f: np.ndarray, is_open: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    poor = is_open & (f <= rule.poor) if rule.poor is not None else np.zeros_like(is_open)
    good = is_open & (f >= rule.good) if rule.good is not None else np.zeros_like(is_open)
    return poor, good


def main() -> None:
    """Print all three."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--only", choices=("prediction_powered", "sequential", "cascade"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.process_time()
    found: dict[str, Any] = {"replications": given.replications}
    for work in (prediction_powered, sequential, cascade):
        if given.only in (None, work.__name__):
            found[work.__name__] = work(given.replications, given.seed)
    found["cpu_seconds"] = round(time.process_time() - started, 1)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
