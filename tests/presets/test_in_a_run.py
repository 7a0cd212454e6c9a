"""Every preset from config to page on a tiny subject, with a language model that is a script."""

import json
from pathlib import Path

import pytest

from autointerp.config import RunConfig, load_config
from autointerp.dry_run import made_up_answer
from autointerp.llm import CachedClient, Capabilities
from autointerp.llm.budget import MeteredClient
from autointerp.presets import PRESETS, load_preset, preset_facts
from autointerp.progress import Silent
from autointerp.records import Split, Status
from autointerp.runner import Run
from tests.llm.fake import FakeClient
from tests.run_helpers import small_config, write_corpus, write_dictionary

WORDS = ("words about rivers", "names of old things", "where boats are")


class Script(FakeClient):
    """Explains in one of three ways, and answers yes and no in turn."""

    def __init__(self) -> None:
        super().__init__(self._said, Capabilities(json_schema=True, logprobs=20))

    def _said(self, request):
        if request.schema is None:
            return (
                f"[EXPLANATION]: {WORDS[(len(request.messages[-1].content) + request.sample) % 3]}"
            )
        found = json.loads(made_up_answer(request))
        if isinstance(found.get("answers"), list) and isinstance(found["answers"][0], bool):
            found["answers"] = [place % 2 == 0 for place, _ in enumerate(found["answers"])]
        return json.dumps(found)


def small(folder: Path, model: Path, name: str, *, faithful: bool) -> RunConfig:
    """What a user sets: models, texts, sources; and fewer units than a source would take."""
    write_corpus(folder / "corpus.jsonl", n_documents=60, n_words=110)
    simulator = load_preset(name).config.get("simulator")
    if simulator is not None:  # a real simulator would take minutes
        simulator = {"name": "all_at_once", "model": str(model), "mass_floor": 0.0}
    return small_config(
        folder,
        model,
        preset=name,
        faithful=faithful,
        corpus={"path": str(folder / "corpus.jsonl")},
        sources={
            "features": {
                "type": "sae",
                "path": str(write_dictionary(folder / "sae", n_latents=300)),
            }
        },
        record={"batch_tokens": 264, "shard_tokens": 4128},
        units={"sample": 3, "min_active_documents": 12},
        **({"simulator": simulator} if simulator else {"simulator": {}}),
        explainers=load_preset(name).values(faithful=faithful)["explainers"],
        score={"bootstrap": 100, **({} if faithful else {"shuffled_donors": 2})},
    )


def executed(config: RunConfig):
    run = Run(config, Silent(), None)
    metered = MeteredClient(Script(), run.parts.meter)
    run.parts.__dict__["client"] = CachedClient(metered, None)
    results = run.execute("report")
    assert results is not None
    return results


RUNS = [*((name, False) for name in PRESETS), ("bills2023", True), ("saebench", True)]
"""Every preset, and those whose faithful form scores other windows."""


@pytest.mark.parametrize(("name", "faithful"), RUNS)
def test_a_preset_runs_from_config_to_labelled_results(name, faithful, tiny_folder, tmp_path):
    config = small(tmp_path, tiny_folder, name, faithful=faithful)
    results = executed(config)
    words = [e for e in results.explainers if e not in results.baseline_explainers]
    for unit in results.units:
        assert unit.status is Status.OK
        for explainer in words:
            assert unit.explanations[explainer].status is Status.OK, unit.explanations[explainer]
        for scorer in config.scorers:
            scores = unit.scores_by(scorer.name)
            assert set(scores) >= set(words)
            for explainer in words:
                score = scores[explainer]
                assert (score.value is None) == (
                    score.status not in (Status.OK, Status.CONSTANT_PREDICTION)
                ), score
                assert score.value is not None or score.reason
                if faithful:
                    assert not score.controls and score.lift is None
        # What was explained is of other documents than what is scored.
        explained = {r.document_id for r in unit.record.of(Split.EXPLAIN)}
        assert not explained & {window.document_id for window in unit.scored_windows}

    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["preset"]
    assert (summary["name"], summary["faithful"]) == (name, faithful)
    published = {one.scorer for one in load_preset(name).published}
    assert {one["scorer"] for one in summary["numbers"]} == published & {
        s.name for s in config.scorers
    }
    known = [one for one in summary["numbers"] if one["mean"] is not None]
    assert known and all(one["n"] + one["n_missing"] == len(results.units) for one in known)
    facts = json.loads((tmp_path / "run" / "provenance.json").read_text())["preset"]
    assert facts == json.loads(json.dumps(preset_facts(config)))
    assert facts["expanded"] == load_preset(name).values(faithful=faithful)
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"follows a preset {name}{', faithful' if faithful else ''}" in page
    # The resolved config is the same config, and says so itself.
    again = load_config(tmp_path / "run" / "config.yaml", RunConfig)
    assert again.model_dump(mode="json") == config.model_dump(mode="json")
