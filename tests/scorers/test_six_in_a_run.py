"""Rating, logit weights, 60 windows, recall, embedding and surprisal in a run from YAML."""

from pathlib import Path

import pytest
import yaml

from autointerp.config import RunConfig, ScorerConfig, load_config, parse_config
from autointerp.judging import asks_llm
from autointerp.records import Status, UsageError
from autointerp.runner import run
from tests.run_helpers import small_config, write_dictionary
from tests.scorers.test_embedding import made_folder

NEW = {
    "rating": {"n_per_interval": 1, "n_silent": 2, "n_per_prompt": 3},
    "logit_weight": {"n_tokens": 6},
    "bricken60": {"n_context": 3},
    "recall_alt": {},
    "embedding": {},
    "surprisal": {},
}


def test_all_of_them_in_one_run(tiny_folder: Path, tmp_path: Path):
    models = {"embedding": str(made_folder(tmp_path)), "surprisal": str(tiny_folder)}
    scorers = [
        {"name": kind, "type": kind, **keys, **({"model": models[kind]} if kind in models else {})}
        for kind, keys in NEW.items()
    ]
    sources = {"features": {"type": "sae", "path": str(write_dictionary(tmp_path / "sae"))}}
    config = small_config(
        tmp_path, tiny_folder, scorers=scorers, sources=sources, units={"sample": 3},
        explainers=[{"name": "tokens", "type": "top_tokens"}],
        score={"shuffled_donors": 2, "bootstrap": 100, "min_active_documents": 1}, controls=False,
    )  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    results = run(load_config(path, RunConfig))
    assert results is not None
    for unit in results.units:
        for kind in NEW:
            score = unit.judged[kind]["tokens"]
            assert score.scorer == kind
            if score.status in (Status.OK, Status.CONSTANT_PREDICTION):
                assert score.details["chance"] is not None and score.control_mean is not None
            else:
                assert score.value is None and score.reason, kind
    answered = [k for u in results.units for k in NEW if u.judged[k]["tokens"].value is not None]
    assert {"embedding", "surprisal", "rating"} <= set(answered)
    assert results.units[0].judged["embedding"]["tokens"].simulator.startswith("embedding/")
    # A second run asks nothing and finds the same.
    again = run(load_config(path, RunConfig))
    assert again is not None
    assert [u.judged for u in again.units] == [u.judged for u in results.units]


def test_a_run_without_questions_needs_no_language_model(tiny_folder: Path, tmp_path: Path):
    config = small_config(
        tmp_path, tiny_folder, units={"sample": 2}, llm={"model": "openai/gpt-4o"},
        scorers=[{"name": "near", "type": "embedding", "model": str(made_folder(tmp_path))}],
        explainers=[{"name": "tokens", "type": "top_tokens"}], controls=False,
    )  # fmt: skip
    assert not any(map(asks_llm, config.scorers))
    results = run(config)
    assert results is not None and results.provenance["llm"] is None


@pytest.mark.parametrize("kind", sorted(NEW))
def test_a_key_that_a_type_does_not_read_is_refused(kind):
    with pytest.raises(ValueError, match=f"not read by type {kind}"):
        ScorerConfig(name="x", type=kind, n_trials=3)
    assert ScorerConfig(name="x", type=kind, **NEW[kind]).options() == NEW[kind]


def test_impossible_values_are_refused():
    source = {"sources": {"mine": {"type": "recorded", "path": "x"}},
              "explainers": [{"name": "t", "type": "top_tokens"}]}  # fmt: skip
    for wrong in ({"type": "rating", "n_silent": 0}, {"type": "logit_weight", "n_tokens": 3},
                  {"type": "embedding", "prompt": "x"}):  # fmt: skip
        with pytest.raises(UsageError):
            parse_config({**source, "scorers": [{"name": "s", **wrong}]}, RunConfig, "test")
