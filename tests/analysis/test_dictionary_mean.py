"""Means of a dictionary from the tables of a run."""

import json
from pathlib import Path

import numpy as np
import pytest

from autointerp.analysis.dictionary_mean import dictionary_mean
from autointerp.records import UnitId, UsageError
from autointerp.stats import prediction_powered_mean
from tests.stats.score_populations import cheap_scores, lifts

from .run_folders import write_run
from .synthetic import run_of, unit_of

N = 120


def two_scorers(folder: Path, *, n_gold: int = N, **config: object) -> tuple[Path, np.ndarray]:
    """A run of `N` features; the first `n_gold` have a lift by simulation, all one by detection."""
    rng = np.random.default_rng(0)
    gold = lifts(rng, N)
    cheap = cheap_scores(rng, gold, 0.9)
    # The synthetic controls score 0.1.
    units = [unit_of(UnitId("features", i), float(x) + 0.1) for i, x in enumerate(gold)]
    write_run(folder, run_of(units, ("features",)), **config)
    path = folder / "explanations.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        own = row["scores"]["simulation"]
        row["scores"]["detection"] = {**own, "lift": float(cheap[row["index"]]), "score": 0.8}
        if row["index"] >= n_gold:
            own.update(status="staged", score=None, lift=None, reason="decided by detection")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = json.loads((folder / "summary.json").read_text())
    summary["scorers"]["detection"] = summary["scorers"]["simulation"]
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder, np.stack([gold, cheap])


def test_units_that_a_cascade_left_out_are_the_rest(tmp_path: Path) -> None:
    cascade = {"stages": ["detection", "simulation"]}
    folder, scores = two_scorers(tmp_path / "run", n_gold=30, cascade=cascade)
    found = dictionary_mean(folder, explainers=["words"]).rows[0]
    assert (found["n_gold"], found["n_cheap_only"]) == (30, 90)
    exact = prediction_powered_mean(scores[0, :30], scores[1, :30], scores[1, 30:], seed=0)
    assert found["units_like_these"]["mean"] == pytest.approx(exact.value)
    assert found["units_like_these"]["error"] == pytest.approx(exact.error)
    interval = found["these_units"]["interval"]
    assert interval["low"] <= scores[0].mean() <= interval["high"]


def test_a_share_of_the_gold_scores_shows_what_a_cascade_would_know(tmp_path: Path) -> None:
    folder, scores = two_scorers(tmp_path / "run")
    found = dictionary_mean(
        folder, gold="simulation", cheap="detection", gold_share=0.25, explainers=["words"]
    ).rows[0]
    assert (found["n_gold"], found["n_cheap_only"]) == (30, 90)
    interval = found["these_units"]["interval"]
    assert interval["low"] <= scores[0].mean() <= interval["high"]
    assert found["units_like_these"]["gain"] > 2
    again = dictionary_mean(
        folder, gold="simulation", cheap="detection", gold_share=0.25, explainers=["words"]
    ).rows[0]
    assert again == found


def test_with_all_gold_scores_it_is_the_plain_mean(tmp_path: Path) -> None:
    folder, scores = two_scorers(tmp_path / "run")
    found = dictionary_mean(folder, gold="simulation", cheap="detection").rows[0]
    assert found["units_like_these"]["mean"] == pytest.approx(scores[0].mean())
    assert found["these_units"]["interval"] is None


def test_gold_units_without_a_score_are_counted_and_told(tmp_path: Path) -> None:
    folder, _ = two_scorers(tmp_path / "run")
    path = folder / "explanations.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:10]:
        row["scores"]["simulation"].update(status="failed", score=None, lift=None)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = dictionary_mean(folder, gold="simulation", cheap="detection")
    assert sum(row["n_gold_without_score"] for row in found.rows) > 0
    assert any("have no gold score" in note for note in found.notes)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "is no cascade"),
        ({"gold": "simulation", "cheap": "simulation"}, "needs two scorers"),
        ({"gold": "taste", "cheap": "detection"}, "no such scorer"),
        ({"gold": "simulation", "cheap": "detection", "measure": "joy"}, "lift or score"),
        ({"gold": "simulation", "cheap": "detection", "gold_share": 2}, "--gold-share 2"),
        ({"gold": "simulation", "cheap": "detection", "sources": ["x"]}, "no source 'x'"),
        ({"gold": "simulation", "cheap": "detection", "explainers": ["x"]}, "no explainer 'x'"),
        ({"gold": "simulation", "cheap": "detection", "level": 95}, "--level 95"),
    ],
)
def test_a_mean_that_cannot_be_is_refused(tmp_path: Path, given: dict, said: str) -> None:
    folder, _ = two_scorers(tmp_path / "run")
    with pytest.raises(UsageError, match=said):
        dictionary_mean(folder, **given)


def test_the_command_prints_means_and_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from typer.testing import CliRunner

    from autointerp.cli import app

    folder, _ = two_scorers(tmp_path / "run")
    arguments = ["mean", str(folder), "--gold", "simulation", "--cheap", "detection"]
    shown = CliRunner().invoke(app, [*arguments, "--gold-share", "0.3"])
    assert shown.exit_code == 0, shown.output
    assert "helped by detection" in shown.output
    machine = CliRunner().invoke(app, [*arguments, "--gold-share", "0.3", "--json"])
    assert json.loads(machine.output)["rows"][0]["n_gold"] == 36
    refused = CliRunner().invoke(app, ["mean", str(folder), "--gold", "taste"])
    assert refused.exit_code == 2
