"""Scores that lack an answer because a request failed: told of, and completed by a retry."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.records import Score, Status
from autointerp.runner import run
from autointerp.store import RunStore
from autointerp.verify import verify_run
from tests.llm.fake_server import CHAT, Asked, FakeServer
from tests.llm.fake_server import Status as Fault
from tests.llm.test_money_run import config_of, reply
from tests.simulators.test_simulators_in_runs import answer

SCORERS: dict[str, dict[str, Any]] = {
    "simulation": {"name": "simulation", "type": "simulation"},
    "detection": {"name": "detection", "type": "detection", "n_per_prompt": 4},
}
CHANGES: dict[str, Any] = {
    "explainers": [{"name": "top_tokens", "type": "top_tokens"}],
    "simulator": {"name": "structured"},
    "scorers": list(SCORERS.values()),
    "controls": ["generic"],
    "score": {"shuffled_donors": 2, "bootstrap": 100, "min_active_documents": 1},
}


def scorer_that_asks(asked: Asked) -> str:
    """Its name; "" where it is an explainer."""
    if "response_format" not in asked.body:
        return ""
    schema = asked.body["response_format"]["json_schema"]["schema"]
    return "simulation" if "texts" in schema["properties"] else "detection"


def explanation_in(asked: Asked) -> str:
    return asked.text.splitlines()[0].split(": ", 1)[1]


def texts_in(asked: Asked) -> str:
    return asked.text.split("\n", 1)[1]


def knows(asked: Asked) -> Any:
    """A server that answers simulators and judges."""
    return answer(asked) if scorer_that_asks(asked) == "simulation" else reply(asked)


@dataclass
class Served:
    """A run and the server that answers it."""

    config: Any
    server: FakeServer

    @property
    def asked(self) -> list[Asked]:
        return [asked for asked in self.server.asked if asked.path == CHAT]

    def scores(self) -> dict[str, Score]:
        store = RunStore(self.config.output)
        found = {score.key: score for score in store.scores()}
        store.close()
        return found

    def incomplete(self) -> list[Score]:
        return [score for score in self.scores().values() if score.n_failed_requests]

    def explained(self, score: Score) -> str:
        store = RunStore(self.config.output)
        found = store.get_explanation(score.explanation_key)
        store.close()
        assert found is not None and found.text
        return found.text

    def told(self, *command: str) -> str:
        """What a command on the run's folder prints."""
        result = CliRunner().invoke(app, [command[0], self.config.output, *command[1:]])
        assert result.exit_code == 0, result.output
        return result.output

    def retried(self) -> dict[str, Any]:
        self.server.faults = lambda _: None
        return json.loads(self.told("retry", "--failed", "--json"))


Start = Callable[..., Served]


@pytest.fixture
def start(tiny_folder: Path, tmp_path: Path) -> Iterator[Start]:
    """Runs in folders of their own; `is_broken` says which requests fail for good."""
    servers: list[FakeServer] = []

    def started(
        is_broken: Callable[[Asked], bool] = lambda _: False,
        says: Callable[[Asked], Any] = knows,
        **changes: Any,
    ) -> Served:
        server = FakeServer(answer=says, check_bodies=False)
        server.faults = lambda _: Fault(400, "down") if is_broken(server.asked[-1]) else None
        server.start()
        servers.append(server)
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        config = config_of(folder, tiny_folder, server, **{**CHANGES, **changes})
        run(config)
        return Served(config, server)

    yield started
    for server in servers:
        server.close()


@pytest.mark.parametrize("scorer", ["simulation", "detection"])
def test_a_score_that_lacks_an_answer_is_completed_by_a_retry_and_paid_for_once(
    start: Start, scorer: str
) -> None:
    only = {"scorers": [SCORERS[scorer]]}
    whole = start(**only)
    assert whole.incomplete() == []
    # The same texts under the own explanation, two donors' and the generic one.
    alike = [one for one in whole.asked if texts_in(one) == texts_in(whole.asked[0])]
    assert len({explanation_in(one) for one in alike}) >= 4
    roles: set[str] = set()
    for broken in sorted(alike, key=lambda one: explanation_in(one) != "English text"):
        if len(roles) == 3:
            break
        found = start(lambda asked, raw=broken.raw: asked.raw == raw, **only)
        incomplete = found.incomplete()
        assert {score.scorer for score in incomplete} == {scorer}
        assert {score.status for score in incomplete} == {Status.OK}
        assert {score.n_failed_requests for score in incomplete} == {1}
        said = explanation_in(broken)
        roles |= {
            "generic" if said == "English text"
            else "own" if said == found.explained(score) else "donor"
            for score in incomplete
        }  # fmt: skip
        n = len(found.asked)
        run(found.config)
        assert len(found.asked) == n  # a finished run does not ask again by itself
        assert found.retried() == {
            "asked_again": {"explanations": 0, "scores": 0, "incomplete": len(incomplete)},
            "failed_now": {"explanations": 0, "scores": 0},
            "incomplete_now": 0,
        }
        assert [asked.raw for asked in found.asked[n:]] == [broken.raw]
        assert {k: asdict(s) for k, s in found.scores().items()} == {
            k: asdict(s) for k, s in whole.scores().items()
        }
    assert roles == {"own", "donor", "generic"}


def first_of(scorer: str) -> Callable[[Asked], bool]:
    """Whether a request is the first one of a scorer, whenever it is sent."""
    found: list[bytes] = []

    def is_first(asked: Asked) -> bool:
        if scorer_that_asks(asked) == scorer and not found:
            found.append(asked.raw)
        return asked.raw in found

    return is_first


def test_incomplete_scores_are_told_of_wherever_failures_are(start: Start) -> None:
    found = start(first_of("simulation"))
    n = len(found.incomplete())
    line = f"incomplete: {n}; `autointerp retry {found.config.output} --failed` asks again"
    assert n > 0 and line in found.told("status")
    assert json.loads(found.told("status", "--json"))["incomplete"] == {"simulation": n}
    path = str(Path(found.config.output) / "config.yaml")
    assert line in CliRunner().invoke(app, ["run", path]).output
    verified = verify_run(found.config.output)
    ((why, count),) = verified.not_recomputed.items()
    assert count == n and f"`autointerp retry {found.config.output} --failed`" in why
    assert verified.is_exact and "failed" in why
    assert f"{n} incomplete scores" in found.told("retry", "--failed")  # it is still broken
    assert len(found.incomplete()) == n
    found.server.faults = lambda _: None
    assert "incomplete now: 0" in found.told("retry", "--failed")
    assert "--failed" not in found.told("status")
    verified = verify_run(found.config.output)
    assert verified.is_exact and not verified.not_recomputed


def test_a_choice_by_incomplete_scores_is_made_again(start: Start) -> None:
    explainers = [
        {"name": "words", "type": "token_activation_pairs", "n_windows": 2},
        {"name": "top_tokens", "type": "top_tokens"},
        {"name": "best", "type": "best_of", "of": ["words", "top_tokens"]},
    ]
    changes = {"explainers": explainers, "scorers": [SCORERS["simulation"]]}
    whole = start(**changes)
    found = start(first_of("simulation"), **changes)
    assert json.loads(found.told("status", "--json"))["incomplete"] == {"best": 1}
    verified = verify_run(found.config.output)
    ((why, count),) = verified.not_recomputed.items()
    assert count == 1 and why.startswith("choices incomplete") and verified.is_exact
    n = len(found.asked)
    assert found.retried()["asked_again"] == {"explanations": 0, "scores": 0, "incomplete": 1}
    assert len(found.asked) > n and found.asked[n].raw in [one.raw for one in whole.asked]
    assert found.scores() == whole.scores()
    verified = verify_run(found.config.output)
    assert verified.is_exact and not verified.not_recomputed
    assert "incomplete: " not in found.told("status")


def test_answers_that_cannot_be_read_are_kept_and_not_asked_for_anew(start: Start) -> None:
    """What came and is of no use makes nothing incomplete."""
    bad = first_of("simulation"), first_of("detection")

    def says(asked: Asked) -> Any:
        is_bad = any(is_first(asked) for is_first in bad)
        return "no" if is_bad or "cannot be read" in asked.text else knows(asked)

    found = start(says=says)
    scores = found.scores()
    assert any(score.n_unknown_tokens for score in scores.values())
    assert any(score.details.get("n_unanswered") for score in scores.values())
    assert found.incomplete() == []
    n = len(found.asked)
    assert found.retried()["asked_again"] == {"explanations": 0, "scores": 0, "incomplete": 0}
    assert len(found.asked) == n and found.scores() == scores


def test_a_repair_that_is_not_answered_is_asked_for_again(start: Start) -> None:
    bad = first_of("detection")

    def is_repair(asked: Asked) -> bool:
        return "cannot be read" in asked.text

    def says(asked: Asked) -> Any:
        if is_repair(asked):
            return reply(asked)
        return "no" if bad(asked) else knows(asked)

    found = start(is_repair, says)
    assert {score.scorer for score in found.incomplete()} == {"detection"}
    n = len(found.asked)
    assert found.retried()["incomplete_now"] == 0
    assert len(found.asked) == n + 1 and is_repair(found.asked[-1])
