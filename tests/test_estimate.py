"""What a run will take, from its real prompts, before and after recording."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.config import QuotaConfig
from autointerp.dry_run import drive_dry, made_up_answer, rule_counter
from autointerp.estimate import RunEstimate, estimate_run
from autointerp.llm import Message, Request
from autointerp.llm.schemas import parse_answer
from autointerp.runner import run
from autointerp.scorers.detection import answer_schema
from autointerp.store import RunStore
from tests.run_helpers import small_config

DETECTION = [{"name": "simulation", "type": "simulation"},
             {"name": "detection", "type": "detection", "n_per_prompt": 3}]  # fmt: skip
PRICES = """
- {model: openai/test, input: 1, cached_input: 0.1, output: 10, batch: 0.5, date: 2026-11-01,
   source: a test}
"""


def hosted(folder: Path, **llm: Any) -> dict[str, Any]:
    (folder / "prices.yaml").write_text(PRICES)
    return {
        "model": "openai/test",
        "base_url": "http://127.0.0.1:1/v1",
        "prices": str(folder / "prices.yaml"),
        **llm,
    }


def stage(found: RunEstimate, name: str) -> Any:
    return next(one for one in found.stages if one.stage == name)


def test_an_estimate_writes_nothing_and_asks_nobody(tiny_folder: Path, tmp_path: Path) -> None:
    """The address answers nobody, and there is no key."""
    config = small_config(tmp_path, tiny_folder, llm=hosted(tmp_path), scorers=DETECTION)
    found = estimate_run(config, timing=False)
    assert not (tmp_path / "run").exists()
    assert found.basis == "design" and found.n_units == 4
    assert stage(found, "explain").calls == 4
    assert found.disk_bytes > 0 and found.hours is None


def test_a_calibration_is_simulated_once_more_under_the_own_explanation(
    tiny_folder: Path, tmp_path: Path
) -> None:
    plain = small_config(tmp_path, tiny_folder, llm=hosted(tmp_path), scorers=DETECTION)
    assert plain.record.design.quotas is not None
    plain.record.design.quotas["calibrate"] = QuotaConfig(
        top=1, intervals=1, hard=0, silent=1, random=0
    )
    score = plain.score.model_copy(update={"calibration": "linear", "shuffled_donors": 2})
    without = score.model_copy(update={"calibration": "none"})
    calls = {
        name: stage(
            estimate_run(plain.model_copy(update={"score": settings}), timing=False), "simulation"
        )
        for name, settings in (("linear", score), ("none", without))
    }
    per_explainer = calls["none"].calls // 3  # its own explanation and two donors'
    assert calls["linear"].calls == per_explainer * (3 + 1)
    assert calls["linear"].input_tokens > calls["none"].input_tokens


def test_choosing_the_best_scores_every_candidate_and_as_many_of_every_donor(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """k = 2 samples · 3 items + 1, times own and two donors, on the `calibrate` windows."""
    several = {"name": "list", "type": "token_activation_pairs", "n_samples": 2,
               "n_explanations": 3, "temperature": 1.0}  # fmt: skip
    explainers = [several, {"name": "words", "type": "short"}]
    quotas = {
        "test": {"top": 2, "intervals": 2, "hard": 0, "silent": 2},
        "calibrate": {"top": 2, "intervals": 1, "hard": 0, "silent": 3, "random": 0},
    }

    def estimated(*best: dict[str, Any]) -> RunEstimate:
        config = small_config(
            tmp_path, tiny_folder, llm=hosted(tmp_path), scorers=DETECTION, controls=False,
            record={"design": {"name": "small", "quotas": quotas}},
            explainers=[*explainers, *best],
            score={"shuffled_donors": 2, "bootstrap": 100, "min_active_documents": 1},
        )  # fmt: skip
        return estimate_run(config, timing=False)

    best = {"name": "best", "type": "best_of", "of": ["list", "words"]}
    without, simulated = estimated(), estimated(best)
    judged = estimated({**best, "by": "detection"})
    k, n_arms, n_units = 2 * 3 + 1, 1 + 2, 4

    def more(found: RunEstimate, name: str) -> int:
        return stage(found, name).calls - stage(without, name).calls

    # The chosen text is scored on `test` like any other; 6 windows there, 3 a question.
    assert more(simulated, "simulation") == n_units * (k * n_arms + n_arms)
    assert more(simulated, "detection") == n_units * 2 * n_arms
    assert more(judged, "simulation") == n_units * n_arms
    assert more(judged, "detection") == n_units * (2 * k * n_arms + 2 * n_arms)
    assert (stage(simulated, "detection").rounds, stage(judged, "detection").rounds) == (1, 2)


def test_money_is_tokens_times_the_price(tiny_folder: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, tiny_folder, llm=hosted(tmp_path), scorers=DETECTION)
    for name in ("explain", "detection"):
        one = stage(estimate_run(config, timing=False), name)
        uncached = one.input_tokens - one.cached_tokens
        assert one.usd == pytest.approx(
            (uncached + 0.1 * one.cached_tokens + 10 * one.output_tokens) / 1e6, rel=0.02
        )
        assert one.usd_batch == pytest.approx(
            (one.input_tokens + 10 * one.output_tokens) / 2e6, rel=0.02
        )
        assert one.most_usd >= one.usd and one.most_output_tokens >= one.output_tokens
        assert "a test" in one.price


def test_an_unknown_model_has_tokens_and_no_money(tiny_folder: Path, tmp_path: Path) -> None:
    llm = hosted(tmp_path, model="openai/unheard-of")
    found = estimate_run(small_config(tmp_path, tiny_folder, llm=llm), timing=False)
    assert stage(found, "explain").input_tokens > 0
    assert found.usd is None and stage(found, "explain").usd is None
    assert any("no price is known for openai/unheard-of" in note for note in found.notes)


def test_the_estimate_of_a_recorded_run_is_what_it_then_asks(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Tokens of the explainer's prompts, counted by the local model itself."""
    config = small_config(tmp_path, tiny_folder)
    before = estimate_run(config, timing=False)
    run(config, until="record")
    after = estimate_run(config, timing=False)
    assert (before.basis, after.basis) == ("design", "records")
    run(config, until="explain")
    (row,) = (r for r in RunStore(config.output or "").ledger_totals() if r["purpose"] == "explain")
    assert stage(after, "explain").calls == row["requests"]
    assert stage(after, "explain").input_tokens == row["input_tokens"]
    assert stage(before, "explain").input_tokens == pytest.approx(row["input_tokens"], rel=0.35)
    assert after.record_seconds == 0


def test_a_shared_start_of_a_thousand_tokens_is_cached(tiny_folder: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, tiny_folder, llm=hosted(tmp_path), scorers=DETECTION)
    short = stage(estimate_run(config, timing=False), "detection")
    assert short.cached_tokens == 0  # its prefix is below what providers keep
    source = (Path(__file__).parent.parent / "prompts/detection.j2").read_text()
    long = tmp_path / "long.j2"
    long.write_text(source.replace("You judge", "You judge with care. " * 400 + "You judge"))
    scorers = [{"name": "detection", "type": "detection", "prompt": str(long)}]
    changed = small_config(tmp_path, tiny_folder, llm=hosted(tmp_path), scorers=scorers)
    found = stage(estimate_run(changed, timing=False), "detection")
    assert 1024 * (found.calls - 1) < found.cached_tokens < found.input_tokens
    assert found.usd < (found.input_tokens + 10 * found.output_tokens) / 1e6


def test_limits_per_minute_make_it_longer(tiny_folder: Path, tmp_path: Path) -> None:
    free = estimate_run(small_config(tmp_path, tiny_folder, llm=hosted(tmp_path)), timing=False)
    slow = estimate_run(
        small_config(tmp_path, tiny_folder, llm=hosted(tmp_path, requests_per_minute=1)),
        timing=False,
    )
    assert stage(slow, "explain").hours == pytest.approx(4 / 60)
    assert stage(free, "explain").hours < 4 / 60


def test_the_command_prints_a_table_and_json(tiny_folder: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, tiny_folder, llm=hosted(tmp_path))
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    table = CliRunner().invoke(app, ["estimate", str(path), "--no-timing"])
    assert table.exit_code == 0, table.output
    for part in ("explain", "simulation", "price of 2026-11-01, a test", "disk: about"):
        assert part in table.output
    printed = CliRunner().invoke(app, ["estimate", str(path), "--no-timing", "--json"])
    found = json.loads(printed.output)
    assert found["usd"] == pytest.approx(sum(one["usd"] for one in found["stages"]))


def test_made_up_answers_follow_their_schemas() -> None:
    schemas = [
        answer_schema(7),
        {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "integer",
         "minimum": 3}, "c": {"type": "array", "items": {"type": "number"}, "minItems": 2},
         "d": {"anyOf": [{"type": "null"}, {"type": "string"}]}}, "required": ["a", "b", "c", "d"]},
        {"type": "array", "items": {"type": "string"}},
    ]  # fmt: skip
    for schema in schemas:
        request = Request((Message("user", "?"),), 10, schema=schema)
        parse_answer(made_up_answer(request), schema)


def test_several_rounds_of_questions_are_all_asked() -> None:
    def steps() -> Any:
        first = yield [Request((Message("user", "one"),), 5)]
        second = yield [Request((Message("user", first[0].text or ""),), 5)] * 2
        return len(second)

    result, asked = drive_dry(steps())
    assert result == 2 and len(asked) == 3


def test_the_rule_for_counting_is_near_a_real_tokenizer(tokenizer: Any) -> None:
    root = Path(__file__).parent.parent
    for name in ("README.md", "prompts/detection.j2", "prompts/simulate_text_first.j2"):
        text = (root / name).read_text()
        assert rule_counter().text(text) == pytest.approx(
            len(tokenizer(text)["input_ids"]), rel=0.25
        )
