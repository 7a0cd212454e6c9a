import json
from statistics import fmean

import pytest

from autointerp import stats
from autointerp.analysis.compare import compare_all, compare_sources
from autointerp.analysis.results import RunResults
from autointerp.records import Status, UnitId

from .synthetic import every_kind, run_of, score_of, unit_of


def two_sources(
    a: list[float], b: list[float], rate_a: float = 0.01, rate_b: float = 0.01
) -> RunResults:
    """Scores under every explainer, control 0.1."""
    units = [unit_of(UnitId("features", i), x, density=rate_a) for i, x in enumerate(a)]
    units += [unit_of(UnitId("neurons", i), x, density=rate_b) for i, x in enumerate(b)]
    return run_of(units)


LOW = [0.05, 0.1, 0.15, 0.2, 0.1, 0.12, 0.08, 0.18]
HIGH = [x + 0.5 for x in LOW]


def test_difference_and_interval_are_those_of_the_lifts() -> None:
    found = compare_sources(two_sources(HIGH, LOW), "features", "neurons", "words")
    assert found["excluded"]["difference"] == pytest.approx(0.5)
    assert found["excluded"]["mean_a"] == pytest.approx(fmean(HIGH) - 0.1)
    assert found["excluded"]["cliffs_delta"] == 1.0
    assert found["excluded"]["interval"]["low"] > 0
    assert found["excluded"]["p_value"] < 0.01


def test_a_clear_difference_is_said_with_n_interval_and_p() -> None:
    found = compare_sources(two_sources(HIGH, LOW), "features", "neurons", "words")
    assert found["conclusion"] == "a_higher"
    verdict = found["verdict"]
    assert "units of features have a higher mean lift than units of neurons" in verdict
    assert "8 and 8 units" in verdict
    assert "95 % interval" in verdict
    assert "p < 0.001" in verdict


def test_the_order_of_sources_only_turns_the_sign() -> None:
    found = compare_sources(two_sources(LOW, HIGH), "features", "neurons", "words")
    assert found["conclusion"] == "b_higher"
    assert "units of neurons have a higher mean lift" in found["verdict"]


def test_an_interval_with_zero_shows_no_difference_and_says_what_could_not_be_seen() -> None:
    shifted = [x + 0.01 for x in LOW]
    found = compare_sources(two_sources(shifted, LOW), "features", "neurons", "words")
    assert found["conclusion"] == "not_shown"
    assert "The interval includes zero: this run does not show a difference." in found["verdict"]
    interval = found["excluded"]["interval"]
    half = (interval["high"] - interval["low"]) / 2
    assert f"below about {half:.2f} cannot be told from none" in found["verdict"]
    assert "higher" not in found["verdict"]


def test_one_unit_a_side_gives_no_verdict() -> None:
    found = compare_sources(two_sources([0.9], [0.1]), "features", "neurons", "words")
    assert found["conclusion"] == "not_measured"
    assert "shows nothing either way" in found["verdict"]


def test_a_source_without_lifts_is_not_compared() -> None:
    units = [unit_of(UnitId("features", 0), status=Status.DEAD)]
    units += [unit_of(UnitId("neurons", i), x) for i, x in enumerate(LOW)]
    found = compare_sources(run_of(units), "features", "neurons", "words")
    assert found["conclusion"] == "not_measured"
    assert "no unit of features has a lift" in found["verdict"]


def test_rates_that_do_not_overlap_give_no_rate_matched_verdict() -> None:
    results = two_sources(HIGH, LOW, rate_a=0.001, rate_b=0.4)
    found = compare_sources(results, "features", "neurons", "words")
    matched = found["rate_matched"]
    assert (matched["share_a"], matched["share_b"]) == (0.0, 0.0)
    assert matched["difference"] is None
    assert "No rate-matched verdict: 0 % of features and 0 % of neurons" in found["verdict"]


def test_support_below_a_fifth_gives_no_rate_matched_verdict() -> None:
    units = [unit_of(UnitId("features", i), 0.5, density=0.001) for i in range(9)]
    units += [unit_of(UnitId("features", 9), 0.4, density=0.1)]
    units += [unit_of(UnitId("neurons", i), x, density=0.1) for i, x in enumerate(LOW)]
    matched = compare_sources(run_of(units), "features", "neurons", "words")["rate_matched"]
    assert matched["share_a"] == pytest.approx(0.1)
    assert matched["share_b"] == 1.0
    assert not matched["has_support"]
    assert matched["p_value"] is None


def test_unscored_units_count_against_the_common_support() -> None:
    units = [unit_of(UnitId("features", 0), 0.5)]
    units += [unit_of(UnitId("features", i), status=Status.DEAD) for i in range(1, 4)]
    units += [unit_of(UnitId("neurons", i), x) for i, x in enumerate(LOW)]
    matched = compare_sources(run_of(units), "features", "neurons", "words")["rate_matched"]
    assert matched["share_a"] == pytest.approx(0.25)


def test_rate_matched_difference_weights_both_sides_to_one_distribution_of_rates() -> None:
    # Sparse bin: 2 features of lift 0.2, 4 neurons of lift 0.1. Dense bin: 4 features of lift 0.6,
    # 2 neurons of lift 0.5. Matched, the difference is 0.1 everywhere; unmatched it is not.
    def units(source: str, sparse: list[float], dense: list[float]) -> list:
        rows = [(x, 0.001) for x in sparse] + [(x, 0.1) for x in dense]
        return [unit_of(UnitId(source, i), x, density=d) for i, (x, d) in enumerate(rows)]

    features = units("features", [0.29, 0.31], [0.69, 0.71, 0.7, 0.7])
    neurons = units("neurons", [0.19, 0.21, 0.2, 0.2], [0.59, 0.61])
    found = compare_sources(run_of([*features, *neurons]), "features", "neurons", "words")
    assert found["rate_matched"]["difference"] == pytest.approx(0.1)
    assert found["excluded"]["difference"] == pytest.approx(0.1 + 0.4 / 3)
    assert (
        found["rate_matched"]["interval"]["low"] < 0.1 < found["rate_matched"]["interval"]["high"]
    )


def test_both_treatments_of_undefined_are_given_and_said() -> None:
    found = compare_sources(every_kind(), "features", "neurons", "words")
    assert found["excluded"]["n_a"] == 3
    assert found["as_zero"]["n_a"] == 5
    assert found["as_zero"]["mean_a"] == pytest.approx(0.5 / 5)
    assert "With undefined scores as 0 (2 of features, 0 of neurons)" in found["verdict"]


def test_failed_units_bound_the_difference() -> None:
    found = compare_sources(every_kind(), "features", "neurons", "words")
    neurons = fmean([0.0, 0.05, 0.1, 0.15, 0.2])
    assert found["worst_case"]["low"] == pytest.approx((0.5 - 6) / 6 - neurons)
    assert found["worst_case"]["high"] == pytest.approx((0.5 + 6) / 6 - neurons)
    assert "3 selected units without a known score" in found["verdict"]


def test_a_difference_that_vanishes_with_undefined_as_zero_is_not_claimed() -> None:
    results = two_sources(HIGH, LOW)
    undefined = [
        unit_of(unit, {"words": score_of(unit, "words", None, Status.UNDEFINED_TRUTH)})
        for unit in (UnitId("features", i) for i in range(100, 140))
    ]
    found = compare_sources(run_of([*results.units, *undefined]), "features", "neurons", "words")
    assert found["conclusion"] == "unclear"
    assert "depends on how they are counted" in found["verdict"]


def test_p_values_are_adjusted_over_all_explainers() -> None:
    comparisons = compare_all(two_sources(HIGH, LOW))
    assert [c["explainer"] for c in comparisons] == ["words", "top_tokens", "token_lookup"]
    expected = stats.benjamini_hochberg([c["excluded"]["p_value"] for c in comparisons])
    assert [c["p_adjusted"] for c in comparisons] == pytest.approx(list(expected))
    assert "adjusted for 3 comparisons" in comparisons[0]["verdict"]


def test_windows_of_different_designs_are_not_compared() -> None:
    other = UnitId("features", 0)
    score = score_of(other, "words", 0.5, design="imported")
    units = [unit_of(other, {"words": score})]
    units += [unit_of(UnitId("neurons", i), x) for i, x in enumerate(LOW)]
    found = compare_sources(run_of(units), "features", "neurons", "words")
    assert found["conclusion"] == "not_measured"
    assert "windows were sampled by default and imported" in found["verdict"]


def test_pairs_can_be_chosen_and_one_source_gives_none() -> None:
    assert compare_all(two_sources(HIGH, LOW), []) == []
    assert compare_all(run_of([], ["features"])) == []
    chosen = compare_all(two_sources(HIGH, LOW), [("neurons", "features")])
    assert {c["source_a"] for c in chosen} == {"neurons"}


def test_comparisons_are_json_without_nan() -> None:
    json.dumps(compare_all(every_kind()), allow_nan=False)
