"""Stopping when a mean is known: fewer calls, an interval that may be looked at, honest tables."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp.records import AutointerpError, Score, Status, UsageError
from autointerp.runner import run
from tests.made_scorers import MadeScorer, install, sixty_units
from tests.run_helpers import StopAfter

CALLS: Counter[int] = Counter()
"""Units that the made scorer was asked about, by index."""

FAILING: set[int] = set()


def true_lift(index: int) -> float:
    """Nearly the same for all units: known after few of them."""
    return 0.2 + 0.01 * (index % 3)


class Made(MadeScorer):
    """The true lift; every eleventh unit has too little data."""

    def value(self, index: int) -> float:
        CALLS[index] += 1
        if index in FAILING:
            raise AutointerpError("no answer came")
        return true_lift(index)

    def score(self, job: Any) -> Iterator[Any]:
        if job.record.unit.index % 11 == 0:
            return Score(**self.facts(job), value=None, status=Status.INSUFFICIENT_DATA)
        return (yield from super().score(job))


class Unbounded(Made):
    bounds = (-float("inf"), float("inf"))


@pytest.fixture(autouse=True)
def made_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    FAILING.clear()
    install(monkeypatch, made=Made, unbounded=Unbounded)


def config_of(folder: Path, model: Path, kind: str = "made", **stop: Any) -> Any:
    stop = {"half_width": 0.2, "first": 4, **stop}
    return sixty_units(
        folder,
        model,
        scorers=[{"name": "made", "type": kind}],
        score={"shuffled_donors": 2, "bootstrap": 100, "stop": stop},
    )


def group_of(config: Any) -> dict[str, Any]:
    summary = json.loads((Path(config.output) / "summary.json").read_text())
    return summary["scorers"]["made"]["sources"]["neurons"]["explainers"]["top_tokens"]


def test_units_beyond_the_stopping_point_are_not_asked_about(
    tmp_path: Path, tiny_folder: Path
) -> None:
    config = config_of(tmp_path, tiny_folder)
    results = run(config)
    assert results is not None
    found = results.staged["stop"]["scorers"]["made"]["neurons"]["top_tokens"]
    assert found["reached"]
    assert sum(CALLS.values()) == found["n_scored"] < found["n_units"]
    assert (found["high"] - found["low"]) / 2 <= 0.2
    rare = [u for u in results.units if u.unit.index % 11 == 0]
    assert found["n_units"] == len(results.units) - len(rare)
    reasons = Counter(u.judged["made"]["top_tokens"].status for u in results.units)
    assert reasons[Status.STAGED] == found["n_units"] - found["n_scored"]
    assert reasons[Status.INSUFFICIENT_DATA] == len(rare)


def test_the_interval_of_the_mean_is_the_one_that_may_be_looked_at(
    tmp_path: Path, tiny_folder: Path
) -> None:
    config = config_of(tmp_path, tiny_folder)
    results = run(config)
    assert results is not None
    found = results.staged["stop"]["scorers"]["made"]["neurons"]["top_tokens"]
    group = group_of(config)
    interval = group["lift"]["excluded"]["interval"]
    assert (interval["low"], interval["high"]) == (found["low"], found["high"])
    assert "sequence" in interval["method"]
    assert group["score"]["excluded"]["interval"] is None
    assert group["lift"]["worst_case"] is None
    truth = [true_lift(u.unit.index) for u in results.units if u.unit.index % 11]
    assert found["low"] <= sum(truth) / len(truth) <= found["high"]


def test_a_width_that_is_not_reached_scores_every_unit(tmp_path: Path, tiny_folder: Path) -> None:
    config = config_of(tmp_path, tiny_folder, half_width=0.0005)
    results = run(config)
    assert results is not None
    found = results.staged["stop"]["scorers"]["made"]["neurons"]["top_tokens"]
    assert found["n_scored"] == found["n_units"] == sum(CALLS.values())


def test_a_killed_run_stops_where_an_unbroken_one_does(tmp_path: Path, tiny_folder: Path) -> None:
    config = config_of(tmp_path, tiny_folder)
    run(config, until="explain")
    for _ in range(30):
        try:
            run(config, reporter=StopAfter(6))
            break
        except KeyboardInterrupt:
            continue
    broken = run(config)
    assert broken is not None
    assert set(CALLS.values()) == {1}
    found = broken.staged["stop"]["scorers"]["made"]["neurons"]["top_tokens"]
    assert sum(CALLS.values()) == found["n_scored"]


def test_failed_scores_widen_the_interval_by_what_they_could_be(
    tmp_path: Path, tiny_folder: Path
) -> None:
    clean = run(config_of(tmp_path, tiny_folder))
    FAILING.update(range(0, 1000, 7))
    (tmp_path / "failing").mkdir()
    failing = run(config_of(tmp_path / "failing", tiny_folder))
    assert clean is not None and failing is not None
    one, other = (
        r.staged["stop"]["scorers"]["made"]["neurons"]["top_tokens"] for r in (clean, failing)
    )
    assert other["n_scored"] > one["n_scored"]
    assert other["low"] <= 0.21 <= other["high"]


def test_a_score_without_bounds_cannot_be_stopped(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match="no lowest or highest value"):
        run(config_of(tmp_path, tiny_folder, kind="unbounded"))


def test_the_summary_says_how_many_units_were_enough(tmp_path: Path, tiny_folder: Path) -> None:
    from autointerp.analysis.staged_words import staged_lines

    results = run(config_of(tmp_path, tiny_folder))
    assert results is not None
    (line,) = staged_lines(results.staged)
    assert line.endswith("units; then the mean was known as well as asked for.")
