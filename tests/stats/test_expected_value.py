import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.stats import expected_value_from_logprobs


def test_every_expected_value_of_the_original_code_is_reproduced(reference):
    entries = reference["predicted_activation_stats"]
    assert len(entries) == 34
    for entry in entries:
        theirs = entry["result"]
        ours = expected_value_from_logprobs(entry["top_logprobs"])
        if not theirs["values"]:
            assert ours == (None, 0.0, {})
            continue
        distribution = dict(zip(theirs["values"], theirs["probabilities"], strict=True))
        assert ours.distribution == pytest.approx(distribution, abs=1e-9)
        assert ours.expected == pytest.approx(theirs["expected_value"], abs=1e-9)
        mass = min(1.0, sum(p for _, p in theirs["unnormalised"]))
        assert ours.mass == pytest.approx(mass, abs=1e-9)


def test_a_position_without_any_level_is_missing_not_zero():
    assert expected_value_from_logprobs({"unknown": -0.01}).expected is None
    assert expected_value_from_logprobs({"3": -math.inf}).expected is None


def test_a_level_outside_the_scale_is_dropped():
    nine = expected_value_from_logprobs({"10": -0.1, "9": -3.0}, levels=range(10))
    assert nine.expected == 9
    assert nine.mass == pytest.approx(math.exp(-3))


def test_probabilities_too_small_for_a_float_still_have_an_expectation():
    tiny = expected_value_from_logprobs({"2": -2000.0, "4": -2000.0})
    assert tiny.expected == pytest.approx(3)
    assert tiny.mass == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.5])
def test_an_impossible_log_probability_is_refused(bad):
    with pytest.raises(ValueError, match='of "3"'):
        expected_value_from_logprobs({"3": bad})


@given(st.dictionaries(st.sampled_from([str(k) for k in range(11)]), st.floats(-50, 0), min_size=1))
def test_expectation_lies_between_the_levels_and_probabilities_sum_to_one(top_logprobs):
    result = expected_value_from_logprobs(top_logprobs)
    assert result.expected is not None
    assert min(result.distribution) - 1e-9 <= result.expected <= max(result.distribution) + 1e-9
    assert sum(result.distribution.values()) == pytest.approx(1)
    assert list(result.distribution) == sorted(result.distribution)
