"""Every simulator from a config: checked before the run, in its ledger, cache and estimate."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from autointerp.config import RunConfig
from autointerp.estimate import estimate_run
from autointerp.records import Status, UsageError
from autointerp.runner import run
from autointerp.simulators.completions import Completions
from autointerp.simulators.generated import Generated
from autointerp.simulators.one_at_a_time import OneAtATime
from autointerp.simulators.structured import Structured
from tests.llm.fake_server import CHAT, Asked, FakeServer, Reply
from tests.llm.fake_server import Status as Fault
from tests.run_helpers import small_config
from tests.simulators.asking import Model, numbered, peaked, said

SNAPSHOTS = Path(__file__).parent / "snapshots"

EXPLAINERS = [{"name": "top_tokens", "type": "top_tokens"}]
SCORE = {"shuffled_donors": 1, "bootstrap": 100, "min_active_documents": 1}


def level(token: str) -> int:
    return len(token) % 10


def answer(asked: Asked) -> Reply | str:
    """Answers what each of the simulators asks, by the length of each token."""
    question = asked.text
    if "Token: " in question:
        one = level(json.loads(question.rsplit("Token: ", 1)[1]))
        return Reply(str(one), finish="length", logprobs=((str(one), peaked(one)),))
    texts = numbered(question)
    if "response_format" in asked.body:
        entries = [
            {
                "text": number,
                "active": [
                    {"token": place, "level": level(token)}
                    for place, token in enumerate(tokens, 1)
                    if level(token)
                ],
            }
            for number, tokens in enumerate(texts, 1)
        ]
        return json.dumps({"texts": entries})
    pieces: list[tuple[str, Any]] = []
    for number, token in enumerate(texts[0], 1):
        pieces += [(f"{number}\t", ()), (str(level(token)), peaked(level(token))), ("\n", ())]
    return Reply("".join(text for text, _ in pieces), logprobs=tuple(pieces))


def hosted(folder: Path, subject: Path, server: FakeServer, simulator: str, **options: Any):
    return small_config(
        folder,
        subject,
        llm={"model": "openai/gpt-4.1", "base_url": server.openai_url, "server": "test"},
        explainers=EXPLAINERS,
        units={"sample": 2},
        score={**SCORE, **options.pop("score", {})},
        simulator={"name": simulator, **options},
    )


@pytest.mark.parametrize("simulator", ["structured", "generated", "one_at_a_time"])
def test_a_run_asks_once_and_has_every_call_in_its_ledger(tiny_folder, tmp_path, simulator):
    with FakeServer(answer=answer, check_bodies=False) as server:
        results = run(hosted(tmp_path, tiny_folder, server, simulator))
        n = server.count(CHAT)
        again = hosted(tmp_path, tiny_folder, server, simulator)
        run(again.model_copy(update={"name": "again", "output": str(tmp_path / "again")}))
        assert server.count(CHAT) == n
    scores = [unit.scores["top_tokens"] for unit in results.units]
    assert {score.simulator for score in scores} == {simulator}
    assert {score.status for score in scores} == {Status.OK}
    assert {score.n_unknown_tokens for score in scores} == {0}
    rows = [row for row in results.ledger if row["purpose"].startswith("simulate")]
    assert sum(row["requests"] for row in rows) == n
    assert {row["model"] for row in rows} == {"openai/gpt-4.1"}


def test_texts_go_together_as_the_config_says(tiny_folder, tmp_path):
    with FakeServer(answer=answer, check_bodies=False) as server:
        run(hosted(tmp_path, tiny_folder, server, "structured", sequences_per_call=1))
        alone = server.count(CHAT)
    with FakeServer(answer=answer, check_bodies=False) as server:
        config = hosted(tmp_path, tiny_folder, server, "structured", sequences_per_call=64)
        run(config.model_copy(update={"output": str(tmp_path / "other")}))
        assert server.count(CHAT) < alone


def test_answers_that_cannot_be_read_are_missing_and_counted(tiny_folder, tmp_path):
    with FakeServer(answer=lambda _: "I do not know.", check_bodies=False) as server:
        results = run(hosted(tmp_path, tiny_folder, server, "structured"))
    for unit in results.units:
        score = unit.scores["top_tokens"]
        assert (score.status, score.value) == (Status.FAILED, None)
        assert score.n_unknown_tokens > 0


def test_what_a_provider_failed_to_answer_is_missing_and_not_kept(tiny_folder, tmp_path):
    """A refused request leaves its text missing; the next time it is needed it is asked again."""

    def config(server: FakeServer) -> RunConfig:
        return hosted(tmp_path, tiny_folder, server, "structured", sequences_per_call=1)

    with FakeServer(
        answer=answer,
        faults=lambda n: Fault(400) if n % 3 == 0 else None,
        check_bodies=False,
    ) as server:
        results = run(config(server))
        asked = server.count(CHAT)
        assert all(unit.scores["top_tokens"].n_unknown_tokens > 0 for unit in results.units)
        server.faults = lambda _: None
        other = {"score": config(server).score.model_copy(update={"bootstrap": 101})}
        results = run(config(server).model_copy(update=other))
    assert {unit.scores["top_tokens"].n_unknown_tokens for unit in results.units} == {0}
    assert server.count(CHAT) == asked + -(-asked // 3)


def local(folder: Path, subject: Path, **simulator: Any) -> RunConfig:
    return small_config(
        folder,
        subject,
        explainers=EXPLAINERS,
        units={"sample": 2},
        score=SCORE,
        simulator={"mass_floor": 0.0, **simulator},
    )


@pytest.mark.parametrize("name", ["completions", "trained_head"])
def test_local_models_simulate_by_other_ways_too(tiny_folder, tmp_path, name):
    results = run(local(tmp_path, tiny_folder, name=name, model=str(tiny_folder)))
    for unit in results.units:
        score = unit.scores["top_tokens"]
        assert score.simulator == name
        assert score.status in (Status.OK, Status.FAILED)
        assert score.n_tokens + score.n_unknown_tokens > 0


def test_calibration_is_fitted_in_a_run(tiny_folder, tmp_path):
    with FakeServer(answer=answer, check_bodies=False) as server:
        config = hosted(
            tmp_path, tiny_folder, server, "structured", score={"calibration": "isotonic"}
        )
        results = run(config)
    details = [unit.scores["top_tokens"].details for unit in results.units]
    assert {one["calibration"] for one in details} == {"isotonic"}
    fitted = [one for one in details if one["calibration_status"] == "ok"]
    assert fitted
    assert all(one["n_calibration_tokens"] > 0 for one in fitted)
    assert all(one["calibrated_rsquared_score"] is not None for one in fitted)


@pytest.mark.parametrize("simulator", ["generated", "one_at_a_time", "completions"])
def test_a_model_without_logprobs_is_refused_before_anything_is_recorded(
    tiny_folder, tmp_path, monkeypatch, simulator
):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    config = small_config(
        tmp_path, tiny_folder, explainers=EXPLAINERS,
        llm={"model": "anthropic/claude-sonnet-4-5"}, simulator={"name": simulator},
    )  # fmt: skip
    with pytest.raises(UsageError, match=rf"{simulator}.*anthropic/claude-sonnet-4-5"):
        run(config)
    assert not (tmp_path / "run" / "records").exists()


@pytest.mark.parametrize("simulator", ["structured", "generated", "one_at_a_time"])
def test_an_estimate_counts_the_real_questions(tiny_folder, tmp_path, simulator):
    with FakeServer(answer=answer, check_bodies=False) as server:
        config = hosted(tmp_path, tiny_folder, server, simulator)
        stages = {stage.stage: stage for stage in estimate_run(config, timing=False).stages}
        assert server.count(CHAT) == 0
        run(config)
        n = server.count(CHAT)
    stage = stages["simulation"]
    assert stage.model == "openai/gpt-4.1"
    # Made-up units have as many windows as the design keeps at most.
    assert n <= stage.calls <= 4 * n
    assert stage.input_tokens > 0
    assert stage.output_tokens > 0


def test_the_prompts_are_those_in_the_snapshots():
    """With UPDATE_SNAPSHOTS=1 they are written anew; read the difference before committing it."""
    texts = [["The", " cat", "\n", "\t", '"9"', " <|im_end|>", "\ufffd"], [" 2", "\u2028"]]
    model = Model(lambda _: said(""))
    requests = {
        "structured": Structured(model).request("words for animals", texts),
        "generated": Generated(model).request("words for animals", texts[0]),
        "one_at_a_time": OneAtATime(model).request("words for animals", texts[0], 3),
    }
    shown = {
        name: "\n".join(f"[{message.role}]\n{message.content}" for message in request.messages)
        for name, request in requests.items()
    }
    shown["completions"] = Completions(model).text("words for animals", texts[0])[0]
    for name, text in shown.items():
        file = SNAPSHOTS / f"{name}.txt"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            file.write_text(text + "\n", encoding="utf-8")
        assert text + "\n" == file.read_text(encoding="utf-8"), name


def test_the_configs_of_the_page_on_simulators_are_valid(tiny_folder, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "simulators.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)]
    names = {small_config(tmp_path, tiny_folder, **block).simulator.name for block in blocks}
    assert names == {"structured", "generated", "completions", "trained_head"}
