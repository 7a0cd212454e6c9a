"""Small real runs whose explainer and judge is a server that always answers alike."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig
from autointerp.runner import run
from tests.llm.fake_server import Asked, FakeServer
from tests.run_helpers import small_config

WORDS = "words about farms"


def answering(words: str = WORDS) -> Callable[[Asked], str]:
    """The same words for who explains; yes and no in turn, or the second, for who judges."""

    def answer(asked: Asked) -> str:
        form = asked.body.get("response_format")
        if not form:
            return words
        answers = form["json_schema"]["schema"]["properties"].get("answers")
        if answers is None:
            return json.dumps({"explanation": words})
        n = answers["minItems"]
        in_turn = [place % 2 == 0 for place in range(n)]
        return json.dumps({"answers": in_turn if "boolean" in str(answers) else [2] * n})

    return answer


@contextmanager
def judged_config(
    folder: Path, model: Path, words: str = WORDS, **changes: Any
) -> Iterator[RunConfig]:
    """A config of a few neurons, scored by simulation and a judge, while its server answers."""
    with FakeServer(answer=answering(words)) as server:
        settings: dict[str, Any] = {
            "llm": {"model": "openai/gpt-4.1", "base_url": server.openai_url, "server": "test",
                    "retry_wait": 0.01, "give_up_after": 10},
            "scorers": [
                {"name": "simulation", "type": "simulation"},
                {"name": "detection", "type": "detection"},
            ],
            # Silent windows, which detection needs: few of a layer's neurons count on a token.
            "sources": {
                "neurons": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post",
                            "sparsify": {"l0": 4}},
            },
        }  # fmt: skip
        yield small_config(folder, model, **{**settings, **changes})


def judged_run(folder: Path, model: Path, words: str = WORDS, **changes: Any) -> Path:
    """Such a run, finished; returns its folder."""
    with judged_config(folder, model, words, **changes) as config:
        run(config)
    return folder / "run"
