"""Language models of known skill as judges: the check ranks them as they deserve."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from autointerp.analysis.check_llm import askable, check_llm, spread_units, youden
from autointerp.analysis.known_answers import GROUPS, TEXTS, known_answers
from autointerp.cli import app
from autointerp.llm import Capabilities, Request, Response, ResponseStatus, Usage
from autointerp.llm.prices import load_prices
from autointerp.records import AutointerpError, UsageError
from autointerp.scorers.prompts import shown_text
from tests.llm.fake_server import FakeServer

READABLE = [answer for answer in known_answers() if answer.readable]
ANSWERS = askable(READABLE)

MEANING = {
    (answer.explanations[name], shown_text(tokens)): bool(values.max() > 0.1)
    for answer in ANSWERS
    for name in TEXTS
    for tokens, values in zip(answer.tokens, answer.predictions[name], strict=True)
}


def asked(request: Request) -> tuple[str, list[str]]:
    """Explanation and texts of a question."""
    question = request.messages[-1].content
    texts = re.findall(r"<text \d+>(.*?)</text \d+>", question, flags=re.DOTALL)
    (words,) = {words for words, _ in MEANING if f"Explanation: {words}\n" in question}
    return words, texts


class Judge:
    """A client whose answers are a function of what is true."""

    name = fingerprint = "fake/judge"
    capabilities = Capabilities(json_schema=True)

    def __init__(self, says: Callable[[bool, str, int], Any]) -> None:
        self.says = says
        self.n_asked = 0

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        self.n_asked += len(requests)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        if request.purpose.endswith("repair"):
            return Response("no JSON", ResponseStatus.OK, Usage(100, output_tokens=10))
        words, texts = asked(request)
        answers = [self.says(MEANING[words, t], t, place) for place, t in enumerate(texts)]
        text = "I cannot say" if None in answers else json.dumps({"answers": answers})
        return Response(text, ResponseStatus.OK, Usage(100, output_tokens=10))


def noise(text: str) -> bool:
    """Always the same for a text."""
    return np.random.default_rng(list(text.encode())).random() < 0.25


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    judges = {
        "oracle": Judge(lambda true, *_: true),
        "noisy": Judge(lambda true, text, _: true != noise(text)),
        "constant": Judge(lambda *_: True),
        "inverted": Judge(lambda true, *_: not true),
    }
    return {name: check_llm(judge, ANSWERS) for name, judge in judges.items()}


def test_judges_are_ranked_oracle_noisy_constant_inverted(reports: Any) -> None:
    margins = [r.groups[0].margin for r in reports.values()]
    assert margins == sorted(margins, reverse=True)
    assert margins[0] > 0.9 and margins[2] == 0 and margins[3] < -0.9
    areas = [r.groups[0].auc for r in reports.values()]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] == 1.0 and areas[2] == 0.5


def test_the_oracle_agrees_with_itself_and_puts_true_explanations_first(reports: Any) -> None:
    found = reports["oracle"]
    assert (found.oracle_agreement, found.oracle_kappa) == (1.0, 1.0)
    assert all(unit.correlations["true"] == 1.0 for unit in found.units)
    whole = found.groups[0].against
    assert all(whole[name].beyond_chance for name in TEXTS[1:])
    assert found.verdict.startswith("Tells true explanations from unrelated ones on units of tok")
    assert len(found.units) == len(ANSWERS) and (found.missing_share, found.order_changed) == (0, 0)


def test_a_noisy_judge_agrees_as_often_as_it_is_right(reports: Any) -> None:
    assert reports["noisy"].oracle_agreement == pytest.approx(0.75, abs=0.03)
    assert 0.4 < reports["noisy"].oracle_kappa < 0.6


def test_judges_that_cannot_tell_are_not_fit(reports: Any) -> None:
    for name in ("constant", "inverted"):
        assert reports[name].verdict.startswith("Not fit to judge")
    assert reports["constant"].oracle_kappa == pytest.approx(0, abs=1e-9)
    assert reports["inverted"].oracle_agreement == 0.0


def test_a_judge_that_looks_at_the_order_is_found_out() -> None:
    found = check_llm(Judge(lambda _, __, place: place % 5 < 2), ANSWERS, n_units=6)
    assert found.order_changed > 0.3


def test_malformed_answers_are_counted_and_tell_nothing() -> None:
    found = check_llm(Judge(lambda *_: None), ANSWERS, n_units=3)
    assert (found.malformed_share, found.missing_share) == (1.0, 1.0)
    assert found.groups[0].margin == 0 and found.groups[0].auc == 0.5
    assert (found.oracle_agreement, found.order_changed) == (None, None)
    assert "too few to tell" in found.verdict
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["usd"] is None


def test_units_that_are_never_silent_are_named_and_not_asked_about() -> None:
    found = check_llm(Judge(lambda true, *_: true), READABLE, n_units=1)
    assert set(found.not_asked) == {a.name for a in READABLE} - {a.name for a in ANSWERS}
    assert "first_token" in found.not_asked and len(found.not_asked) <= 4


def test_a_missing_answer_is_half_a_yes() -> None:
    truth = np.array([1.0, 1, 0, 0])
    assert youden(truth, np.array([1.0, np.nan, 0, 0])) == 0.75
    assert youden(truth, np.full(4, np.nan)) == 0.0


def test_few_units_are_of_every_group_and_cost_less() -> None:
    judge = Judge(lambda true, *_: true)
    price = load_prices().find("local/any")
    found = check_llm(judge, ANSWERS, n_units=6, price=price)
    kinds = [unit.kind for unit in found.units]
    assert len(found.units) == 6 and found.verdict.startswith(f"On 6 of {len(ANSWERS)} units: ")
    assert all(sum(kind in group for kind in kinds) == 2 for group in GROUPS.values())
    assert len(set(kinds)) == 6
    assert found.n_requests == judge.n_asked
    assert found.input_tokens == 100 * found.n_requests and found.usd == 0.0
    for n in (0, len(ANSWERS) + 1):
        with pytest.raises(UsageError, match="from 1 to"):
            spread_units(ANSWERS, n)


def test_a_judge_that_cannot_be_reached_is_no_judge_that_fails() -> None:
    class Silent(Judge):
        def complete(self, requests: Sequence[Request]) -> list[Response]:
            return [Response(None, ResponseStatus.FAILED, reason="no route")] * len(requests)

    with pytest.raises(AutointerpError, match="answers nothing: no route"):
        check_llm(Silent(lambda *_: True), ANSWERS, n_units=1)


def test_the_command_asks_a_server_and_prints_verdict_and_json() -> None:
    def yes(body: Any) -> str:
        schema = body.body["response_format"]["json_schema"]["schema"]
        return json.dumps({"answers": [True] * schema["properties"]["answers"]["minItems"]})

    with FakeServer(answer=yes) as server:
        given = ["check-judge", "--llm", "openai/gpt-4.1", "--base-url", server.openai_url]
        shown = CliRunner().invoke(app, [*given, "--units", "3"], env={"COLUMNS": "160"})
        plain = CliRunner().invoke(app, [*given, "--units", "3", "--json"])
    assert shown.exit_code == 0, shown.output
    assert "too few to tell" in shown.output and "price unknown" in shown.output
    report = json.loads(plain.stdout)
    assert report["groups"][0]["margin"] == 0 and report["malformed_share"] == 0


def test_options_of_a_judge_without_one_are_refused() -> None:
    result = CliRunner().invoke(app, ["check-judge", "--base-url", "http://127.0.0.1:9"])
    assert result.exit_code == 2 and "--llm" in result.output
