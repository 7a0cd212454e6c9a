"""Simulators whose skill is known, against the closed forms of their correlation."""

import json
import subprocess
import sys

import numpy as np
import pytest

from autointerp.records import AutointerpError, Status
from autointerp.simulators import Constant, Inverted, NoisyOracle, Oracle, load_simulator
from autointerp.stats import score_simulation

WINDOWS = [["a", "b", "a", "c"], ["c", "c", "a"]]
RULES = {
    "the letter a": lambda tokens: np.array([9.0 if t == "a" else 0.0 for t in tokens]),
    "the letter c": lambda tokens: np.array([9.0 if t == "c" else 0.0 for t in tokens]),
}


def correlation(simulator, explanation, truth_rule, windows=WINDOWS):
    simulations = simulator.simulate(explanation, windows)
    score = score_simulation([truth_rule(w) for w in windows], [s.expected for s in simulations])
    return score.ev_correlation_score, score.status


def test_the_oracle_scores_exactly_one():
    value, status = correlation(Oracle(RULES), "the letter a", RULES["the letter a"])
    assert value == pytest.approx(1.0, abs=1e-12)
    assert status is Status.OK


def test_inverting_the_oracle_changes_only_the_sign():
    oracle = Oracle(RULES)
    value, _ = correlation(oracle, "the letter c", RULES["the letter a"])
    inverted, _ = correlation(Inverted(oracle), "the letter c", RULES["the letter a"])
    assert inverted == pytest.approx(-value, abs=1e-12)
    assert correlation(Inverted(oracle), "the letter a", RULES["the letter a"])[0] == pytest.approx(
        -1.0
    )


@pytest.mark.parametrize("snr", [0.3, 1.0, 3.0])
def test_a_noisy_oracle_scores_what_its_signal_to_noise_ratio_says(snr):
    generator = np.random.default_rng(0)
    windows = [[str(k) for k in generator.integers(0, 10, 200)] for _ in range(100)]
    rule = lambda tokens: np.array([float(t) for t in tokens])  # noqa: E731
    value, _ = correlation(
        NoisyOracle(Oracle({"digits": rule}), snr, seed=1), "digits", rule, windows
    )
    expected = snr / np.sqrt(1 + snr**2)
    standard_error = (1 - expected**2) / np.sqrt(20_000)
    assert abs(value - expected) < 4 * standard_error


def test_noise_repeats_with_the_seed_and_differs_without_it():
    def predictions(seed):
        simulator = NoisyOracle(Oracle(RULES), 1.0, seed)
        return simulator.simulate("the letter a", WINDOWS)[0].expected

    assert np.array_equal(predictions(3), predictions(3))
    assert not np.array_equal(predictions(3), predictions(4))


def test_a_constant_prediction_is_flagged_and_has_no_correlation():
    value, status = correlation(Constant(3.0), "anything", RULES["the letter a"])
    assert value is None
    assert status is Status.CONSTANT_PREDICTION


def test_a_lookup_table_gives_every_token_its_mean_and_the_rest_the_default():
    table = json.dumps({"token_means": {"a": 3.25, "c": 0}, "default": 0.5})
    first, second = load_simulator("token_lookup").simulate(table, [*WINDOWS[:1], []])
    assert first.expected.tolist() == [3.25, 0.5, 3.25, 0.0]
    assert first.known.all() and (first.level_mass == 1).all()
    assert second.expected.shape == second.known.shape == second.level_mass.shape == (0,)


@pytest.mark.parametrize(
    "explanation",
    [
        "words about dogs",
        "[]",
        '{"default": 0}',
        '{"token_means": {"a": "x"}, "default": 0}',
        '{"token_means": {"a": NaN}, "default": 0}',
        '{"token_means": {"a": true}, "default": 0}',
        '{"token_means": [1], "default": 0}',
    ],
)
def test_words_are_no_lookup_table(explanation):
    with pytest.raises(AutointerpError, match="is not a token look-up table"):
        load_simulator("token_lookup").simulate(explanation, WINDOWS)


TABLE = json.dumps({"token_means": {"a": 3.25}, "default": 0.5})


@pytest.mark.parametrize(
    ("explanation", "sequences", "says"),
    [
        (TABLE, ["horse"], "'horse' is a string: give texts as a list, each a list of its tokens"),
        (TABLE, "horse", "'horse' is a string: give texts as a list"),
        (TABLE, [["a"], b"horse"], "b'horse' is a string: give texts as a list"),
        (None, [["a"]], "an explanation must be a string, not NoneType: give its text"),
    ],
)
def test_no_simulator_reads_a_string_letter_by_letter(explanation, sequences, says):
    class OfMyOwn(Constant):
        def simulate(self, explanation, sequences):
            return super().simulate(explanation, sequences)

    for simulator in (load_simulator("token_lookup"), OfMyOwn(2.0)):
        with pytest.raises(AutointerpError, match=says):
            simulator.simulate(explanation, sequences)
        with pytest.raises(AutointerpError, match=says):
            simulator.simulate_many([(explanation, sequences)])


def test_iterators_of_tokens_are_read_once_and_lists_are_not_copied():
    seen = []

    class Seeing(Constant):
        def simulate(self, explanation, sequences):
            seen.append(sequences)
            return super().simulate(explanation, sequences)

    simulator = Seeing(2.0)
    (found,) = simulator.simulate("x", (iter(["a", "b"]) for _ in range(1)))
    assert seen == [[["a", "b"]]] and found.expected.tolist() == [2.0, 2.0]
    simulator.simulate_many([("x", WINDOWS), ("y", WINDOWS)])
    assert seen[1] is WINDOWS and seen[2] is WINDOWS


def test_the_oracle_refuses_a_rule_that_gives_another_number_of_levels():
    oracle = load_simulator("oracle", rules={"x": lambda tokens: np.zeros(7)})
    with pytest.raises(AutointerpError, match=r"levels of shape \[7\] for a text of 4 tokens"):
        oracle.simulate("x", WINDOWS)


@pytest.mark.parametrize("level", [float("nan"), -1.0, 10.5, "5"])
def test_a_constant_off_the_scale_is_refused(level):
    with pytest.raises(AutointerpError, match="level must lie between 0 and 10, not"):
        load_simulator("constant", level=level)


def test_the_oracle_refuses_an_explanation_it_was_not_told():
    with pytest.raises(AutointerpError, match="'the letter z' is not among them"):
        Oracle(RULES).simulate("the letter z", WINDOWS)


def test_an_unknown_simulator_is_answered_with_the_known_ones():
    with pytest.raises(AutointerpError, match="known are all_at_once, completions, constant"):
        load_simulator("gpt")
    with pytest.raises(AutointerpError, match="unexpected keyword argument 'size'"):
        load_simulator("constant", size=3)


def test_every_simulator_loads_by_name_and_runs_jobs_in_order():
    oracle = load_simulator("oracle", rules=RULES)
    for simulator in (
        oracle,
        load_simulator("noisy_oracle", rules=RULES, snr=2.0, seed=1),
        load_simulator("noisy_oracle", oracle=oracle, snr=2.0),
        load_simulator("inverted", rules=RULES),
        load_simulator("constant", level=2.0),
    ):
        jobs = [("the letter a", WINDOWS), ("the letter c", WINDOWS[:1])]
        results = simulator.simulate_many(jobs)
        assert [len(result) for result in results] == [2, 1]
        for (explanation, windows), result in zip(jobs, results, strict=True):
            alone = simulator.simulate(explanation, windows)
            assert all(
                np.array_equal(a.expected, b.expected) for a, b in zip(alone, result, strict=True)
            )


def test_different_settings_have_different_fingerprints():
    simulators = [
        Constant(1.0),
        Constant(2.0),
        Oracle(RULES),
        NoisyOracle(Oracle(RULES), 1.0),
        NoisyOracle(Oracle(RULES), 2.0),
        NoisyOracle(Oracle(RULES), 2.0, seed=1),
        Inverted(Oracle(RULES)),
        load_simulator("token_lookup"),
    ]
    assert len({simulator.fingerprint for simulator in simulators}) == len(simulators)
    assert Constant(1.0).fingerprint == Constant(1.0).fingerprint


def test_importing_the_room_does_not_import_torch():
    code = "import sys, autointerp.simulators; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
