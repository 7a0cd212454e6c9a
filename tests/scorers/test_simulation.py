"""What a score is made of where simulations know some tokens only."""

from collections.abc import Sequence

import numpy as np
import pytest

from autointerp.records import (
    ActivationRecord,
    Explanation,
    Score,
    Simulation,
    Split,
    Status,
    Strata,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.scorers.simulation import ScoreJob, SimulationScorer

N_WINDOWS, LENGTH = 12, 8
UNIT = UnitId("made", 0)
# In the order in which windows are scored: descending maxima.
TRUE = [np.eye(LENGTH, dtype=np.float32)[i % LENGTH] * (N_WINDOWS - i) for i in range(N_WINDOWS)]


def explanation(index: int) -> Explanation:
    return Explanation(UnitId("made", index), "words", f"words {index}", Status.OK, f"key {index}")


def job(n_donors: int, true: Sequence[np.ndarray] = TRUE) -> ScoreJob:
    windows = tuple(
        ActivationRecord(
            UNIT, Window(f"s{i}", 0, LENGTH), f"d{i}", Split.TEST, Strata.interval(10), 1.0,
            tuple("abcdefgh"), values, np.arange(LENGTH) == 0,
        )
        for i, values in enumerate(true)
    )  # fmt: skip
    donors = tuple(explanation(1 + i) for i in range(n_donors))
    record = UnitRecord(UNIT, windows, {})
    return ScoreJob(record, explanation(0), donors, "made", "made", "key")


def simulation(known: float, expected: Sequence[np.ndarray] = TRUE) -> list[Simulation]:
    """Predictions known on the last share of every window's tokens."""
    mask = np.arange(LENGTH) >= round(LENGTH * (1 - known))
    return [Simulation(values, mask, mask.astype(np.float32)) for values in expected]


def scored(own: list[Simulation], *donors: list[Simulation]) -> Score:
    steps = SimulationScorer("made", n_replicates=100).score(job(len(donors)))
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send([own, *donors])
    return end.value.value


NOISE = [np.random.default_rng(i).random(LENGTH).astype(np.float32) for i in range(N_WINDOWS)]


def test_a_donor_that_cannot_be_read_takes_no_tokens_from_the_score() -> None:
    alone = scored(simulation(1.0), simulation(1.0, NOISE))
    beside = scored(simulation(1.0), simulation(1.0, NOISE), simulation(0.0, NOISE))
    assert beside.n_tokens == alone.n_tokens == N_WINDOWS * (LENGTH - 1)
    assert beside.n_unknown_tokens == 0
    assert (beside.value, beside.lift) == (alone.value, alone.lift)
    assert [c.status for c in beside.controls] == [Status.OK, Status.FAILED]
    assert beside.controls[1].value is None


def test_own_and_donors_are_compared_on_the_tokens_that_all_know() -> None:
    score = scored(simulation(1.0), simulation(0.75, NOISE))
    assert score.n_tokens == N_WINDOWS * 6
    assert score.n_unknown_tokens == N_WINDOWS
    assert score.status == score.controls[0].status == Status.OK


def test_without_a_readable_donor_there_is_a_score_and_no_lift() -> None:
    score = scored(simulation(1.0), simulation(0.25, NOISE))
    assert score.value == pytest.approx(1.0)
    assert score.lift is None and score.control_mean is None and score.lift_interval is None


def test_a_simulator_that_knows_no_token_has_failed_whatever_the_truth() -> None:
    score = scored(simulation(0.0), simulation(1.0, NOISE))
    assert (score.status, score.value, score.lift) == (Status.FAILED, None, None)
    assert "too little mass on levels on 84 tokens" in score.reason


def test_constant_truth_is_undefined_and_not_the_simulators_fault() -> None:
    flat = [np.ones(LENGTH, np.float32)] * N_WINDOWS
    steps = SimulationScorer("made", n_replicates=100).score(job(0, flat))
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send([simulation(1.0)])
    assert (end.value.value.status, end.value.value.value) == (Status.UNDEFINED_TRUTH, None)
