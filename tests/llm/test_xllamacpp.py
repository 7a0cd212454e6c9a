"""Our client against llama.cpp's own server, on a real model: nothing of it was written here."""

import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from autointerp.llm import ClientOptions, Message, Request, Response, ResponseStatus, load_client
from autointerp.records import AutointerpError
from tests.llm.llama_server import MODEL, LlamaServer

pytest.importorskip("xllamacpp")

OPTIONS = ClientOptions(
    server="llama.cpp",
    max_concurrency=4,
    timeout=60,
    answer_format="schema",
    capabilities={"logprobs": 20, "json_schema": True, "max_context": 2048},
)

NUMBERED = {
    "type": "object",
    "properties": {"number": {"type": "integer"}, "is_even": {"type": "boolean"}},
    "required": ["number", "is_even"],
    "additionalProperties": False,
}


def asked(numbers: range) -> list[Request]:
    """Questions whose answers can only be their own numbers: they show whose answer came back."""
    return [question(f"Say {n}.", 12, schema={"const": f"number {n}"}) for n in numbers]


def answered(responses: list[Response]) -> list[str]:
    return [json.loads(response.text) for response in responses]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    started = LlamaServer(tmp_path_factory.mktemp("llama") / "server.log")
    started.start()
    try:
        started.wait()
        yield started
    finally:
        started.kill()


@pytest.fixture
def client(server: LlamaServer):
    return load_client(f"openai/{MODEL}", replace(OPTIONS, base_url=server.base_url))


def counted(client, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Grows by one with every attempt that a client makes."""
    attempts: list[Request] = []
    ask = client._ask

    async def counting(request: Request):
        attempts.append(request)
        return await ask(request)

    monkeypatch.setattr(client, "_ask", counting)
    return attempts


def question(text: str, max_tokens: int = 24, **fields) -> Request:
    return Request((Message("user", text),), max_tokens, **fields)


def test_a_chat_is_answered_and_counted(client):
    (response,) = client.complete([question("Name a colour.", 8)])
    assert response.status in (ResponseStatus.OK, ResponseStatus.TRUNCATED)
    assert response.text
    assert response.model == MODEL
    assert response.usage.input_tokens > 5
    assert 1 <= response.usage.output_tokens <= 8


def test_an_answer_cut_off_is_truncated(client):
    (response,) = client.complete([question("Count from one to a hundred in words.", 5)])
    assert response.status is ResponseStatus.TRUNCATED
    assert response.usage.output_tokens == 5


def test_an_answer_ends_before_its_stop_string(client):
    schema = {"const": "one two three"}
    (response,) = client.complete([question("Count.", 20, schema=schema, stop=(" three",))])
    assert response.text == '"one two'


def test_a_schema_is_enforced(client):
    (response,) = client.complete([question("Is seven even? Poem!", 60, schema=NUMBERED)])
    assert response.status is ResponseStatus.OK
    answer = json.loads(response.text)
    assert type(answer["number"]) is int
    assert type(answer["is_even"]) is bool


def test_logprobs_are_a_sorted_distribution_led_by_the_answer(client):
    (response,) = client.complete([question("Say hello.", 6, top_logprobs=10)])
    assert "".join(token.token for token in response.logprobs) == response.text
    assert len(response.logprobs) == response.usage.output_tokens
    for token in response.logprobs:
        logprobs = [p for _, p in token.top]
        assert len(logprobs) == 10
        assert logprobs == sorted(logprobs, reverse=True)
        assert sum(map(math.exp, logprobs)) <= 1 + 1e-5
        # Greedy: what was said is what was likeliest.
        assert token.top[0] == (token.token, token.logprob)


def test_four_at_a_time_every_answer_belongs_to_its_question(client):
    numbers = range(100, 112)
    expected = [f"number {n}" for n in numbers]
    assert answered(client.complete(asked(numbers))) == expected


def test_the_same_seed_gives_the_same_sample(server):
    # What is in its prompt cache changes this server's last bits.
    options = replace(OPTIONS, base_url=server.base_url, extra_body={"cache_prompt": False})
    client = load_client(f"openai/{MODEL}", options)

    def samples() -> list[str]:
        requests = [question("Name an animal.", 8, temperature=1.0, sample=n) for n in range(3)]
        return [client.complete([request])[0].text for request in requests]

    first = samples()
    assert first == samples()
    assert len(set(first)) > 1


def test_a_wrong_address_is_not_asked_twice(server, monkeypatch):
    options = replace(OPTIONS, base_url=server.base_url.replace("/v1", "/elsewhere/v1"))
    client = load_client(f"openai/{MODEL}", options)
    attempts = counted(client, monkeypatch)
    with pytest.raises(AutointerpError, match=r"404.*base_url"):
        client.complete([question("Hello?")])
    assert len(attempts) == 1


def test_a_request_the_server_refuses_fails_alone_and_is_not_asked_twice(client, monkeypatch):
    attempts = counted(client, monkeypatch)
    long, short = client.complete([question("word " * 2200), question("Say yes.", 4)])
    assert long.status is ResponseStatus.FAILED
    assert "400" in long.reason
    assert short.text
    assert len(attempts) == 2


def test_prompt_logprobs_are_refused_where_the_server_ignores_echo(server):
    options = replace(
        OPTIONS,
        base_url=server.base_url,
        capabilities={**OPTIONS.capabilities, "prompt_logprobs": True},
    )
    client = load_client(f"openai/{MODEL}", options)
    with pytest.raises(AutointerpError, match="echo"):
        client.complete([question("The cat sat on the mat.", echo=True)])


def test_prompt_logprobs_are_refused_unless_declared(client):
    with pytest.raises(AutointerpError, match="prompt"):
        client.complete([question("The cat sat on the mat.", echo=True)])


def test_a_server_that_is_killed_and_comes_back_is_waited_for(server, monkeypatch):
    options = replace(OPTIONS, base_url=server.base_url, give_up_after=120, retry_wait=0.2)
    client = load_client(f"openai/{MODEL}", options)
    requests = asked(range(12))
    found: list[Response] = []
    work = threading.Thread(target=lambda: found.extend(client.complete(requests)), daemon=True)
    attempts = counted(client, monkeypatch)
    work.start()
    while len(attempts) < 6:
        time.sleep(0.05)
    server.kill()
    time.sleep(1)
    assert work.is_alive()
    server.start()
    server.wait()
    work.join(timeout=120)
    assert answered(found) == [f"number {n}" for n in range(12)]
    assert len(attempts) > len(requests)
