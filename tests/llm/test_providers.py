"""Requests become bodies that the vendors' SDKs take, and replies become responses."""

import itertools
import json

import pytest
from openai.types.chat import ChatCompletion

from autointerp.llm import (
    ClientOptions,
    Message,
    Request,
    ResponseStatus,
    Usage,
    load_client,
)
from autointerp.llm.anthropic import message_body, message_response
from autointerp.llm.openai import chat_body, chat_response
from autointerp.llm.retries import BadReplyError, ProviderError
from autointerp.records import AutointerpError, UsageError
from tests.llm.fake_server import FakeServer, Reply, bigram_logprob

SCHEMA = {
    "type": "object",
    "properties": {"level": {"type": "integer"}},
    "required": ["level"],
    "additionalProperties": False,
}
TALK = (
    Message("system", "You rate things."),
    Message("user", "few-shot"),
    Message("assistant", "3"),
    Message("user", "the question"),
)


def question(text: str = "hello", **fields) -> Request:
    return Request((Message("user", text),), fields.pop("max_tokens", 8), **fields)


def client_for(server: FakeServer, name: str, **options):
    vendor = name.partition("/")[0]
    url = server.openai_url if vendor == "openai" else server.anthropic_url
    settings = {"base_url": url, "retry_wait": 0.0, "give_up_after": 5.0, **options}
    return load_client(name, ClientOptions(**settings))


# ---------------------------------------------------------------------- bodies


EVERYTHING = Request(TALK, 20, 0.7, sample=2, seed=5, stop=("\n",), schema=SCHEMA, shared=3)


@pytest.mark.parametrize("answer_format", ["auto", "schema", "tool", "prompt"])
@pytest.mark.parametrize(
    "name",
    [
        "openai/gpt-4.1",
        "openai/meta-llama/llama-3-8b",
        "openai/Qwen/Qwen3-8B",
        "anthropic/claude-sonnet-4-6",
        "anthropic/claude-opus-5",
    ],
)
def test_every_body_is_what_the_sdk_takes_and_every_format_comes_back_as_json(name, answer_format):
    # Leaving the `with` fails where a body does not fit the SDK's own types.
    with FakeServer(answer=lambda _: '{"level": 7}') as server:
        client = client_for(server, name, answer_format=answer_format)
        (response,) = client.complete([EVERYTHING])
        assert (response.text, response.status) == ('{"level": 7}', ResponseStatus.OK)
        assert server.asked[0].body["model"] == name.partition("/")[2]
        roles = [role for role, _ in server.asked[0].messages]
        assert roles == ["system", "user", "assistant", "user"]


def test_a_model_that_reasons_is_sent_no_temperature_and_the_new_name_of_the_limit():
    body = chat_body(question(temperature=0.0), "gpt-5.4", ClientOptions())
    assert "temperature" not in body
    assert body["max_completion_tokens"] == 8
    assert "max_tokens" not in body
    assert "extra_body" not in message_body(question(), "claude-opus-5")
    assert message_body(question(), "claude-haiku-4-5")["extra_body"] == {"temperature": 0.0}


def test_unknown_servers_get_the_names_that_all_servers_know():
    options = ClientOptions(base_url="http://127.0.0.1:1/v1")
    body = chat_body(question(temperature=0.5), "llama", options)
    assert body["max_tokens"] == 8
    assert "prompt_cache_key" not in body
    assert 0 <= body["seed"] < 2**31


def test_samples_of_one_question_have_seeds_of_their_own_and_greedy_ones_none():
    seeds = [chat_body(question(temperature=1.0, sample=i), "gpt-4.1")["seed"] for i in range(3)]
    assert len(set(seeds)) == 3
    assert "seed" not in chat_body(question(), "gpt-4.1")


def test_questions_with_one_start_share_the_key_of_the_prompt_cache():
    keys = {
        chat_body(Request((Message("system", start), Message("user", text)), 8), "gpt-4.1")[
            "prompt_cache_key"
        ]
        for start, text in (("a", "1"), ("a", "2"), ("b", "1"))
    }
    assert len(keys) == 2


def test_the_cache_mark_stands_at_the_end_of_the_shared_start():
    body = message_body(EVERYTHING, "claude-sonnet-4-6")
    marked = [
        block["text"]
        for blocks in (body["system"], *(turn["content"] for turn in body["messages"]))
        for block in blocks
        if "cache_control" in block
    ]
    assert marked == ["You rate things.", "3"]


def test_a_schema_beyond_strict_mode_is_sent_without_it():
    loose = {"type": "object", "properties": {"level": {"type": "integer"}}}
    body = chat_body(question(schema=loose), "gpt-4.1")
    assert body["response_format"]["json_schema"]["strict"] is False
    body = chat_body(question(schema=SCHEMA), "gpt-4.1")
    assert body["response_format"]["json_schema"]["strict"] is True


def test_a_conversation_that_ends_with_the_assistant_is_answered_not_continued():
    body = message_body(Request(TALK[:3], 8), "claude-sonnet-4-6")
    assert body["messages"][-1]["role"] == "user"


# ---------------------------------------------------------------------- replies


@pytest.mark.parametrize("name", ["openai/gpt-4.1", "anthropic/claude-sonnet-4-6"])
@pytest.mark.parametrize("schema", [None, SCHEMA])
@pytest.mark.parametrize(
    ("reply", "status", "text"),
    [
        (Reply('{"level": 1}'), "ok", '{"level": 1}'),
        (Reply('{"lev', finish="length"), "truncated", '{"lev'),
        (Reply("I will not.", finish="refusal"), "refused", None),
        (Reply("", finish="content_filter"), "refused", None),
        (Reply(None, finish="length"), "truncated", ""),
    ],
)
def test_refusals_truncation_and_answers_are_told_apart(name, schema, reply, status, text):
    with FakeServer(answer=lambda _: reply) as server:
        (response,) = client_for(server, name).complete([question(schema=schema)])
    assert (response.status, response.text) == (status, text)
    assert bool(response.reason) == (status != "ok")


@pytest.mark.parametrize("name", ["openai/gpt-4.1", "anthropic/claude-sonnet-4-6"])
@pytest.mark.parametrize("text", [None, "", " \n"])
def test_an_answer_without_text_is_empty(name, text):
    with FakeServer(answer=lambda _: Reply(text)) as server:
        (response,) = client_for(server, name).complete([question()])
    assert (response.status, response.text) == (ResponseStatus.EMPTY, None)


@pytest.mark.parametrize("name", ["openai/gpt-4.1", "anthropic/claude-sonnet-4-6"])
def test_all_tokens_of_a_prompt_are_counted_once(name):
    reply = Reply("x", input_tokens=100, cached_tokens=60, written_tokens=10, output_tokens=3)
    with FakeServer(answer=lambda _: reply) as server:
        (response,) = client_for(server, name).complete([question()])
    assert response.usage == Usage(100, 60, 3, 10)


def test_log_probabilities_come_with_their_alternatives():
    tokens = (("7", (("7", -0.2), ("8", -1.9))), ("0", (("0", -0.01), ("1", -5.0))))
    with FakeServer(answer=lambda _: Reply("70", logprobs=tokens)) as server:
        (response,) = client_for(server, "openai/gpt-4.1").complete([question(top_logprobs=2)])
    assert response.logprobs is not None
    assert [(t.token, t.logprob, t.top) for t in response.logprobs] == [
        ("7", -0.2, (("7", -0.2), ("8", -1.9))),
        ("0", -0.01, (("0", -0.01), ("1", -5.0))),
    ]


def completion(**changes) -> dict:
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None,
              "message": {"role": "assistant", "content": "x"}}  # fmt: skip
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [choice], **changes}  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"index": 0}]},
        {"choices": [{"message": {"content": ["a", 1]}}]},
        completion(choices=completion()["choices"] * 2),
    ],
)
def test_a_reply_that_cannot_be_read_is_told_from_an_answer(body):
    with pytest.raises(BadReplyError):
        chat_response(body)


@pytest.mark.parametrize("body", [{}, {"content": None}, {"content": [], "stop_reason": "odd"}])
def test_a_message_that_cannot_be_read_is_told_from_an_answer(body):
    with pytest.raises(BadReplyError):
        message_response(body)


def test_an_error_behind_a_good_status_is_an_error():
    with pytest.raises(ProviderError) as caught:
        chat_response({"error": {"code": 429, "message": "too fast"}, "choices": None})
    assert (caught.value.problem.kind, caught.value.problem.status) == ("again", 429)


def test_the_body_of_a_batch_result_is_read_like_a_live_reply():
    body = completion(usage={"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5})
    live = chat_response(ChatCompletion.model_validate(body))
    assert chat_response(body) == live
    assert live.usage == Usage(4, 0, 1)


def test_missing_log_probabilities_are_an_error_where_they_were_asked_for():
    with pytest.raises(BadReplyError, match="log-prob"):
        chat_response(completion(), question(top_logprobs=3))
    assert chat_response(completion(), question()).logprobs is None


# ---------------------------------------------------------------------- names, options, keys


@pytest.mark.parametrize("name", ["gpt-4", "openai", "openai/", "google/gemini", "", "/"])
def test_an_unknown_name_is_refused_with_what_could_be_meant(name):
    with pytest.raises(AutointerpError, match="openai/MODEL"):
        load_client(name)


def test_the_vendors_key_must_be_in_the_environment(monkeypatch):
    for name, variable in (("openai/gpt-4.1", "OPENAI"), ("anthropic/claude-x", "ANTHROPIC")):
        monkeypatch.delenv(f"{variable}_API_KEY", raising=False)
        monkeypatch.delenv(f"{variable}_BASE_URL", raising=False)
        with pytest.raises(UsageError, match=f"{variable}_API_KEY"):
            load_client(name)


def test_the_vendors_key_is_never_sent_to_another_address(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-the-vendor-only")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-for-the-vendor-only")
    with FakeServer() as server:
        client_for(server, "openai/gpt-4.1").complete([question()])
        client_for(server, "anthropic/claude-haiku-4-5").complete([question()])
        assert "vendor-only" not in json.dumps([dict(asked.headers) for asked in server.asked])


def test_a_named_key_is_sent(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-mine-123456")
    with FakeServer() as server:
        client_for(server, "openai/gpt-4.1", api_key_env="MY_KEY").complete([question()])
        client_for(server, "anthropic/claude-x", api_key_env="MY_KEY").complete([question()])
        for asked in server.asked:
            assert "sk-mine-123456" in " ".join(asked.headers.values())


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "http://user:secret@127.0.0.1/v1"},
        {"base_url": "http://127.0.0.1/v1?key=secret"},
        {"base_url": "127.0.0.1:8000"},
        {"api_key_env": "sk-this-is-the-secret-itself"},
        {"extra_body": {"api_key": "secret"}},
        {"capabilities": {"telepathy": True}},
        {"capabilities": {"logprobs": True}},
        {"capabilities": {"json_schema": 1}},
    ],
)
def test_options_that_cannot_be_used_are_refused_without_repeating_a_secret(options):
    given = ClientOptions(**{"base_url": "http://127.0.0.1:1/v1", **options})
    with pytest.raises(UsageError) as caught:
        load_client("openai/m", given)
    assert "secret" not in str(caught.value)


def test_models_options_and_addresses_have_keys_of_their_own_and_a_named_server_keeps_its_own():
    def fingerprint(name="openai/m", **options):
        return load_client(
            name, ClientOptions(**{"base_url": "http://127.0.0.1:1/v1", **options})
        ).fingerprint

    first = fingerprint()
    assert fingerprint(max_concurrency=3, timeout=9.0, requests_per_minute=3) == first
    others = {
        fingerprint("openai/n"),
        fingerprint("anthropic/m", base_url="http://127.0.0.1:1"),
        fingerprint(base_url="http://127.0.0.1:2/v1"),
        fingerprint(extra_body={"min_p": 0.1}),
        fingerprint(reasoning_effort="low"),
        fingerprint(answer_format="tool"),
        first,
    }
    assert len(others) == 7
    named = {fingerprint(server="lab", base_url=f"http://127.0.0.1:{p}/v1") for p in (1, 2)}
    assert len(named) == 1


# ---------------------------------------------------------------------- prompt log-probabilities


def echo_client(server: FakeServer):
    return client_for(server, "openai/m", capabilities={"prompt_logprobs": True, "logprobs": 5})


def test_prompt_log_probabilities_are_those_of_the_prompts_own_tokens():
    with FakeServer(prompt_logprob=bigram_logprob) as server:
        request = question("one two three", echo=True, top_logprobs=2)
        (response,) = echo_client(server).complete([request])
    assert response.logprobs is not None
    assert [(t.token, t.logprob) for t in response.logprobs] == [
        (" two", pytest.approx(bigram_logprob("one", " two"))),
        (" three", pytest.approx(bigram_logprob("one two", " three"))),
    ]
    assert all(len(t.top) == 2 for t in response.logprobs)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_server_that_is_off_by_one_is_found_out_before_anything_is_used(shift):
    server = FakeServer(prompt_logprob=bigram_logprob, echo_shift=shift)
    with server, pytest.raises(AutointerpError, match="off by one"):
        echo_client(server).complete([question("one two three", echo=True)])


def test_a_server_that_contradicts_itself_is_found_out():
    calls = itertools.count()

    def moody(prefix: str, token: str) -> float:
        return bigram_logprob(prefix, token) - 0.5 * (next(calls) % 3)

    server = FakeServer(prompt_logprob=moody)
    with server, pytest.raises(AutointerpError, match="contradicts itself"):
        echo_client(server).complete([question("one two three", echo=True)])


def test_the_self_check_is_made_once():
    with FakeServer(prompt_logprob=bigram_logprob) as server:
        client = echo_client(server)
        client.complete([question(f"text number {i}", echo=True) for i in range(5)])
        first = server.count()
        client.complete([question(f"text numbered {i}", echo=True) for i in range(5)])
        assert server.count() - first == 5
