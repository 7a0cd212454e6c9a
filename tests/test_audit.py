"""The best units are scored again on documents held back, and the reading is logged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from autointerp.audit import _regression, audit_run, audit_scorer
from autointerp.cli import app
from autointerp.records import AutointerpError, Score, Split, Status, UnitId
from autointerp.runner import Run, run
from autointerp.scorers import SimulationScorer
from autointerp.store import RunStore
from autointerp.verify import verify_run
from tests.run_helpers import small_config

EXPLAINERS = [{"name": "token_lookup", "type": "token_lookup"}]


@pytest.fixture(scope="module")
def audited(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    config = small_config(folder, tiny_folder, explainers=EXPLAINERS, units={"sample": 6})
    run(config)
    return folder / "run"


def test_a_dry_audit_says_the_cost_and_reads_nothing(audited: Path) -> None:
    found = audit_run(audited, dry=True)
    (cost,) = found["cost"]
    assert cost["n_explanations"] == 4 and cost["n_simulations"] == 4 * 3
    assert cost["most_usd"] == 0 and found["groups"] == []
    assert not (audited / "audit_log.jsonl").exists()


def test_selected_and_other_units_are_scored_on_audit_windows_and_verified(audited: Path) -> None:
    found = audit_run(audited, top=0.3)
    (group,) = found["groups"]
    assert group["selected"]["n"] == group["reference"]["n"] == 2
    for part in (group["selected"]["lift"], group["reference"]["score"]):
        assert part["fallen_by"] == pytest.approx(part["test"] - part["audit"])
    assert group["selected"]["lift"]["test"] > group["reference"]["lift"]["test"]
    store = RunStore(audited)
    scores = [score for score in store.scores() if score.scorer == "audit"]
    store.close()
    assert len(scores) == 4 and {score.split for score in scores} == {Split.AUDIT}
    verified = verify_run(audited)
    assert verified.is_exact and verified.n_recomputed == 6 + 4
    assert json.loads((audited / "audit.json").read_text()) == found


def test_every_reading_is_logged_and_the_second_computes_nothing(audited: Path) -> None:
    audit_run(audited, top=0.3)
    lines = (audited / "audit_log.jsonl").read_text().splitlines()
    before = RunStore(audited).ledger_totals()
    result = CliRunner().invoke(app, ["audit", str(audited), "--top", "0.3"])
    assert result.exit_code == 0, result.output
    after = (audited / "audit_log.jsonl").read_text().splitlines()
    assert len(after) == len(lines) + 1 and len(json.loads(after[-1])["units"]) == 4
    assert RunStore(audited).ledger_totals() == before


def unaudited(audited: Path, tmp_path: Path) -> Path:
    """A copy of the run without its scores on `audit`."""
    folder = tmp_path / "run"
    shutil.copytree(audited, folder)
    store = RunStore(folder)
    with store.database as db:
        db.execute("DELETE FROM scores WHERE scorer = 'audit'")
    store.close()
    return folder


def test_a_score_that_fails_on_audit_keeps_no_number_of_test(
    audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unaudited(audited, tmp_path)

    def down(*_: object) -> None:
        raise AutointerpError("the simulator is gone")

    monkeypatch.setattr("autointerp.scorers.simulation.SimulationScorer._score", down)
    (group,) = audit_run(folder, top=0.3)["groups"]
    assert group["selected"]["by_status"] == {"failed": 2}
    store = RunStore(folder)
    scores = [score for score in store.scores() if score.scorer == "audit"]
    store.close()
    assert len(scores) == 4
    for score in scores:
        assert (score.status, score.split) == (Status.FAILED, Split.AUDIT)
        assert score.reason == "the simulator is gone"
        assert (score.value, score.n_tokens, score.details) == (None, 0, {})


def test_scores_without_a_number_are_counted_with_their_reason(
    audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unaudited(audited, tmp_path)

    def demanding(run: Run, unit: UnitId) -> SimulationScorer:
        return replace(audit_scorer(run, unit), min_active_documents=99)

    monkeypatch.setattr("autointerp.audit.audit_scorer", demanding)
    for options in (["--dry"], []):
        result = CliRunner().invoke(app, ["audit", str(folder), "--top", "0.3", *options])
        assert result.exit_code == 0, result.output
        assert "4 not scored: insufficient_data (active in " in result.output
    (missing,) = json.loads((folder / "audit.json").read_text())["missing"]
    assert missing["n"] == 4 and missing["reason"].endswith("99 needed")


def test_a_design_that_draws_few_audit_windows_can_be_audited(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Four active documents are asked for, and three windows are drawn: two are enough."""
    quotas = {
        "test": {"top": 1, "intervals": 4, "hard": 0, "silent": 2},
        "audit": {"top": 1, "intervals": 2, "hard": 0, "silent": 1},
    }
    run(
        small_config(
            tmp_path, tiny_folder, explainers=EXPLAINERS, units={"sample": 4},
            record={"design": {"name": "few", "quotas": quotas}},
        )
    )  # fmt: skip
    (group,) = audit_run(tmp_path / "run", top=0.5)["groups"]
    scored = [group[part]["score"]["n"] for part in ("selected", "reference")]
    assert sum(scored) > 0
    assert verify_run(tmp_path / "run").is_exact


def test_scores_of_pure_luck_fall_to_their_mean_when_the_best_are_chosen() -> None:
    """test = audit = noise: the best quarter's mean on test is 1.27 sd, on audit 0."""
    generator = np.random.default_rng(0)
    test, audit = generator.normal(0, 0.1, (2, 4000))
    base = Score(UnitId("u", 0), "", "e", "simulation", "s", 0.0, Status.OK, "k")
    best = np.argsort(-test)[:1000]
    pairs = [(replace(base, lift=test[i]), replace(base, lift=audit[i])) for i in best]
    found = _regression(pairs, 0)["lift"]
    assert found["test"] == pytest.approx(0.127, abs=0.005)
    assert found["fallen_by"] == pytest.approx(0.127, abs=0.01)
    assert found["interval"]["low"] < 0.127 < found["interval"]["high"]


def test_a_folder_without_scores_and_a_wrong_share_are_refused(
    audited: Path, tmp_path: Path
) -> None:
    with pytest.raises(AutointerpError, match="holds no run"):
        audit_run(tmp_path)
    with pytest.raises(AutointerpError, match="top must be a share"):
        audit_run(audited, top=1.5)
