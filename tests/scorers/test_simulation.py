"""What a score is made of where simulations know some tokens only."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

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


def calibrated(name: str, own: list[Simulation], fitted_on: list[Simulation] | None) -> Score:
    """A score; calibration sees the same windows in `calibrate`, their activations doubled."""
    made = job(0)
    if fitted_on is not None:
        others = [
            replace(w, split=Split.CALIBRATE, activations=2 * w.activations)
            for w in made.record.records
        ]
        record = replace(made.record, records=(*made.record.records, *others))
        made = replace(made, record=record)
    steps = SimulationScorer("made", n_replicates=100, calibration=name).score(made)
    asked = next(steps)
    assert len(asked) == 1 + (fitted_on is not None and name != "none")
    with pytest.raises(StopIteration) as end:
        steps.send([own, *([fitted_on] if len(asked) == 2 else [])])
    return end.value.value


@pytest.mark.parametrize("name", ["linear", "isotonic"])
def test_a_calibration_is_fitted_on_calibrate_and_applied_to_test(name):
    score = calibrated(name, simulation(1.0), simulation(1.0))
    # Twice the truth on `calibrate`: 1 - mean((t - 2t)^2) / mean(t^2) = 0.
    assert score.details["calibrated_rsquared_score"] == pytest.approx(0.0, abs=1e-6)
    assert score.details["calibrated_correlation"] == pytest.approx(1.0)
    assert score.details["n_calibration_tokens"] == N_WINDOWS * (LENGTH - 1)
    assert score.details["calibration_status"] == "ok"
    assert score.details["rsquared_score"] == pytest.approx(1.0)
    assert score.value == pytest.approx(1.0)


def test_all_five_numbers_are_those_of_their_definitions_over_all_tokens():
    """Numbers of numpy and scipy over the pooled tokens, a line fitted on `calibrate` between."""
    generator = np.random.default_rng(3)
    levels = [np.round(3 + t / 2 + generator.random(LENGTH)).astype(np.float32) for t in TRUE]
    score = calibrated("linear", simulation(1.0, levels), simulation(1.0, levels))
    t = np.concatenate([one[1:] for one in TRUE]).astype(np.float64)
    s = np.concatenate([one[1:] for one in levels]).astype(np.float64)
    active = t > 0
    slope, intercept = np.polyfit(s, 2 * t, 1)
    fitted = slope * s + intercept
    assert score.value == pytest.approx(np.corrcoef(t, s)[0, 1])
    expected = {
        "spearman": scipy_stats.spearmanr(t, s).statistic,
        "intensity_spearman": scipy_stats.spearmanr(t[active], s[active]).statistic,
        "rsquared_score": 1 - np.mean((t - s) ** 2) / np.mean(t**2),
        "absolute_dev_explained_score": 1 - np.mean(abs(t - s)) / np.mean(abs(t)),
        "calibrated_correlation": np.corrcoef(t, fitted)[0, 1],
        "calibrated_rsquared_score": 1 - np.mean((t - fitted) ** 2) / np.mean(t**2),
        "calibrated_absolute_dev_explained_score": 1 - np.mean(abs(t - fitted)) / np.mean(abs(t)),
    }
    assert {name: score.details[name] for name in expected} == pytest.approx(expected)


def test_without_windows_to_calibrate_on_there_is_a_score_and_no_calibrated_one():
    score = calibrated("linear", simulation(1.0), None)
    assert score.value == pytest.approx(1.0)
    assert score.details["calibrated_rsquared_score"] is None
    assert score.details["calibration_status"] == "insufficient_data"


def test_a_simulation_of_calibrate_that_knows_nothing_is_no_calibration():
    score = calibrated("isotonic", simulation(1.0), simulation(0.0))
    assert score.details["calibration_status"] == "insufficient_data"
    assert score.details["calibrated_correlation"] is None


def test_a_score_without_a_known_token_has_no_calibrated_one() -> None:
    score = calibrated("linear", simulation(0.0), simulation(1.0))
    assert score.status is Status.FAILED
    assert score.details["calibrated_rsquared_score"] is None


def test_no_calibration_asks_for_nothing_more():
    score = calibrated("none", simulation(1.0), simulation(1.0))
    assert not [name for name in score.details if "calibrat" in name]


def test_top_and_random_windows_are_scored_alone_and_each_once():
    found = list(job(0).record.records)
    rest = [Strata.interval(3)] * 4 + [Strata.SILENT] * 3
    strata = [Strata.TOP] * 3 + [Strata.RANDOM] * 2 + rest
    windows = [replace(one, stratum=stratum) for one, stratum in zip(found, strata, strict=True)]
    twice = replace(windows[0], stratum=Strata.RANDOM)
    record = UnitRecord(UNIT, (*windows, twice), {})
    chosen = SimulationScorer("made", sample="top_and_random").windows(record)
    assert {one.window for one in chosen} == {one.window for one in windows[:5]}
    assert [one.stratum for one in chosen] == [Strata.TOP] * 3 + [Strata.RANDOM] * 2
    assert len(SimulationScorer("made").windows(record)) == 10


def test_the_way_of_sampling_enters_the_identity_only_where_it_is_not_the_usual_one():
    usual, other = SimulationScorer("made"), SimulationScorer("made", sample="top_and_random")
    assert "sample" not in usual.identity() and other.identity()["sample"] == "top_and_random"
    assert usual.identity() == {k: v for k, v in vars(other).items() if k != "sample"}
