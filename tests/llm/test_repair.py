import json
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm import Message, Request, Response, ResponseStatus, drive
from autointerp.llm.repair import repairing
from autointerp.llm.schemas import MalformedAnswerError, parse_answer
from tests.llm.fake import as_response

SCHEMA = {
    "type": "object",
    "properties": {"levels": {"type": "array", "items": {"type": "integer", "maximum": 10}}},
    "required": ["levels"],
    "additionalProperties": False,
}
GOOD = '{"levels": [1, 2]}'


def question(text: str = "rate", schema=SCHEMA) -> Request:
    return Request((Message("user", text),), 8, schema=schema, purpose="detect")


def asking(*requests: Request) -> Generator:
    return (yield list(requests))


def asked_and_got(answers: list, *requests: Request) -> tuple[list[Request], list[Response]]:
    """What a repaired job asks, and what it is sent in the end."""
    asked: list[Request] = []
    left = list(answers)
    steps = repairing(asking(*(requests or (question(),))))
    batch = next(steps)
    while True:
        asked += batch
        replies = [as_response(left.pop(0)) for _ in batch]
        try:
            batch = steps.send(replies)
        except StopIteration as end:
            return asked, end.value


def test_a_good_answer_is_asked_for_once():
    asked, got = asked_and_got([GOOD])
    assert len(asked) == 1
    assert json.loads(got[0].text) == {"levels": [1, 2]}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("the levels are 1 and 2", "not JSON"),
        ('{"levels": [1, 2}', "not JSON"),
        ('{"levels": [1, 11]}', '["levels"][1] does not follow'),
        ('{"level": [1]}', "does not follow"),
        ('{"levels": [1], "levels": [2]}', "twice"),
        ('{"levels": [NaN]}', "NaN"),
        ('{"levels": [1e999]}', "Infinity"),
        ("[]", "does not follow"),
        ('{"levels": ["\\ud83d"]}', "surrogate"),
        (GOOD + GOOD, "not JSON"),
    ],
)
def test_a_wrong_answer_is_shown_its_error_and_asked_for_once_more(wrong, says):
    asked, got = asked_and_got([wrong, GOOD])
    assert got[0].text == GOOD
    assert got[0].status is ResponseStatus.OK
    again = asked[1]
    assert again.messages[:1] == asked[0].messages
    assert again.messages[1] == Message("assistant", wrong)
    assert says in again.messages[2].content
    assert again.schema == SCHEMA
    assert again.purpose == "detect.repair"


def test_a_second_wrong_answer_is_malformed_with_its_raw_text():
    asked, got = asked_and_got(["no", "still no"])
    assert len(asked) == 2
    assert (got[0].status, got[0].text) == (ResponseStatus.MALFORMED, "still no")
    assert "not JSON" in got[0].reason


@pytest.mark.parametrize("status", ["truncated", "refused", "empty", "failed"])
def test_what_asking_again_would_not_help_is_passed_on(status):
    response = Response("x" if status == "truncated" else None, ResponseStatus(status))
    asked, got = asked_and_got([response])
    assert (len(asked), got) == (1, [response])


@pytest.mark.parametrize("status", ["truncated", "refused", "empty"])
def test_a_repair_that_is_not_answered_leaves_the_first_answers_error(status):
    asked, got = asked_and_got(["no", Response(None, ResponseStatus(status), reason="why")])
    assert len(asked) == 2
    assert (got[0].status, got[0].text) == (ResponseStatus.MALFORMED, "no")
    assert "not JSON" in got[0].reason
    assert status in got[0].reason


def test_a_repair_that_failed_fails_the_question_which_another_time_may_be_answered():
    asked, got = asked_and_got(["no", Response(None, ResponseStatus.FAILED, reason="why")])
    assert len(asked) == 2
    assert (got[0].status, got[0].text) == (ResponseStatus.FAILED, None)
    assert "not JSON" in got[0].reason
    assert got[0].reason.endswith("failed: why")


def test_only_the_wrong_ones_of_many_are_asked_again_and_places_are_kept():
    requests = [question(str(i)) for i in range(4)]
    answers = [f'{{"levels": [{i}]}}' for i in range(4)]
    asked, got = asked_and_got(
        [answers[0], "x", answers[2], "y", answers[1], answers[3]], *requests
    )
    assert len(asked) == 6
    assert [r.text for r in got] == answers


def test_questions_without_a_schema_are_left_alone():
    asked, got = asked_and_got(["anything"], question(schema=None))
    assert (len(asked), got[0].text) == (1, "anything")


def test_the_driver_repairs_whatever_it_runs():
    done: dict = {}
    replies = ["no", GOOD]

    def handler(batch: list) -> list:
        return [as_response(replies.pop(0)) for _ in batch]

    drive({"job": asking(question())}, {Request: handler}, done.__setitem__, done.__setitem__)
    assert done["job"][0].text == GOOD


def test_a_fence_around_the_whole_answer_is_no_error():
    assert parse_answer(f"```json\n{GOOD}\n```\n", SCHEMA) == {"levels": [1, 2]}
    with pytest.raises(MalformedAnswerError):
        parse_answer(f"Here it is:\n```json\n{GOOD}\n```", SCHEMA)


def test_a_fenced_answer_reaches_the_job_without_its_fence():
    _, got = asked_and_got([f"```json\n{GOOD}\n```"])
    assert got[0].text == GOOD


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@given(json_values)
def test_every_json_value_is_read_back(value):
    assert parse_answer(json.dumps(value), {}) == value


@given(st.text())
def test_no_text_is_anything_but_read_or_malformed(text):
    try:
        parse_answer(text, SCHEMA)
    except MalformedAnswerError as error:
        assert len(str(error)) < 1000


def test_a_bomb_of_brackets_is_malformed():
    with pytest.raises(MalformedAnswerError):
        parse_answer("[" * 100_000, SCHEMA)
