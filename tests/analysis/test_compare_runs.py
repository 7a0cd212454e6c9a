import csv
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from autointerp.analysis.compare import compare_sources
from autointerp.analysis.compare_runs import compare_runs, write_comparison
from autointerp.analysis.groups import layer_in
from autointerp.analysis.results import RunResults
from autointerp.records import AutointerpError, Status, UnitId, UsageError

from .run_folders import write_run
from .synthetic import judged_run, run_of, score_of, unit_of

LOW = [0.05, 0.1, 0.15, 0.2, 0.1, 0.12, 0.08, 0.18, 0.11, 0.16]


def sources(a: list[float], b: list[float], **more: Any) -> RunResults:
    units = [unit_of(UnitId("features", i), x) for i, x in enumerate(a)]
    return run_of([*units, *(unit_of(UnitId("neurons", i), x) for i, x in enumerate(b))], **more)


def explained_twice(better: float, status: Status = Status.OK) -> RunResults:
    """Ten features whose words score `better` above the top tokens; one of another status."""
    units = []
    for i, x in enumerate(LOW):
        unit = UnitId("features", i)
        words = score_of(unit, "words", x + better + 0.01 * (i % 3))
        if i == 0 and status is not Status.OK:
            words = score_of(unit, "words", None, status)
        units.append(unit_of(unit, {"words": words, "top_tokens": x, "token_lookup": 0.3}))
    return run_of(units, ("features",))


def test_a_folder_gives_what_the_results_in_memory_give(tmp_path: Path) -> None:
    results = sources([x + 0.3 for x in LOW], LOW)
    folder = write_run(tmp_path / "run", results)
    found = compare_runs([folder], explainers=["words"]).comparisons[0]
    expected = compare_sources(results, "features", "neurons", "words")
    for name in ("mean_a", "mean_b", "difference", "cliffs_delta", "n_a", "n_b"):
        assert found["excluded"][name] == expected["excluded"][name]
    assert found["conclusion"] == expected["conclusion"] == "a_higher"
    assert found["design"] == "independent"


def test_two_explainers_of_the_same_units_are_paired(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", explained_twice(0.3))
    found = compare_runs([folder], by="explainer", explainers=["words", "top_tokens"])
    (comparison,) = found.comparisons
    paired = comparison["paired"]
    differences = [0.3 + 0.01 * (i % 3) for i in range(10)]
    assert (comparison["design"], paired["n_pairs"]) == ("paired", 10)
    assert paired["difference"] == pytest.approx(fmean(differences))
    assert paired["share_a_higher"] == 1.0
    assert paired["p_value"] == pytest.approx(2 / 2**10)  # exact: all signs, and none
    assert "explanations by words have a higher mean lift" in comparison["verdict"]
    assert "10 units, paired" in comparison["verdict"]
    assert "firing rate" not in comparison["verdict"]


def test_a_unit_without_a_lift_in_one_arm_is_left_out_of_both_or_counts_zero(
    tmp_path: Path,
) -> None:
    results = explained_twice(0.3, Status.INSUFFICIENT_DATA)
    folder = write_run(tmp_path / "run", results)
    found = compare_runs([folder], by="explainer", explainers=["words", "top_tokens"])
    paired = found.comparisons[0]["paired"]
    assert (paired["n_shared"], paired["n_pairs"], paired["as_zero"]["n_pairs"]) == (10, 9, 10)
    zero = [0.0 - (LOW[0] - 0.1), *[0.3 + 0.01 * (i % 3) for i in range(1, 10)]]
    assert paired["as_zero"]["difference"] == pytest.approx(fmean(zero))
    assert "10 units on both sides 1 without a lift" in found.comparisons[0]["verdict"]


def test_two_runs_over_the_same_records_are_paired_and_others_are_not(tmp_path: Path) -> None:
    one = replace(explained_twice(0.3), name="one")
    two = replace(explained_twice(0.1), name="two")
    first = write_run(tmp_path / "one", one)
    same = write_run(tmp_path / "two", two)
    other = write_run(tmp_path / "three", replace(two, name="three"), records="r2")
    paired = compare_runs([first, same], explainers=["words"]).comparisons[0]
    assert (paired["by"], paired["design"]) == ("run", "paired")
    assert paired["paired"]["difference"] == pytest.approx(0.2)
    apart = compare_runs([first, other], explainers=["words"]).comparisons[0]
    assert (apart["design"], apart["paired"]) == ("independent", None)


def test_runs_of_different_designs_are_refused_unless_told(tmp_path: Path) -> None:
    results = explained_twice(0.3)
    first = write_run(tmp_path / "one", replace(results, name="one"))
    second = write_run(tmp_path / "two", replace(results, name="two"), corpus={"window_length": 64})
    with pytest.raises(UsageError, match=r"window_length is 32 in one and 64 in two"):
        compare_runs([first, second])
    found = compare_runs([first, second], allow_different_designs=True)
    assert "Differing designs" in found.notes[0]


def test_units_are_grouped_by_layer_and_by_keys_of_the_config(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", sources(LOW, LOW))
    found = compare_runs([folder], by="layer", explainers=["words"])
    assert found.groups == ("3", "10")  # in the order of numbers
    assert "layer 3" in found.comparisons[0]["verdict"]
    assert compare_runs([folder], by="type", explainers=["words"]).groups == ("sae", "neurons")
    with pytest.raises(UsageError, match=r"--by flavour: no unit has it; there are source"):
        compare_runs([folder], by="flavour")
    with pytest.raises(UsageError, match="one group only, '2048'"):
        compare_runs([folder], by="width")


def test_groups_by_firing_rate_say_nothing_of_matched_rates(tmp_path: Path) -> None:
    units = [
        unit_of(UnitId("features", i), x, density=0.002 if i < 5 else 0.05)
        for i, x in enumerate(LOW)
    ]
    folder = write_run(tmp_path / "run", run_of(units, ("features",)))
    found = compare_runs([folder], by="density", explainers=["words"])
    assert found.groups == ("0.1 % to 1 % of tokens", "1 % to 10 % of tokens")
    assert "rate-matched" not in found.comparisons[0]["verdict"]


def test_groups_by_firing_rate_stand_from_the_rarest_to_the_densest(tmp_path: Path) -> None:
    units = [
        unit_of(UnitId("features", i), x, density=(0.05, 0.0004, 0.002)[i % 3])
        for i, x in enumerate(LOW)
    ]
    folder = write_run(tmp_path / "run", run_of(units, ("features",)))
    found = compare_runs([folder], by="density")
    for explainer in {summary["explainer"] for summary in found.summaries}:
        own = [s["group"] for s in found.summaries if s["explainer"] == explainer]
        assert own == list(found.groups) and len(own) == 3
    assert [float(name.split()[0]) for name in found.groups] == [0.01, 0.1, 1]


def test_thin_support_shows_the_difference_inside_the_rates_that_both_have(
    tmp_path: Path,
) -> None:
    features = [
        unit_of(UnitId("features", i), x + 0.4, density=0.011 if i < 2 else 0.0004)
        for i, x in enumerate(LOW)
    ]
    neurons = [
        unit_of(UnitId("neurons", i), x, density=0.09 if i < 8 else 0.4) for i, x in enumerate(LOW)
    ]
    folder = write_run(tmp_path / "run", run_of([*features, *neurons]))
    found = compare_runs([folder], explainers=["words"]).comparisons[0]
    assert not found["rate_matched"]["has_support"]
    (part,) = found["rate_intervals"]
    assert (part["low"], part["n_a"], part["n_b"]) == (pytest.approx(0.01), 2, 8)
    assert "Inside the intervals of firing rate that both have" in found["verdict"]


def test_every_scorer_is_compared_on_request(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", judged_run())
    assert {c["scorer"] for c in compare_runs([folder]).comparisons} == {"simulation"}
    found = compare_runs([folder], scorers=["all"])
    assert {c["scorer"] for c in found.comparisons} == {"simulation", "detection"}
    detection = next(s for s in found.summaries if s["scorer"] == "detection")
    assert detection["chance"] == pytest.approx(0.4)
    with pytest.raises(UsageError, match=r"no scorer 'taste'; there are simulation, detection"):
        compare_runs([folder], scorers=["taste"])


def test_p_values_are_adjusted_over_all_comparisons_made(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", sources([x + 0.3 for x in LOW], LOW))
    found = compare_runs([folder])
    assert [c["n_comparisons"] for c in found.comparisons] == [3, 3, 3]
    for c in found.comparisons:
        assert c["p_adjusted"] >= c["excluded"]["p_value"]


def test_files_hold_all_numbers_and_no_formula(tmp_path: Path) -> None:
    results = replace(sources(LOW, LOW), name="=run")
    folder = write_run(tmp_path / "run", results)
    found = compare_runs([folder])
    written = write_comparison(found, tmp_path / "out")
    assert {path.name for path in written} == {
        *("comparison.json", "comparisons.csv", "groups.csv", "comparison.png", "comparison.svg")
    }
    whole = json.loads((tmp_path / "out/comparison.json").read_text())
    assert whole["comparisons"] == json.loads(json.dumps(found.as_json()))["comparisons"]
    with (tmp_path / "out/groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert sum(int(row["n_ok"]) for row in rows) == sum(int(row["n_scored"]) for row in rows)
    first = (tmp_path / "out/comparison.svg").read_bytes()
    write_comparison(found, tmp_path / "out")
    assert (tmp_path / "out/comparison.svg").read_bytes() == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema_version": 1}\n', "version 1, this autointerp reads 2"),
        ('{"schema_version": 2, "unit": 3}\n', "line 1: unit: Input should be a valid string"),
        ("not json\n", "line 1"),
        ("", "holds no unit"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_the_remedy(
    text: str, message: str, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run", sources(LOW, LOW))
    (folder / "explanations.jsonl").write_text(text)
    with pytest.raises(AutointerpError, match=message):
        compare_runs([folder])


def test_a_folder_without_a_run_and_a_run_given_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match=r"is no folder: expected explanations\.jsonl"):
        compare_runs([tmp_path / "nothing"])
    folder = write_run(tmp_path / "run", sources(LOW, LOW))
    with pytest.raises(AutointerpError, match="given twice"):
        compare_runs([folder, folder])


@pytest.mark.parametrize(
    ("hook_point", "layer"),
    [
        ("blocks.10.mlp.hook_post", 10),
        ("model.layers.3.self_attn.o_proj:input", 3),
        ("transformer.h.7:output", 7),
        ("hook_embed", None),
        ("", None),
    ],
)
def test_a_hook_point_names_its_layer(hook_point: str, layer: int | None) -> None:
    assert layer_in(hook_point) == layer


def test_runs_that_scored_other_windows_of_one_design_are_refused(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("one", "two"))
    units = [unit_of(UnitId("features", i), 0.1 * i) for i in range(8)]
    results = run_of(units, ("features",))
    write_run(first, results)
    write_run(second, results, score={"windows": "top_and_random"})
    with pytest.raises(UsageError, match=r"score\.windows is 'partition'"):
        compare_runs([first, second])


def test_another_setting_of_a_scorer_of_one_name_is_told(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("one", "two"))
    units = [unit_of(UnitId("features", i), 0.1 * i) for i in range(8)]
    results = run_of(units, ("features",))
    plain = {"name": "detection", "type": "detection"}
    write_run(first, results, scorers=[plain])
    write_run(second, results, scorers=[{**plain, "negatives": ["silent"]}])
    notes = compare_runs([first, second]).notes
    assert any("scorer detection asks differs" in note for note in notes)
