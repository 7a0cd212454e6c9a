"""What stands beside a score: controls that should do worse, and arithmetic that must hold."""

from dataclasses import replace

import numpy as np
import pytest

from autointerp.analysis.control_means import control_means
from autointerp.analysis.values import IN_NO_MEAN
from autointerp.controls import ALL_CONTROLS, control_text, in_step, score_with_controls
from autointerp.records import ControlScore, Score, Simulation, Split, Status
from autointerp.scorers.simulation import SimulationScorer
from tests.scorers.test_simulation import N_WINDOWS, TRUE, job, simulation

SCORER = SimulationScorer("made", n_replicates=100)


def scored(kinds=ALL_CONTROLS, answers=None, given=None) -> tuple[Score, list[str]]:
    """The score, and the texts that were simulated."""
    given = given or job(1)
    steps = score_with_controls(SCORER.score, given, kinds, same_tokens=True)
    requests = next(steps)
    texts = [request.explanation for request in requests]
    answers = answers or {"words 0": simulation(1.0)}
    unsaid = simulation(1.0, [np.zeros(8, np.float32)] * N_WINDOWS)
    try:
        steps.send([answers.get(text, unsaid) for text in texts])
    except StopIteration as end:
        return end.value, texts
    raise AssertionError


def explained(one):
    """The same unit with its windows in the split that explainers see, too."""
    windows = tuple(replace(w, split=Split.EXPLAIN) for w in one.record.records)
    return replace(one, record=replace(one.record, records=(*one.record.records, *windows)))


def controls(score: Score) -> dict[str, ControlScore]:
    return {control.name: control for control in score.controls}


def test_everything_is_asked_in_one_round_and_the_score_is_as_without_controls():
    score, texts = scored(given=explained(job(1)))
    bare, _ = scored(kinds=())
    assert texts == ["words 0", "words 1", "text", "English text", 'the token "b"']
    assert (score.value, score.lift, score.control_mean) == (
        bare.value,
        bare.lift,
        bare.control_mean,
    )
    assert list(controls(score)) == ["shuffled", *ALL_CONTROLS]


def test_a_negated_simulation_scores_the_negative_exactly():
    noisy = simulation(1.0, [t + np.linspace(0, 5, 8, dtype=np.float32) for t in TRUE])
    score, _ = scored(("sign_flip",), {"words 0": noisy})
    assert 0 < score.value < 1
    assert controls(score)["sign_flip"].value == -score.value


def test_controls_are_scored_on_the_tokens_that_the_score_is_of():
    """A donor that does not know every token takes tokens from the score, so from its controls."""
    noisy = simulation(1.0, [t + np.linspace(0, 5, 8, dtype=np.float32) for t in TRUE])
    noise = [np.random.default_rng(i).random(8).astype(np.float32) for i in range(N_WINDOWS)]
    answers = {"words 0": noisy, "words 1": simulation(0.75, noise), "text": noisy}
    score, _ = scored(("empty", "sign_flip"), answers)
    assert score.n_unknown_tokens == N_WINDOWS
    assert controls(score)["sign_flip"].value == -score.value
    assert controls(score)["empty"].value == score.value


def test_permuted_tokens_score_about_nothing():
    given = job(1)
    long = replace(given, record=replace(given.record, records=given.record.records))
    found = []
    for seed in range(40):
        steps = score_with_controls(SCORER.score, long, ("permuted",), same_tokens=True, seed=seed)
        texts = [request.explanation for request in next(steps)]
        with pytest.raises(StopIteration) as end:
            steps.send([simulation(1.0) for _ in texts])
        found.append(controls(end.value.value)["permuted"].value)
    assert abs(np.mean(found)) < 0.05
    assert np.std(found) < 0.2


def test_a_judge_that_says_yes_shows_in_the_empty_control():
    everywhere = {text: simulation(1.0) for text in ("words 0", "text", "English text")}
    score, _ = scored(("empty", "generic"), everywhere)
    assert controls(score)["empty"].value == pytest.approx(score.value)
    honest, _ = scored(("empty", "generic"))
    assert controls(honest)["empty"].status is Status.CONSTANT_PREDICTION


def test_the_narrow_control_is_of_the_explain_split_alone():
    one = job(0)
    assert control_text("narrow", one.record) is None
    assert control_text("narrow", explained(one).record) == 'the token "b"'


def test_a_control_that_cannot_be_made_is_not_run():
    score, texts = scored(("narrow",))
    assert texts == ["words 0", "words 1"]
    assert controls(score)["narrow"].status is Status.NOT_RUN


def test_what_is_not_scored_has_no_controls():
    given = job(1)
    failed = replace(given, explanation=replace(given.explanation, text=None, status=Status.FAILED))
    steps = score_with_controls(SCORER.score, failed, ALL_CONTROLS)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value.status is Status.FAILED
    assert end.value.value.controls == ()


def test_jobs_of_different_length_run_in_step():
    def asking(name: str, rounds: int):
        heard = []
        for i in range(rounds):
            heard += yield [f"{name}{i}"] * (i + 1)
        return heard

    together = in_step([asking("a", 1), asking("b", 3), asking("c", 0)])
    rounds = [list(next(together))]
    try:
        while True:
            rounds.append(list(together.send([text.upper() for text in rounds[-1]])))
    except StopIteration as end:
        assert end.value == [["A0"], ["B0", "B1", "B1", "B2", "B2", "B2"], []]
    assert rounds == [["a0", "b0"], ["b1", "b1"], ["b2", "b2", "b2"]]


def test_means_of_controls_count_a_constant_as_zero_and_leave_out_what_is_missing():
    score, _ = scored(("empty", "sign_flip"))
    lost = replace(
        score, controls=tuple(replace(c, value=None, status=Status.FAILED) for c in score.controls)
    )
    found = control_means([score, score, lost], seed=0)
    assert list(found) == ["empty", "sign_flip"]
    assert found["empty"]["mean"] == 0.0
    assert found["empty"]["difference"] == pytest.approx(score.value)
    assert (found["empty"]["n_units"], found["empty"]["n_missing"]) == (2, 1)
    assert isinstance(simulation(1.0)[0], Simulation)


def test_a_judge_that_says_yes_to_everything_counts_as_what_it_scores_not_as_nothing():
    # Average precision of always yes is the share of positives.
    empty = ControlScore("empty", 0.55, Status.CONSTANT_PREDICTION)
    score = replace(scored(())[0], scorer="detection", value=0.8, controls=(empty,))
    found = control_means([score, score], seed=0)["empty"]
    assert found["mean"] == pytest.approx(0.55)
    assert found["difference"] == pytest.approx(0.25)


def test_means_of_controls_leave_out_what_a_cascade_keeps_out_of_means():
    score, _ = scored(("sign_flip",))
    extra = replace(score, value=0.1, details={**score.details, IN_NO_MEAN: "left open"})
    assert control_means([score, extra], seed=0) == control_means([score], seed=0)
