"""The planted units are what they say, and simulators that know something find it."""

import json
from collections import defaultdict

import numpy as np
import pytest

from autointerp import resources
from autointerp.records import derived_seed
from autointerp.simulators import Oracle, TokenLookup
from autointerp.stats import exact_binomial, pooled_pearson


def scored(simulator, explanation, unit):
    simulations = simulator.simulate(explanation, unit.tokens["test"])
    value = pooled_pearson(unit.truth["test"], [s.expected for s in simulations]).value
    return value or 0.0


def learnt_table(unit):
    """Mean activation of every token over the explain windows; the overall mean elsewhere."""
    seen = defaultdict(list)
    for tokens, truth in zip(unit.tokens["explain"], unit.truth["explain"], strict=True):
        for token, value in zip(tokens, truth, strict=True):
            seen[token].append(float(value))
    everything = [value for values in seen.values() for value in values]
    means = {token: float(np.mean(values)) for token, values in seen.items()}
    return json.dumps({"token_means": means, "default": float(np.mean(everything))})


def donors(n, seed):
    """A permutation without fixed points: who lends its explanation to whom."""
    for attempt in range(1000):
        order = np.random.default_rng(derived_seed(seed, attempt)).permutation(n)
        if (order != np.arange(n)).all():
            return order
    raise AssertionError


def test_every_stored_activation_is_what_its_rule_says(planted, rules):
    assert [unit.name for unit in planted] == [unit.name for unit in rules.PLANTED]
    for unit, rule in zip(planted, rules.PLANTED, strict=True):
        assert unit.explanation == rule.explanation
        for split in ("explain", "test"):
            for tokens, truth in zip(unit.tokens[split], unit.truth[split], strict=True):
                np.testing.assert_array_equal(rule.rule(tokens), truth)


def test_every_unit_has_active_and_silent_windows_and_documents_keep_to_one_split(planted):
    assert len(planted) >= 20
    split_of = {}
    for unit in planted:
        for split in ("explain", "test"):
            active = [bool(truth.any()) for truth in unit.truth[split]]
            assert active.count(True) == 8 and active.count(False) == 4
            documents = unit.documents[split]
            assert len({d for d, on in zip(documents, active, strict=True) if on}) >= 4
            for document in documents:
                assert split_of.setdefault(document, split) == split
            assert all(len(tokens) == 32 for tokens in unit.tokens[split])


def test_the_data_set_is_small_and_every_explanation_is_true_once_and_unrelated_once(planted):
    size = sum(f.stat().st_size for f in resources.path("datasets/planted").glob("*.*"))
    assert size < 500_000
    assert sorted(u.explanation for u in planted) == sorted(u.unrelated for u in planted)
    assert all(u.explanation != u.unrelated for u in planted)


def test_the_oracle_is_perfect_on_true_explanations_and_useless_on_unrelated(planted, rules):
    oracle = Oracle({unit.explanation: unit.rule for unit in rules.PLANTED})
    for unit in planted:
        assert scored(oracle, unit.explanation, unit) == pytest.approx(1.0, abs=1e-6)
        assert abs(scored(oracle, unit.unrelated, unit)) <= 0.11


def test_the_oracles_true_explanation_beats_a_shuffled_one_on_every_unit(planted, rules):
    oracle = Oracle({unit.explanation: unit.rule for unit in rules.PLANTED})
    order = donors(len(planted), seed=1)
    wins = sum(
        scored(oracle, unit.explanation, unit) > scored(oracle, planted[donor].explanation, unit)
        for unit, donor in zip(planted, order, strict=True)
    )
    assert wins == len(planted)


def test_lookup_tables_learnt_on_explain_windows_beat_shuffled_ones_on_test_windows(planted):
    tables = [learnt_table(unit) for unit in planted]
    order = donors(len(planted), seed=2)
    own = [scored(TokenLookup(), t, u) for t, u in zip(tables, planted, strict=True)]
    shuffled = [scored(TokenLookup(), tables[d], u) for d, u in zip(order, planted, strict=True)]
    wins = sum(a > b for a, b in zip(own, shuffled, strict=True))
    interval = exact_binomial(wins, len(planted)).interval
    assert interval.low > 0.5
    assert np.mean(own) - np.mean(shuffled) > 0.2
