"""A finished run of a few neurons, scored by simulation and a judge."""

import json
from pathlib import Path
from typing import Any

import pytest

from autointerp.runner import run
from tests.llm.fake_server import FakeServer
from tests.run_helpers import small_config


def _answer(asked: Any) -> str:
    form = asked.body.get("response_format")
    answers = form and form["json_schema"]["schema"]["properties"].get("answers")
    if not answers:
        return json.dumps({"explanation": "=words | about <farms>"}) if form else "=words | farms"
    return json.dumps({"answers": [i % 2 == 0 for i in range(answers["minItems"])]})


@pytest.fixture(scope="session")
def exported_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    with FakeServer(answer=_answer) as server:
        llm = {"model": "openai/gpt-4.1", "base_url": server.openai_url, "server": "test",
               "retry_wait": 0.01, "give_up_after": 10}  # fmt: skip
        scorers = [
            {"name": "simulation", "type": "simulation"},
            {"name": "detection", "type": "detection"},
        ]
        neurons = {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post", "sparsify": {"l0": 4}}
        run(small_config(folder, tiny_folder, llm=llm, scorers=scorers,
                         sources={"neurons": neurons}))  # fmt: skip
    return folder / "run"
