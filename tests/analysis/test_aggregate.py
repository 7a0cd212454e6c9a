import json
import math
from dataclasses import replace
from statistics import fmean, stdev

import pytest
from rich.console import Console
from scipy import stats as scipy_stats

from autointerp.analysis.aggregate import summarise
from autointerp.analysis.values import best_explainer, outcome_of
from autointerp.outputs import print_summary
from autointerp.records import FAILED_REQUESTS, Status, UnitId

from .synthetic import EXPLAINERS, every_kind, run_of, score_of, unit_of


@pytest.fixture(scope="module")
def summary() -> dict:
    return summarise(every_kind())


def words(summary: dict) -> dict:
    return summary["sources"]["features"]["explainers"]["words"]


def test_every_selected_unit_is_in_exactly_one_status(summary: dict) -> None:
    for source in summary["sources"].values():
        for group in source["explainers"].values():
            counts = group["counts"]
            assert sum(counts["by_status"].values()) == counts["selected"] == source["selected"]


def test_known_counts_of_each_kind(summary: dict) -> None:
    counts = words(summary)["counts"]
    assert counts["by_status"] == {
        "ok": 2, "constant_prediction": 1, "undefined_truth": 1, "insufficient_data": 1,
        "failed": 2, "dead": 1, "not_run": 1, "staged": 0,
    }  # fmt: skip
    assert (counts["selected"], counts["dead"], counts["failed"]) == (9, 1, 2)
    assert counts["explained"] == 7  # not the dead one, not the one whose explanation failed
    assert counts["scored"] == 3
    assert words(summary)["coverage"] == pytest.approx(3 / 9)


def test_a_score_whose_requests_failed_in_part_is_counted_as_incomplete(summary: dict) -> None:
    assert words(summary)["counts"]["incomplete"] == 0
    results = every_kind()
    units = list(results.units)
    place = next(
        i for i, u in enumerate(units) if "words" in u.scores and u.scores["words"].status == "ok"
    )
    score = replace(units[place].scores["words"], details={FAILED_REQUESTS: 2})
    units[place] = replace(units[place], scores={**units[place].scores, "words": score})
    counts = words(summarise(replace(results, units=tuple(units))))["counts"]
    assert (counts["incomplete"], counts["scored"]) == (1, 3)


def test_constant_prediction_counts_zero_in_means_and_is_flagged(summary: dict) -> None:
    score = words(summary)["score"]
    assert score["excluded"]["n"] == 3
    assert score["excluded"]["mean"] == pytest.approx((0.5 + 0.3 + 0.0) / 3)
    assert score["n_constant_prediction"] == 1


def test_lift_of_a_constant_prediction_is_minus_its_control(summary: dict) -> None:
    lift = words(summary)["lift"]
    assert lift["excluded"]["mean"] == pytest.approx((0.4 + 0.2 - 0.1) / 3)
    assert lift["excluded"]["median"] == pytest.approx(0.2)


def test_undefined_scores_are_left_out_in_one_mean_and_zero_in_the_other(summary: dict) -> None:
    score = words(summary)["score"]
    assert score["excluded"]["n_undefined_left_out"] == 2
    assert score["as_zero"]["n"] == 5
    assert score["as_zero"]["mean"] == pytest.approx(0.8 / 5)


def test_failed_and_unrun_units_give_worst_case_bounds(summary: dict) -> None:
    assert words(summary)["score"]["worst_case"] == {
        "n_unknown": 3,
        "low": pytest.approx((0.8 - 3) / 6),
        "high": pytest.approx((0.8 + 3) / 6),
    }
    assert words(summary)["lift"]["worst_case"]["high"] == pytest.approx((0.5 + 6) / 6)
    assert summary["sources"]["neurons"]["explainers"]["words"]["score"]["worst_case"] is None


def test_interval_of_a_small_mean_is_student_t(summary: dict) -> None:
    found = words(summary)["score"]["excluded"]
    values = [0.5, 0.3, 0.0]
    half = scipy_stats.t.ppf(0.975, 2) * stdev(values) / math.sqrt(3)
    assert found["interval"]["low"] == pytest.approx(fmean(values) - half)
    assert found["interval"]["high"] == pytest.approx(fmean(values) + half)


def test_share_of_positive_lifts_has_the_exact_interval(summary: dict) -> None:
    positive = words(summary)["lift"]["positive"]
    assert (positive["n"], positive["of"]) == (2, 3)
    exact = scipy_stats.binomtest(2, 3).proportion_ci(0.95, method="exact")
    assert positive["interval"]["low"] == pytest.approx(exact.low)
    assert positive["interval"]["high"] == pytest.approx(exact.high)


def test_controls_are_averaged_over_units_that_have_a_lift(summary: dict) -> None:
    controls = words(summary)["controls"]
    assert controls["n_units"] == 3
    assert controls["n_controls"] == 6
    assert controls["mean"] == pytest.approx(0.1)


def test_lookup_baseline_is_paired_on_units_that_both_have_scored(summary: dict) -> None:
    lookup = words(summary)["lookup"]["token_lookup"]
    # Units 0 and 1 (look-up 0.5, 0.3) and the constant one (0.6 against 0).
    assert lookup["n_pairs"] == 3
    assert lookup["mean_score"] == pytest.approx((0.5 + 0.3 + 0.6) / 3)
    assert lookup["mean_difference"] == pytest.approx(-0.6 / 3)
    assert summary["sources"]["features"]["explainers"]["token_lookup"]["lookup"] == {}


def test_summary_is_json_without_nan_and_the_same_each_time(summary: dict) -> None:
    text = json.dumps(summary, allow_nan=False)
    assert text == json.dumps(summarise(every_kind()), allow_nan=False)


def test_no_lift_is_reported_where_nothing_was_shuffled() -> None:
    unit = UnitId("features", 0)
    scores = {name: score_of(unit, name, 0.4, control=None) for name in EXPLAINERS}
    group = summarise(run_of([unit_of(unit, scores)], ["features"]))["sources"]["features"]
    assert group["explainers"]["words"]["lift"] is None
    assert group["explainers"]["words"]["counts"]["with_lift"] == 0
    assert group["explainers"]["words"]["score"]["excluded"]["interval"] is None


def test_a_source_without_units_has_no_numbers_and_no_error() -> None:
    found = summarise(run_of([], ["features"]))["sources"]["features"]
    assert found["firing_rate"]["median"] is None
    assert found["explainers"]["words"]["coverage"] is None
    assert found["explainers"]["words"]["score"]["excluded"]["mean"] is None


def test_a_score_that_claims_ok_without_a_finite_number_is_failed() -> None:
    unit = UnitId("features", 0)
    result = unit_of(unit, {"words": score_of(unit, "words", float("nan"))})
    assert outcome_of(result, "words").status is Status.FAILED


def test_best_explainer_has_words_and_the_highest_mean_lift() -> None:
    unit = UnitId("features", 0)
    scores = {"words": 0.2, "top_tokens": 0.4, "token_lookup": 0.9}
    assert best_explainer(run_of([unit_of(unit, scores)])) == "top_tokens"
    assert best_explainer(run_of([])) == "words"


def test_units_without_a_score_are_told_below_the_table() -> None:
    console = Console(record=True, width=100)
    print_summary({**summarise(every_kind()), "comparisons": []}, console)
    told = console.export_text()
    assert "no score, features under words: " in told
    assert "1 dead" in told and "insufficient data" in told
    assert "explanations.jsonl" in told
