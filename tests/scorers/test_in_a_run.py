"""Every scorer that asks, from a config to the store and the tables."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from autointerp.config import SCORER_KEYS, RunConfig, parse_config
from autointerp.estimate import estimate_run
from autointerp.records import Status, UsageError
from autointerp.runner import run
from autointerp.scorers import SCORERS
from tests.llm.fake_server import CHAT, Asked, FakeServer
from tests.run_helpers import small_config

ROOT = Path(__file__).parents[2]

ASKING = ("detection", "fuzzing", "intruder", "pair", "sort")

SETTINGS: list[dict[str, Any]] = [
    {"name": "detection", "type": "detection", "n_per_prompt": 4, "negatives": ["silent", "near"]},
    {"name": "fuzzing", "type": "fuzzing"},
    {"name": "intruder", "type": "intruder", "n_shown": 3, "n_trials": 6, "negatives": ["near"]},
    {"name": "parts", "type": "intruder", "n_shown": 3, "n_trials": 6, "within": True},
    {"name": "pair", "type": "pair", "n_pairs": 4},
    {"name": "sort", "type": "sort"},
]


def answer(asked: Asked) -> str:
    """The first of all possible answers, and for yes or no what has an even length."""
    schema = asked.body["response_format"]["json_schema"]["schema"]
    one = schema["properties"]["answers"]
    n = one["minItems"]
    if one["items"]["type"] == "integer":
        return json.dumps({"answers": [1] * n})
    texts = re.findall(r"^<text \d+>(.*)</text", asked.text, re.M)[-n:]
    return json.dumps({"answers": [len(text) % 2 == 0 for text in texts]})


def config(folder: Path, subject: Path, server: FakeServer, **changes: Any) -> RunConfig:
    quotas = {"test": {"top": 2, "intervals": 8, "hard": 4, "silent": 4}}
    settings = {
        "llm": {"model": "openai/gpt-4.1", "base_url": server.openai_url, "server": "test"},
        "explainers": [{"name": "top_tokens", "type": "top_tokens"},
                       {"name": "lookup", "type": "token_lookup"}],
        "scorers": SETTINGS,
        "units": {"sample": 3},
        "score": {"shuffled_donors": 2, "bootstrap": 100, "min_active_documents": 2},
        "record": {"design": {"name": "small", "quotas": quotas}, "batch_tokens": 264,
                   "shard_tokens": 528},
    }  # fmt: skip
    return small_config(folder, subject, **(settings | changes))


def test_every_type_has_a_class_and_keys_that_are_its_settings():
    assert {*ASKING, "simulation"} <= set(SCORER_KEYS)
    for kind in ASKING:
        fields = set(SCORERS[kind].__dataclass_fields__)
        assert set(SCORER_KEYS[kind]) <= fields


def test_a_run_stores_every_score_asks_nothing_twice_and_fills_the_tables(tiny_folder, tmp_path):
    with FakeServer(answer=answer, check_bodies=False) as server:
        results = run(config(tmp_path, tiny_folder, server))
        n = server.count(CHAT)
        run(config(tmp_path, tiny_folder, server))
        assert server.count(CHAT) == n
    assert results is not None
    names = {settings["name"] for settings in SETTINGS}
    for unit in results.units:
        assert set(unit.judged) == names
        for name, by_explainer in unit.judged.items():
            assert set(by_explainer) == {"top_tokens"}, "look-up tables are not asked about"
            score = by_explainer["top_tokens"]
            assert score.scorer == name
            assert score.status in (Status.OK, Status.CONSTANT_PREDICTION), score.reason
            assert score.value is not None and score.details["chance"] is not None
            assert score.details["n"] > 0
            assert score.explainer == ("" if name in ("intruder", "parts") else "top_tokens")
            assert (score.lift is None) == (not score.controls)
    rows = list(csv.DictReader((tmp_path / "run" / "scores.csv").open()))
    told = {row["scorer"] for row in rows if row["score"] and row["chance"]}
    assert names <= told
    purposes = {row["purpose"] for row in results.ledger}
    assert set(ASKING) <= purposes
    spent = sum(row["requests"] for row in results.ledger)
    assert spent == n


def test_a_units_own_score_is_asked_for_once_however_many_explainers_there_are(
    tiny_folder, tmp_path
):
    explainers = [{"name": name, "type": "top_tokens", "n_tokens": 2 + i}
                  for i, name in enumerate(("one", "two"))]  # fmt: skip
    scorers = [{"name": "intruder", "type": "intruder", "n_shown": 3, "n_trials": 3}]
    with FakeServer(answer=answer, check_bodies=False) as server:
        results = run(config(tmp_path, tiny_folder, server, explainers=explainers, scorers=scorers))
        n = server.count(CHAT)
    assert results is not None
    living = [unit for unit in results.units if unit.judged]
    assert n <= len(living) * 3 * 2
    for unit in living:
        scores = unit.judged["intruder"]
        assert set(scores) == {"one", "two"} and scores["one"] == scores["two"]


def test_an_estimate_counts_what_is_asked(tiny_folder, tmp_path):
    with FakeServer(answer=answer, check_bodies=False) as server:
        settings = config(tmp_path, tiny_folder, server)
        run(settings)
        estimate = estimate_run(settings, timing=False)
    found = {stage.stage: stage for stage in estimate.stages}
    assert all(found[str(one["name"])].calls > 0 for one in SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "fuzzing", "negatives": ["near"]}, "not read by type fuzzing"),
        ({"type": "sort", "n_trials": 3}, "`n_trials` is not read by type sort, but by intruder"),
        ({"type": "intruder", "n_per_prompt": 2}, "not read by type intruder"),
        ({"type": "detection", "negatives": ["nearby"]}, "silent"),
        ({"type": "detection", "negatives": []}, "negatives"),
        ({"type": "detection", "confidence": "sure"}, "p_yes"),
        ({"type": "detection", "mass_floor": 0.1}, "confidence: p_yes"),
        ({"type": "intruder", "n_parts": 3}, "within: true"),
        ({"type": "intruder", "n_shown": 2}, "greater than or equal to 3"),
        ({"type": "simulation", "prompt": "mine"}, "not read by type simulation"),
    ],
)
def test_a_key_that_a_type_does_not_read_is_refused_by_name(settings, message):
    data = {
        "sources": {"mine": {"type": "recorded", "path": "x"}},
        "explainers": [{"name": "tokens", "type": "top_tokens"}],
        "scorers": [{"name": "one", **settings}],
    }
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_config(data, RunConfig, "test")


def test_a_judge_without_log_probabilities_is_refused_before_anything_is_recorded(
    tiny_folder, tmp_path
):
    scorers = [{"name": "sure", "type": "detection", "confidence": "p_yes"}]
    with FakeServer(answer=answer, check_bodies=False) as server:
        settings = config(
            tmp_path, tiny_folder, server, scorers=scorers,
            llm={"model": "anthropic/claude-haiku-4-5", "base_url": server.anthropic_url,
                 "server": "test"},
        )  # fmt: skip
        with pytest.raises(UsageError, match=r"scorer 'sure' needs 5 log-probabilities"):
            run(settings)


def test_the_page_on_scorers_names_every_type_and_its_config_is_valid():
    page = (ROOT / "docs" / "scorers.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert set(ASKING) <= set(rows)
    (block, *_) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    data = {
        "sources": {"mine": {"type": "recorded", "path": "x"}},
        "explainers": [{"name": "tokens", "type": "top_tokens"}],
        **yaml.safe_load(block),
    }
    assert set(ASKING) <= {s.type for s in parse_config(data, RunConfig, "page").scorers}
