"""Judges of known skill on the known answers: the check ranks them as they deserve."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from autointerp.analysis.check_judge import check_judge
from autointerp.analysis.known_answers import GROUPS, TEXTS, known_answers, oracle_of
from autointerp.cli import app
from autointerp.simulators import Constant, Inverted, NoisyOracle


@pytest.fixture(scope="module")
def answers():
    return known_answers()


@pytest.fixture(scope="module")
def reports(answers):
    oracle = oracle_of(answers)
    judges = {
        "oracle": oracle,
        "noisy": NoisyOracle(oracle, snr=1.0),
        "constant": Constant(3.0),
        "inverted": Inverted(oracle),
    }
    return {name: check_judge(judge, answers) for name, judge in judges.items()}


def test_there_are_sixty_units_of_twenty_kinds(answers):
    assert len(answers) >= 60
    assert len({a.kind for a in answers}) == 20
    assert {k for kinds in GROUPS.values() for k in kinds} == {
        a.kind for a in answers if a.readable
    }


def test_judges_are_ranked_oracle_noisy_constant_inverted(reports):
    margins = [
        reports[name].groups[0].margin for name in ("oracle", "noisy", "constant", "inverted")
    ]
    assert margins == sorted(margins, reverse=True)
    assert margins[0] > 0.95 and margins[2] == 0 and margins[3] < -0.95


def test_the_oracle_puts_every_true_explanation_first(reports):
    for unit in reports["oracle"].units:
        assert unit.correlations["true"] == pytest.approx(1.0, abs=1e-6)
        assert all(unit.correlations[false] < 0.97 for false in TEXTS[1:]), unit
    whole = reports["oracle"].groups[0]
    assert whole.auc == 1.0
    assert all(won.share == 1.0 and won.beyond_chance for won in whole.against.values())


def test_a_noisy_oracle_reaches_the_correlation_of_its_noise(reports):
    assert reports["noisy"].groups[0].mean_true == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_verdicts_claim_what_the_intervals_show(reports):
    assert reports["oracle"].verdict == (
        "Tells true explanations from unrelated ones on units of tokens, context and whole text; "
        "ranks them above near misses on units of tokens, context and whole text."
    )
    for name in ("constant", "inverted"):
        assert reports[name].verdict.startswith("Not fit to judge")


def test_a_constant_judge_is_at_chance_and_not_below(reports):
    assert reports["constant"].groups[0].auc == 0.5


def test_the_report_is_plain_data(reports):
    text = json.dumps(reports["noisy"].as_dict())
    assert json.loads(text)["groups"][0]["margin"] == pytest.approx(
        reports["noisy"].groups[0].margin
    )


def test_degenerate_units_are_not_judged(reports, answers):
    judged = {unit.unit for unit in reports["oracle"].units}
    for answer in answers:
        assert (answer.unit in judged) == answer.readable
        if answer.kind in ("constant", "zero"):
            assert all(np.ptp(truth) == 0 for truth in answer.truth)
            assert answer.expected_status == "undefined_truth"


def test_judges_are_compared_from_their_reports_the_best_first(reports, tmp_path):
    files = []
    for name in ("constant", "oracle"):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(reports[name].as_dict()))
    given = [part for file in files for part in ("--compare", str(file))]
    result = CliRunner().invoke(app, ["check-judge", *given], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert 0 < result.output.index("oracle.json") < result.output.index("constant.json")


def test_a_file_that_is_no_report_is_refused_by_name(tmp_path):
    (tmp_path / "no.json").write_text("[]")
    result = CliRunner().invoke(app, ["check-judge", "--compare", str(tmp_path / "no.json")])
    assert result.exit_code == 2


def test_the_embedded_simulator_is_checked_without_naming_a_model(monkeypatch):
    """And about so many units only: of few, nothing can be told."""
    seen = {}

    def loaded(name, **options):
        seen.update(options, name=name)
        return Constant(3.0)

    monkeypatch.setattr("autointerp.simulators.load_simulator", loaded)
    asked = ["check-judge", "--simulator", "embedded", "--units", "6", "--json"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert seen == {"name": "embedded"}
    report = json.loads(result.stdout)
    assert len(report["units"]) == 6 and report["verdict"].startswith("Too few to tell")
    CliRunner().invoke(app, ["check-judge", "--units", "6"])
    assert seen == {"name": "all_at_once", "model": "smollm2"}
