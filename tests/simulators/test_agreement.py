import numpy as np
import pytest

from autointerp.llm import load_client
from autointerp.records import Simulation, Status
from autointerp.simulators import Constant, Inverted, NoisyOracle, Oracle
from autointerp.simulators.agreement import agreement
from autointerp.simulators.base import Simulator
from autointerp.simulators.one_at_a_time import OneAtATime

TEXTS = (("a", "bb", "ccc"), ("dddd",), (), ("a", "ccc"))


def lengths(tokens) -> np.ndarray:
    return np.array([len(token) for token in tokens], float)


ORACLE = Oracle({"length": lengths})
JOBS = [("length", TEXTS)]


def test_a_simulator_agrees_with_itself():
    found = agreement(ORACLE, ORACLE, JOBS)
    assert found.correlation.value == pytest.approx(1.0)
    assert found.rank_correlation.value == pytest.approx(1.0)
    assert found.mean_difference == 0.0
    assert (found.n_tokens, found.n_left_out) == (6, 0)


def test_agreement_falls_with_noise_and_turns_with_the_sign():
    long = [("length", [["x" * (i % 7) for i in range(2000)]])]
    noisy = agreement(ORACLE, NoisyOracle(ORACLE, snr=1.0), long).correlation.value
    # r = s / sqrt(1 + s^2) at s = 1.
    assert noisy == pytest.approx(0.5**0.5, abs=0.03)
    assert agreement(ORACLE, Inverted(ORACLE), JOBS).correlation.value == pytest.approx(-1.0)


def test_a_constant_simulator_has_no_correlation_to_agree_by():
    found = agreement(ORACLE, Constant(2.0), JOBS)
    assert found.correlation.status is Status.CONSTANT_PREDICTION
    assert found.mean_difference is not None


def test_only_tokens_that_both_know_are_compared():
    class Half(Simulator):
        name, n_levels, fingerprint = "half", 11, "half"

        def simulate(self, explanation, sequences):
            found = ORACLE.simulate(explanation, sequences)
            return [
                Simulation(np.where(s.expected > 2, 99, s.expected), s.expected <= 2, s.level_mass)
                for s in found
            ]

    found = agreement(Half(), ORACLE, JOBS)
    assert (found.n_tokens, found.n_left_out) == (3, 3)
    assert found.mean_difference == 0.0


def test_where_nothing_is_known_nothing_is_said():
    class Mute(Simulator):
        name, n_levels, fingerprint = "mute", 11, "mute"

        def simulate(self, explanation, sequences):
            found = ORACLE.simulate(explanation, sequences)
            return [Simulation(s.expected, s.known & False, s.level_mass) for s in found]

    found = agreement(Mute(), ORACLE, JOBS)
    assert found.correlation.value is None
    assert found.mean_difference is None
    assert (found.n_tokens, found.n_left_out) == (0, 6)


def test_the_embedded_model_answers_one_token_at_a_time():
    simulator = OneAtATime(load_client("local/smollm2"))
    (simulation,) = simulator.simulate("words for animals", [("The", " horse", " ran")])
    assert simulation.known.all()
    assert simulation.level_mass.min() > 0.5
