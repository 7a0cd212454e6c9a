import numpy as np
import pytest
from scipy import stats

from autointerp.stats.power import (
    Components,
    power_of,
    smallest_effect,
    units_needed,
    variance_components,
)


def test_sizes_are_those_of_cohens_tables():
    # Cohen 1988, tables 2.4.1: d = 0.5 at power 0.8 and two-sided 0.05; paired: G*Power's manual.
    assert units_needed(0.5, 1.0, 0.8, "groups") == 64
    assert units_needed(0.2, 1.0, 0.8, "groups") == 394
    assert units_needed(0.8, 1.0, 0.8, "groups") == 26
    assert units_needed(0.5, 1.0, 0.8, "mean") == 34


def test_planned_power_is_what_simulated_runs_have():
    components = Components(between=0.03, within=0.02, windows=20, n_units=0)
    windows, effect = 40, 0.15
    n = units_needed(effect, components.sd(windows), 0.8, "groups")
    assert n is not None
    rng = np.random.default_rng(0)
    shape = (4000, n)
    error = np.sqrt(components.within * components.windows / windows)

    def measured(mean: float) -> np.ndarray:
        return mean + rng.normal(0, np.sqrt(0.03), shape) + rng.normal(0, error, shape)

    p = stats.ttest_ind(measured(effect), measured(0), axis=1).pvalue
    expected = power_of(effect, components.sd(windows), n, "groups")
    # Four standard errors of a share of 4,000.
    assert np.mean(p < 0.05) == pytest.approx(expected, abs=4 * np.sqrt(0.16 / 4000))
    assert expected >= 0.8


def test_components_are_found_again_from_measured_lifts():
    rng = np.random.default_rng(1)
    errors = np.full(20_000, 0.1)
    values = rng.normal(0.2, 0.3, 20_000) + rng.normal(0, errors)
    found = variance_components(values, errors, 22)
    assert found is not None
    assert found.between == pytest.approx(0.09, rel=0.05)
    assert found.within == pytest.approx(0.01)
    assert found.reliability == pytest.approx(0.9, abs=0.01)
    assert found.sd(88) == pytest.approx(np.sqrt(found.between + 0.01 / 4))


def test_the_least_effect_needs_just_that_many_units():
    effect = smallest_effect(0.3, 50, 0.8, "groups")
    assert effect is not None
    assert power_of(effect, 0.3, 50, "groups") == pytest.approx(0.8, abs=1e-6)
    assert units_needed(effect * 1.0001, 0.3, 0.8, "groups") == 50
    assert smallest_effect(0.3, 1, 0.8, "groups") is None


def test_no_effect_is_seen_with_the_chance_of_the_test_and_never_planned():
    assert power_of(0.0, 1.0, 30, "groups") == pytest.approx(0.05)
    with pytest.raises(ValueError, match="effect of 0"):
        units_needed(0, 1.0, 0.8, "groups")
    assert units_needed(1e-6, 1.0, 0.8, "groups") is None
