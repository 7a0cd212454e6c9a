"""The scorers that touch the subject, in a run from config to stored scores."""

import pytest

from autointerp.estimate import estimate_run
from autointerp.records import Status
from autointerp.runner import run
from autointerp.store import RunStore
from tests.run_helpers import small_config, write_dictionary

FREE = [
    {"name": "injection", "type": "injection", "n_windows": 4},
    {"name": "ablation", "type": "ablate_to_simulation", "n_windows": 4},
    {"name": "steered", "type": "intervention_surprisal", "kl": 0.2},
]
JUDGED = [
    {"name": "written", "type": "generative", "n_texts": 2},
    {"name": "choice", "type": "output_choice", "n_trials": 2, "n_shown": 3, "kl": 0.2},
    {"name": "sensitive", "type": "sensitivity", "n_windows": 2},
    {"name": "responsive", "type": "responsiveness", "negatives": ["silent"]},
    {"name": "pure", "type": "purity", "negatives": ["silent"]},
]


def test_a_run_is_estimated_from_the_requests_that_cost_tokens(tiny_folder, tmp_path):
    dictionary = write_dictionary(tmp_path / "sae")
    config = small_config(
        tmp_path,
        tiny_folder,
        sources={"features": {"type": "sae", "path": str(dictionary)}},
        explainers=[{"name": "top_tokens", "type": "top_tokens"}],
        scorers=[*FREE, *JUDGED],
        units={"sample": 3},
    )
    stages = {stage.stage for stage in estimate_run(config, timing=False).stages}
    assert {scorer["name"] for scorer in JUDGED} <= stages
    assert not {"injection", "ablation"} & stages


@pytest.mark.parametrize("scorers", [FREE, JUDGED])
def test_a_run_stores_a_score_or_says_why_not(scorers, tiny_folder, tmp_path):
    dictionary = write_dictionary(tmp_path / "sae")
    config = small_config(
        tmp_path,
        tiny_folder,
        sources={"features": {"type": "sae", "path": str(dictionary)}},
        units={"sample": 3},
        explainers=[{"name": "top_tokens", "type": "top_tokens", "n_tokens": 2}],
        scorers=scorers,
    )
    run(config, until="score")
    store = RunStore(tmp_path / "run")
    scores = list(store.scores())
    store.close()
    assert {score.scorer for score in scores} == {scorer["name"] for scorer in scorers}
    for score in scores:
        assert (score.value is None) == (
            score.status not in (Status.OK, Status.CONSTANT_PREDICTION)
        )
        assert score.value is not None or score.reason
        assert score.details["metric"]
    if scorers is FREE:
        known = [score for score in scores if score.value is not None]
        assert {score.scorer for score in known} >= {"injection", "ablation", "steered"}
        assert all(score.lift is not None for score in known)


def test_explainers_that_touch_the_subject_work_in_a_run(tiny_folder, tmp_path):
    dictionary = write_dictionary(tmp_path / "sae")
    config = small_config(
        tmp_path,
        tiny_folder,
        sources={"features": {"type": "sae", "path": str(dictionary)}},
        units={"sample": 2},
        explainers=[
            {"name": "revised", "type": "revision", "n_rounds": 1, "n_texts": 1, "n_windows": 2},
            {"name": "changed", "type": "token_change", "max_new_tokens": 5},
        ],
        scorers=[{"name": "injection", "type": "injection", "n_windows": 4}],
    )
    run(config, until="explain")
    store = RunStore(tmp_path / "run")
    counts = store.count("explanations")
    store.close()
    assert sum(counts.values()) == 4
