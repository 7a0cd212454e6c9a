"""Every control is one switch of a config, and its price is in the estimate."""

from pathlib import Path

import pytest

from autointerp import resources
from autointerp.config import RunConfig, load_config, parse_config
from autointerp.config.training import SaeDictionaryConfig
from autointerp.controls import ALL_CONTROLS, FREE_CONTROLS
from autointerp.estimate import estimate_run
from tests.run_helpers import small_config, write_dictionary

SCORERS = [{"name": "simulation", "type": "simulation"},
           {"name": "detection", "type": "detection", "n_per_prompt": 3}]  # fmt: skip
WORDS = [{"name": "words", "type": "token_activation_pairs"},
         {"name": "top_tokens", "type": "top_tokens"}]  # fmt: skip


def calls(folder: Path, model: Path, controls: object) -> dict[str, int]:
    llm = {"model": "openai/test", "base_url": "http://127.0.0.1:1/v1"}
    config = small_config(
        folder, model, llm=llm, scorers=SCORERS, explainers=WORDS, controls=controls
    )
    return {stage.stage: stage.calls for stage in estimate_run(config, timing=False).stages}


@pytest.mark.parametrize("name", ALL_CONTROLS)
def test_a_control_is_a_name_and_costs_what_the_estimate_says(
    name: str, tiny_folder: Path, tmp_path: Path
) -> None:
    """4 units, 2 explainers, 7 windows: simulated once a unit, asked about once an explanation."""
    without, with_it = (calls(tmp_path, tiny_folder, given) for given in (False, [name]))
    more = {stage: with_it[stage] - without[stage] for stage in without}
    if name in FREE_CONTROLS:
        assert set(more.values()) == {0}
    else:
        assert more["simulation"] == 4
        assert more["detection"] > 0 and more["detection"] % (4 * 2) == 0
        assert more["explain"] == 0


SOURCES = {
    "random directions": {"type": "directions", "hook_point": "blocks.1.hook_resid_post",
                          "kind": "random", "n": 6},
    "principal components": {"type": "directions", "hook_point": "blocks.1.hook_resid_post",
                             "kind": "pca", "n": 6},
    "random decoder": {"type": "sae", "path": "sae", "control": "random_decoder"},
    "permuted decoder": {"type": "sae", "path": "sae", "control": "permuted_decoder"},
    "random subject": {"type": "sae", "path": "sae", "subject": "untrained"},
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_a_control_source_is_one_entry_and_is_counted_like_any_source(
    name: str, tiny_folder: Path, tmp_path: Path
) -> None:
    write_dictionary(tmp_path / "sae")
    trained = {"type": "sae", "path": str(tmp_path / "sae")}
    control = {**SOURCES[name]}
    if "path" in control:
        control["path"] = str(tmp_path / "sae")
    subjects = {
        "subject": {"model": str(tiny_folder), "device": "cpu"},
        "untrained": {"model": str(tiny_folder), "device": "cpu", "random_weights": 0},
    }

    def calls_of(sources: dict) -> int:
        config = small_config(
            tmp_path, tiny_folder, subjects=subjects, sources=sources, explainers=WORDS[1:],
            controls=False,
        )  # fmt: skip
        return estimate_run(config, timing=False).stages[0].calls

    assert calls_of({"trained": trained, "control": control}) == 2 * calls_of({"trained": trained})


def test_a_dictionary_with_a_frozen_decoder_is_trained_by_one_key() -> None:
    made = parse_config(
        {"architecture": "topk", "n_latents": 8, "k": 2, "decoder": "frozen"},
        SaeDictionaryConfig, "test",
    )  # fmt: skip
    assert made.decoder == "frozen"


def test_the_shipped_config_of_a_random_subject_can_be_run() -> None:
    config = load_config(resources.path("datasets/demo/random_weights.yaml"), RunConfig)
    assert config.subjects["untrained"].random_weights == 0
    assert config.sources["untrained"].path == config.sources["trained"].path
