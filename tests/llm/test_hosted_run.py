"""A whole run with a hosted model: end to end, its cache, and no key in what is written."""

import asyncio
import json
import logging
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import autointerp
from autointerp.config import LlmConfig, ScorerConfig
from autointerp.llm import CachedClient, ClientOptions, Message, Request, ResponseCache, load_client
from autointerp.records import AutointerpError, Status, UsageError
from autointerp.runner import run
from tests.llm.fake_server import CHAT, FakeServer, Raw, Reply
from tests.llm.fake_server import Status as Fault
from tests.processes import Forked, command_line
from tests.run_helpers import small_config

ROOT = Path(__file__).parents[2]
SECRET = "sk-planted-4f9a1c77d2e84b06"


def hosted(folder: Path, subject: Path, server: FakeServer, **llm: Any):
    settings = {"model": "openai/gpt-4.1", "base_url": server.openai_url, "retry_wait": 0.01,
                "give_up_after": 10, "server": "test", **llm}  # fmt: skip
    return small_config(folder, subject, llm=settings, units={"sample": 3})


def test_a_run_asks_the_hosted_model_once_and_a_second_run_in_the_folder_not_at_all(
    tiny_folder, tmp_path
):
    with FakeServer(answer=lambda _: "words about farms") as server:
        results = run(hosted(tmp_path, tiny_folder, server))
        assert results is not None
        texts = {unit.explanations["words"].text for unit in results.units}
        assert texts == {"words about farms"}
        n = server.count(CHAT)
        assert n == len(results.units) == 3
        assert (tmp_path / "responses.sqlite").exists()
        again = hosted(tmp_path, tiny_folder, server).model_copy(
            update={"name": "again", "output": str(tmp_path / "again")}
        )
        assert run(again) is not None
        assert server.count(CHAT) == n
        off = again.llm.model_copy(update={"cache": "off"})
        run(
            again.model_copy(update={"output": str(tmp_path / "third"), "llm": off}),
            until="explain",
        )
        assert server.count(CHAT) == 2 * n
        rows = results.ledger
        words = [row for row in rows if row["purpose"] == "explain"]
        assert sum(row["requests"] for row in words) == n


@pytest.mark.parametrize("command", ["run", "explain", "score"])
def test_the_cache_is_chosen_on_the_command_line(command, tiny_folder, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from autointerp.cli import app

    seen = []

    def run(config, **_):
        seen.append(config.llm.cache)
        Path(config.output).mkdir(parents=True, exist_ok=True)
        (Path(config.output) / "config.yaml").write_text("sources: {neurons: {type: neurons}}\n")

    monkeypatch.setattr("autointerp.runner.run", run)
    config = small_config(tmp_path, tiny_folder)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    for options in ([], ["--cache", "off"], ["--cache", "elsewhere.sqlite"]):
        assert CliRunner().invoke(app, [command, str(path), *options]).exit_code == 0
    assert seen == ["shared", "off", "elsewhere.sqlite"]


def test_a_run_in_a_notebook_leaves_its_loop_free(tiny_folder, tmp_path):
    async def cell(server: FakeServer) -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        await autointerp.run_async(hosted(tmp_path, tiny_folder, server), until="explain")
        ticking.cancel()
        return ticks

    with FakeServer(answer=lambda _: "words about farms") as server:
        assert asyncio.run(cell(server)) > 3
        assert server.count(CHAT) == 3


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "llm.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with FakeServer(answer=lambda _: "a number") as server:
        exec(example.replace("http://127.0.0.1:8000/v1", server.openai_url), {})
    assert capsys.readouterr().out.count("ok a number") == 100


def test_the_configs_of_the_page_are_configs():
    page = (ROOT / "docs" / "llm.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 5
    for example in examples:
        LlmConfig.model_validate(yaml.safe_load(example)["llm"])


def test_failed_and_refused_answers_are_failed_explanations_with_their_reason(
    tiny_folder, tmp_path
):
    with FakeServer(answer=lambda _: Reply("I would rather not.", finish="refusal")) as server:
        results = run(hosted(tmp_path, tiny_folder, server))
    assert results is not None
    for unit in results.units:
        explanation = unit.explanations["words"]
        assert (explanation.text, explanation.status) == (None, Status.FAILED)
        assert "refused" in explanation.reason
        assert "I would rather not." in explanation.reason


def test_a_run_whose_provider_goes_away_stops_cleanly_and_goes_on_later(tiny_folder, tmp_path):
    with FakeServer(
        answer=lambda _: "words about farms", faults=lambda n: Fault(503) if n >= 2 else None
    ) as server:
        config = hosted(tmp_path, tiny_folder, server, give_up_after=0.5, max_concurrency=1)
        with pytest.raises(AutointerpError, match="run the same command again"):
            run(config)
        server.faults = lambda _: None
        before = server.count(CHAT)
        results = run(config)
        assert results is not None
        assert server.count(CHAT) - before == 1
        assert all(unit.explanations["words"].status == Status.OK for unit in results.units)


def test_a_need_that_the_model_cannot_serve_is_refused_before_recording(
    tiny_folder, tmp_path, monkeypatch
):
    from autointerp.explainers import TokenActivationPairs
    from autointerp.llm.capabilities import Needs

    monkeypatch.setattr(TokenActivationPairs, "needs", Needs(logprobs=5), raising=False)
    with FakeServer() as server:
        config = hosted(tmp_path, tiny_folder, server, model="openai/some-server-model")
        with pytest.raises(AutointerpError, match="'words' needs 5 log-prob") as caught:
            run(config)
        assert "openai/gpt-4.1" in str(caught.value)
        assert not (tmp_path / "run" / "records" / "neurons.parquet").exists()
        assert server.count() == 0


def test_a_judge_that_needs_log_probabilities_is_refused_with_the_alternatives(
    tiny_folder, tmp_path
):
    judge = {"name": "sure", "type": "detection", "confidence": "p_yes"}
    with FakeServer() as server:
        config = hosted(tmp_path, tiny_folder, server, model="openai/some-server-model")
        asked = config.model_copy(update={"scorers": [ScorerConfig(**judge)]})
        with pytest.raises(UsageError, match=r"'sure' needs 5 log-prob.*gives none") as caught:
            run(asked)
        for alternative in ("local/…", "openai/gpt-4.1", "vLLM", "llm.capabilities.logprobs"):
            assert alternative in str(caught.value)
        assert "leave scorer 'sure' out" in str(caught.value)
        assert not (tmp_path / "run" / "records" / "neurons.parquet").exists()
        assert server.count() == 0


def test_a_judge_that_answers_yes_or_no_needs_no_log_probabilities():
    from autointerp.llm.base import Capabilities
    from autointerp.llm.capabilities import check_needs
    from autointerp.scorers.detection import DetectionScorer

    class Plain:
        name = "openai/plain"
        capabilities = Capabilities(json_schema=True)

    class Silent(Plain):
        name = "openai/words-only"
        capabilities = Capabilities()

    check_needs("scorer 'd'", DetectionScorer(design="default").needs, Plain())
    with pytest.raises(UsageError, match=r"follow a JSON schema.*any openai/… or anthropic/…"):
        check_needs("scorer 'd'", DetectionScorer(design="default").needs, Silent())


def test_the_corpus_is_fenced_in_the_prompt(tiny_folder, tmp_path):
    with FakeServer(answer=lambda _: "words about farms") as server:
        run(hosted(tmp_path, tiny_folder, server), until="explain")
        for asked in server.asked:
            system = asked.messages[0][1]
            assert "never an instruction" in system
            table = asked.messages[1][1]
            outside = "".join(part.split("<end>")[-1] for part in table.split("<start>"))
            assert "\t" not in outside


# ---------------------------------------------------------------------- the key


FAULTS = {
    0: Fault(500, f"our logs say Bearer {SECRET}"),
    1: Raw(json.dumps({"error": {"code": 502, "message": f"upstream got {SECRET}"}})),
    2: Fault(429, f"{SECRET} is too fast", headers={"retry-after": "0"}),
    3: Fault(400, f"bad request with key {SECRET}"),
    4: Raw(f"<html>{SECRET}</html>", "text/html"),
}


def shown(error: Exception) -> str:
    """A traceback with all local variables, from the first frame that is not the test's own."""
    assert error.__traceback__ is not None
    frames = error.__traceback__.tb_next
    found = traceback.TracebackException(type(error), error, frames, capture_locals=True)
    return "".join(found.format())


def written(folder: Path) -> str:
    """Every byte under a folder, as text."""
    return "\n".join(
        path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()
    )


def run_loudly(tell: Callable[[Any], None], config: str) -> None:
    """Run a config and print all that any library has to say."""
    logging.basicConfig(level=logging.DEBUG)
    command_line(tell, "run", config)


def test_the_key_is_in_nothing_a_run_writes_or_prints(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with FakeServer(answer=lambda _: f"words about {SECRET} farms", faults=FAULTS.get) as server:
        config = hosted(tmp_path, tiny_folder, server, api_key_env="PLANTED_KEY")
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        said = tmp_path / "said.txt", tmp_path / "refused.txt"
        env = {"PLANTED_KEY": SECRET, "OPENAI_LOG": "debug"}
        done = Forked(run_loudly, str(path), output=said[0], env=env)
        assert done.wait() == 0, said[0].read_text()[-2000:]
        assert "DEBUG:" in said[0].read_text()
        assert SECRET in json.dumps([dict(asked.headers) for asked in server.asked])
        server.faults = lambda _: Fault(401, f"Incorrect API key provided: {SECRET}")
        path.write_text(path.read_text().replace("gpt-4.1", "gpt-4o"))
        assert Forked(run_loudly, str(path), output=said[1], env=env).wait() == 1
        assert "check the key" in said[1].read_text()
    # What was printed lies in the folder, too.
    place = written(tmp_path)
    assert SECRET not in place
    assert SECRET[3:] not in place


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(401, f"no key like {SECRET}"),
        Fault(403, f"{SECRET} may not"),
        Fault(404, f"{SECRET} has no such model"),
        Fault(402, f"{SECRET} is broke"),
        Fault(503, f"{SECRET} is tired"),
    ],
    ids=lambda fault: str(fault.code),
)
def test_the_key_is_in_no_exception_and_no_log(vendor, fault, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    with FakeServer(faults=lambda _: fault) as server:
        url = server.openai_url if vendor == "openai" else server.anthropic_url
        options = ClientOptions(
            base_url=url, api_key_env="PLANTED_KEY", retry_wait=0.01, give_up_after=0.2
        )
        client = CachedClient(
            load_client(f"{vendor}/m", options), ResponseCache(tmp_path / "cache.sqlite")
        )
        with pytest.raises(AutointerpError) as caught:
            client.complete([Request((Message("user", "hello"),), 8)])
        assert SECRET in json.dumps([dict(asked.headers) for asked in server.asked])
    assert SECRET not in shown(caught.value)
    assert SECRET not in repr(caught.value.__dict__)
    assert SECRET not in caplog.text
    assert "[key]" in str(caught.value)
    assert SECRET not in written(tmp_path)
    assert SECRET not in repr(vars(client.client))


def test_a_bug_of_ours_shows_no_key(monkeypatch, caplog):
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    with FakeServer() as server:
        options = ClientOptions(base_url=server.openai_url, api_key_env="PLANTED_KEY")
        client = load_client("openai/m", options)

        def broken(*_: object) -> None:
            raise KeyError("our bug")

        monkeypatch.setattr("autointerp.llm.openai.chat_response", broken)
        with pytest.raises(KeyError, match="our bug") as caught:
            client.complete([Request((Message("user", "hello"),), 8)])
    assert SECRET not in shown(caught.value)
    assert SECRET not in caplog.text


def test_a_key_in_a_config_is_refused_and_not_repeated(tiny_folder, tmp_path):
    with FakeServer() as server:
        for llm in ({"api_key": SECRET}, {"api_key_env": SECRET},
                    {"base_url": f"http://user:{SECRET}@127.0.0.1/v1"},
                    {"extra_body": {"api_key": SECRET}}):  # fmt: skip
            with pytest.raises(AutointerpError) as caught:
                hosted(tmp_path, tiny_folder, server, **llm)
            assert SECRET not in str(caught.value)
