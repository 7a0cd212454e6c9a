import csv
import json
from dataclasses import replace
from pathlib import Path

from autointerp.analysis.tables import (
    SCORE_COLUMNS,
    TABLES_VERSION,
    explanation_rows,
    n_in_control_mean,
    score_rows,
    write_explanations,
    write_scores,
)
from autointerp.records import Status, UnitId

from .synthetic import EXPLAINERS, every_kind, judged_run, run_of, unit_of


def test_every_unit_and_explainer_has_one_row() -> None:
    results = every_kind()
    rows = list(explanation_rows(results))
    assert len(rows) == len(results.units) * len(EXPLAINERS)
    assert len({(row["unit"], row["explainer"]) for row in rows}) == len(rows)
    assert {row["schema_version"] for row in rows} == {TABLES_VERSION}


def test_a_row_holds_score_lift_controls_and_keys() -> None:
    row = next(explanation_rows(every_kind()))
    assert (row["unit"], row["explainer"], row["status"]) == ("features/0", "words", "ok")
    assert row["explanation_key"] == "e-features/0-words"
    score = row["scores"]["simulation"]
    assert (score["status"], score["metric"], score["chance"]) == ("ok", "correlation", 0.0)
    assert score["score"] == 0.5
    assert score["lift"] == 0.4
    assert score["lookup_score"] == 0.5
    assert [control["score"] for control in score["controls"]] == [0.1, 0.1]
    assert score["controls"][0]["donor"] == "features/1"
    assert score["key"] == "s-features/0-words"
    assert score["score_interval"]["level"] == 0.95


def test_missing_numbers_are_null_with_a_status_and_a_reason(tmp_path: Path) -> None:
    write_explanations(every_kind(), tmp_path / "explanations.jsonl")
    lines = (tmp_path / "explanations.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {(row["unit"], row["explainer"]): row for row in map(json.loads, lines)}
    row = rows["features/6", "words"]
    failed = row["scores"]["simulation"]
    assert (failed["score"], failed["status"], failed["stage"]) == (None, "failed", "explanation")
    assert row["reason"] == failed["reason"] == "the answer repeated the question"
    assert (row["explanation"], row["status"]) == (None, "failed")
    assert rows["features/7", "words"]["status"] == "dead"
    constant = rows["features/2", "words"]
    assert constant["status"] == "ok"
    assert constant["scores"]["simulation"]["status"] == "constant_prediction"


def test_scores_csv_has_empty_cells_where_numbers_are_missing(tmp_path: Path) -> None:
    write_scores(every_kind(), tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == SCORE_COLUMNS
    undefined = next(r for r in rows if r["unit"] == "features/3" and r["explainer"] == "words")
    assert (undefined["score"], undefined["lift"]) == ("", "")
    assert undefined["status"] == "undefined_truth"
    assert float(rows[0]["score_low"]) == 0.4
    assert len(rows) == len(list(score_rows(every_kind())))


def test_texts_that_a_model_wrote_never_reach_the_spreadsheet(tmp_path: Path) -> None:
    unit = unit_of(UnitId("features", 0), 0.5, text='=HYPERLINK("http://x")')
    write_scores(run_of([unit]), tmp_path / "scores.csv")
    assert "HYPERLINK" not in (tmp_path / "scores.csv").read_text(encoding="utf-8")


def test_a_polarity_is_part_of_the_row() -> None:
    rows = [row for row in explanation_rows(every_kind()) if row["unit"] == "neurons/1-"]
    assert {row["polarity"] for row in rows} == {-1}


def test_unicode_and_newlines_stay_on_one_line(tmp_path: Path) -> None:
    unit = unit_of(UnitId("features", 0), 0.5, text="线\u2028 two\nlines \U0001f600")
    write_explanations(run_of([unit]), tmp_path / "e.jsonl")
    lines = (tmp_path / "e.jsonl").read_text(encoding="utf-8").split("\n")
    assert len(lines) == len(EXPLAINERS) + 1
    assert json.loads(lines[0])["explanation"] == "线\u2028 two\nlines \U0001f600"


def test_every_scorer_has_a_row_with_its_own_chance() -> None:
    results = judged_run()
    rows = list(score_rows(results))
    assert len(rows) == len(results.units) * len(EXPLAINERS) * 2
    own = {r["scorer"]: r for r in rows if r["unit"] == "features/0" and r["explainer"] == "words"}
    assert (own["simulation"]["score"], own["simulation"]["chance"]) == (0.5, 0.0)
    assert (own["detection"]["score"], own["detection"]["chance"]) == (0.8, 0.4)
    assert own["detection"]["metric"] == "average precision"


def test_a_scorer_that_was_not_run_is_said_so_and_has_no_number() -> None:
    rows = [r for r in score_rows(judged_run()) if r["scorer"] == "detection"]
    missing = [r for r in rows if r["unit"] == "neurons/0"]
    assert {(r["status"], r["score"], r["chance"]) for r in missing} == {
        (str(Status.NOT_RUN), None, None)
    }


def test_controls_of_the_mean_are_counted_and_no_others() -> None:
    controls = [
        {"name": name, "status": status}
        for name, status in [
            ("shuffled", "ok"), ("shuffled", "constant_prediction"), ("shuffled", "failed"),
            ("permuted", "ok"), ("sign_flip", "ok"), ("mixture", "not_run"),
        ]
    ]  # fmt: skip
    assert n_in_control_mean(controls) == 2


def test_a_score_without_lift_says_why() -> None:
    unit = unit_of(UnitId("features", 0), 0.5)
    (name, score), *_ = unit.scores.items()
    alone = replace(score, controls=(), control_mean=None, lift=None, lift_interval=None)
    rows = explanation_rows(run_of([replace(unit, scores={**unit.scores, name: alone})]))
    facts = next(row for row in rows if row["explainer"] == name)["scores"]["simulation"]
    assert facts["status"] == "ok" and facts["lift"] is None
    assert facts["reason"].startswith("no lift: there is no other unit's explanation")
