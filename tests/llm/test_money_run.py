"""Whole runs on a hosted model: budget, batches, retries, and what status says of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.llm.budget import BudgetSpentError
from autointerp.records import Status, UsageError
from autointerp.retrying import retry_failed
from autointerp.runner import run
from autointerp.store import RunStore, run_status
from tests.llm.fake_batches import FakeBatches
from tests.llm.fake_server import Asked, FakeServer
from tests.llm.fake_server import Status as Fault
from tests.run_helpers import small_config

CHAT = "/v1/chat/completions"
PRICES = "- {model: openai/test, input: 1, output: 10, batch: 0.5, date: 2026-11-01, source: t}\n"


def reply(asked: Asked) -> str:
    """Words to explainers, answers to judges."""
    schema = asked.body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is None:
        return "words for things at sea"
    n = schema["properties"]["answers"]["minItems"]
    return json.dumps({"answers": [(len(asked.text) + i) % 3 == 0 for i in range(n)]})


def config_of(folder: Path, model: Path, server: FakeServer, **changes: Any) -> Any:
    (folder / "prices.yaml").write_text(PRICES)
    llm = {
        "model": "openai/test", "base_url": server.openai_url, "server": "test", "retry_wait": 0.01,
        "max_attempts": 2, "capabilities": {"json_schema": True},
        "prices": str(folder / "prices.yaml"), **changes.pop("llm", {}),
    }  # fmt: skip
    settings = {
        "subjects": {}, "corpus": None, "llm": llm,
        "sources": {"made": {"type": "recorded", "path": str(write_units(folder))}},
        "units": {"sample": None, "min_active_documents": 1},
        "explainers": [
            {"name": "words", "type": "token_activation_pairs", "n_windows": 2},
            {"name": "top_tokens", "type": "top_tokens"},
        ],
        "scorers": [{"name": "detection", "type": "detection", "n_per_prompt": 4}],
    }  # fmt: skip
    return small_config(folder, model, **{**settings, **changes})


def write_units(folder: Path) -> Path:
    """Four units that fire on a word each, in half of 60 documents or fewer."""
    words = (" bees", " hens", " rain", " sun")
    rows: list[dict[str, Any]] = []
    for number in range(60):
        tokens = ["The", f" farm{number}", " kept", words[number % 2], " in",
                  words[2 + number % 3 % 2], f" year{number}", "."]  # fmt: skip
        for unit, word in enumerate(words):
            values = [7.0 if token == word else 0.0 for token in tokens]
            rows.append({"unit": f"made/{unit}", "tokens": tokens, "activations": values,
                         "document": f"doc {number}"})  # fmt: skip
    path = folder / "units.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ledger(config: Any) -> dict[str, float]:
    rows = RunStore(config.output).ledger_totals()
    names = ("requests", "input_tokens", "output_tokens", "usd", "lost_requests")
    return {name: sum(row[name] for row in rows if row["model"] == "openai/test") for name in names}


def billed(server: FakeServer) -> dict[str, float]:
    """What the server charged for live calls, by its own count."""
    total = {"requests": 0, "input_tokens": 0, "output_tokens": 0}
    for asked in server.asked:
        if asked.path == CHAT:
            usage = json.loads(server._model_reply(asked)[1])["usage"]
            total["requests"] += 1
            total["input_tokens"] += usage["prompt_tokens"]
            total["output_tokens"] += usage["completion_tokens"]
    return total


def test_a_run_explains_and_judges_and_its_ledger_is_the_servers(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with FakeServer(answer=reply) as server:
        config = config_of(tmp_path, tiny_folder, server)
        results = run(config)
        assert results is not None
        found, server_says = ledger(config), billed(server)
        assert {name: found[name] for name in server_says} == server_says
        judged = [s for u in results.units for s in u.judged.get("detection", {}).values()]
        assert len(judged) == 4 * 2 and {s.scorer for s in judged} == {"detection"}
        assert {s.status for s in judged} == {Status.OK}
        before = server.count(CHAT)
        run(config)
        assert server.count(CHAT) == before and ledger(config) == found
        status = run_status(config.output)
        assert status.judged_scores["detection"] == {"ok": 8}
        assert sum(row["usd"] for row in status.spending) == pytest.approx(found["usd"])
    printed = CliRunner().invoke(app, ["status", config.output])
    assert "explain, openai/test: 4 requests" in printed.output and "$0.00" in printed.output


def test_a_run_stops_at_its_budget_and_goes_on_when_it_is_raised(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with FakeServer(answer=reply) as server:
        config = config_of(tmp_path, tiny_folder, server, budget={"tokens": 12_000})
        with pytest.raises(BudgetSpentError, match=r"raise budget\.tokens"):
            run(config)
        first = server.count(CHAT)
        found = ledger(config)
        assert 0 < found["input_tokens"] + found["output_tokens"] <= 12_000
        raised = config.model_copy(update={"budget": config.budget.model_copy(
            update={"tokens": 10**7})})  # fmt: skip
        assert run(raised) is not None
        assert found["requests"] == first and ledger(config)["requests"] == server.count(CHAT)
        keys = [asked.raw for asked in server.asked if asked.path == CHAT]
        assert len(keys) == len(set(keys))


def test_a_spent_budget_is_one_line_and_exit_code_one(tiny_folder: Path, tmp_path: Path) -> None:
    with FakeServer(answer=reply) as server:
        config = config_of(tmp_path, tiny_folder, server, budget={"usd": 0.0001})
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(config.model_dump(mode="json")))
        result = CliRunner().invoke(app, ["run", str(path)])
        assert result.exit_code == 1 and "Traceback" not in result.output
        assert "raise budget.usd" in result.output + (result.stderr or "")


def test_a_budget_in_money_without_a_price_is_refused_before_recording(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with FakeServer() as server:
        llm = {"model": "openai/unheard-of"}
        config = config_of(tmp_path, tiny_folder, server, budget={"usd": 1}, llm=llm)
        with pytest.raises(UsageError, match="no price for openai/unheard-of"):
            run(config)
        assert not (Path(config.output) / "corpus.parquet").exists()


def test_a_run_in_batches_gives_what_a_live_run_gives(tiny_folder: Path, tmp_path: Path) -> None:
    scores: list[Any] = []
    for mode in ("live", "batch"):
        (tmp_path / mode).mkdir()
        with FakeServer(answer=reply) as server:
            fake = FakeBatches(server)
            batch = {"poll_seconds": 0.01, "min_requests": 2}
            llm = {"mode": mode, "batch": batch}
            config = config_of(tmp_path / mode, tiny_folder, server, llm=llm)
            results = run(config)
            assert results is not None
            scores.append([
                (str(unit.unit), name, score.value, score.lift)
                for unit in results.units
                for name, score in sorted(unit.judged["detection"].items())
            ])  # fmt: skip
            if mode == "batch":
                assert server.count(CHAT) == 0 and len(fake.batches) == 2  # a round each
                found = ledger(config)
                assert {name: found[name] for name in fake.charged} == fake.charged
                usd = (fake.charged["input_tokens"] + 10 * fake.charged["output_tokens"]) / 2e6
                assert found["usd"] == pytest.approx(usd)
    assert scores[0] == scores[1]


def test_batches_of_a_local_model_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    llm = {"model": f"local/{tiny_folder}", "mode": "batch"}
    with pytest.raises(UsageError, match="has no batch API"):
        run(small_config(tmp_path, tiny_folder, llm=llm))


def test_failed_results_are_asked_for_again(tiny_folder: Path, tmp_path: Path) -> None:
    broken = [True]

    def faults(number: int) -> Fault | None:
        return Fault(400, "this prompt cannot be read") if broken[0] and number % 2 else None

    with FakeServer(answer=reply, faults=faults) as server:
        config = config_of(tmp_path, tiny_folder, server)
        run(config)
        store = RunStore(config.output)
        assert store.count("explanations").get(Status.FAILED)
        failed = run_status(config.output)
        store.close()
        run(config)  # a finished run does not ask again by itself
        assert run_status(config.output).explanations == failed.explanations
        printed = CliRunner().invoke(app, ["status", config.output])
        assert "retry" in printed.output
        broken[0] = False
        done = retry_failed(config.output)
        assert done["asked_again"]["explanations"] == failed.explanations["failed"]
        assert done["failed_now"] == {"explanations": 0, "scores": 0}
        assert "failed" not in run_status(config.output).explanations
        printed = CliRunner().invoke(app, ["retry", config.output, "--failed", "--json"])
        nothing = {"explanations": 0, "scores": 0, "incomplete": 0}
        assert json.loads(printed.output)["asked_again"] == nothing


def test_retry_says_what_it_needs(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["retry", str(tmp_path)]).exit_code == 2
    result = CliRunner().invoke(app, ["retry", str(tmp_path), "--failed"])
    assert result.exit_code == 1 and "holds no run" in result.output + (result.stderr or "")
