"""Answers of the local model that must follow a JSON schema."""

import json
from pathlib import Path

import pytest
import torch

from autointerp.llm import Message, Request, ResponseStatus, load_client
from autointerp.llm.local import LocalClient
from autointerp.llm.local_grammar import bounded
from autointerp.subject import Subject, load_subject


def detection_schema(n: int) -> dict:
    """One answer per numbered text, in order."""
    item = {
        "type": "object",
        "properties": {"index": {"type": "integer"}, "answer": {"type": "boolean"}},
        "required": ["index", "answer"],
        "additionalProperties": False,
    }
    return {
        "type": "array",
        "prefixItems": [
            item | {"properties": item["properties"] | {"index": {"const": i + 1}}}
            for i in range(n)
        ],
        "items": False,
        "minItems": n,
        "maxItems": n,
    }


EXPLANATION = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string", "minLength": 1, "maxLength": 120},
        "confidence": {"enum": ["low", "medium", "high"]},
    },
    "required": ["explanation", "confidence"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Subject:
    return load_subject(str(tiny_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def client(tiny: Subject) -> LocalClient:
    return LocalClient(tiny)


def question(text: str, max_tokens: int = 200, **fields) -> Request:
    return Request((Message("user", text),), max_tokens, **fields)


def check_detection(text: str, n: int) -> None:
    answers = json.loads(text)
    assert [item["index"] for item in answers] == list(range(1, n + 1))
    assert {type(item["answer"]) for item in answers} == {bool}
    assert {tuple(item) for item in answers} == {("index", "answer")}


def test_a_model_that_babbles_still_answers_in_form(client):
    requests = [
        question(f"Text {i}", schema=detection_schema(1 + i % 4), temperature=1.0, seed=i)
        for i in range(12)
    ]
    for number, response in enumerate(client.complete(requests)):
        assert response.status is ResponseStatus.OK
        check_detection(response.text, 1 + number % 4)


def test_a_constrained_answer_is_the_same_in_any_batch(client):
    requests = [
        question("Go.", schema=EXPLANATION),
        question("Say something at length about this and that.", 12),
        question("12345", schema=detection_schema(3), temperature=1.0),
        question("a b c", schema={"enum": ["yes", "no", "perhaps"]}, top_logprobs=3),
    ]
    alone = [client.complete([request])[0].text for request in requests]
    assert [r.text for r in client.complete(requests)] == alone
    assert [r.text for r in client.complete(requests[::-1])] == alone[::-1]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3", "gemma2"])
def test_constrained_answers_do_not_depend_on_the_batch_elsewhere(tiny_subject, tokenizer, family):
    subject = tiny_subject(family, vocabulary=len(tokenizer))
    subject.tokenizer = tokenizer
    client = LocalClient(subject)
    requests = [
        question("Go.", 20),
        question("Go on and on.", 60, schema=detection_schema(3)),
        question("Go where you like, 12.", 60, schema=EXPLANATION),
    ]
    alone = [client.complete([request])[0].text for request in requests]
    assert [r.text for r in client.complete(requests)] == alone
    check_detection(alone[1], 3)


def test_the_likeliest_allowed_token_is_taken(tiny, client):
    request = question("Pick", schema={"enum": ["cat", "dog", "horse"]}, top_logprobs=3)
    (response,) = client.complete([request])
    starts = {tiny.tokenizer(f'"{word}')["input_ids"][0] for word in ("cat", "dog", "horse")}
    ids = torch.tensor([client.prompt_ids(request.messages)])
    logprobs = tiny.model(ids).logits[0, -1].float().log_softmax(0)
    first = response.logprobs[0]
    assert starts == {tiny.tokenizer('"')["input_ids"][0]}
    assert first.top[0][0] == first.token
    # Quoted words begin in more than one way ('"', '"c'); the best of them was taken.
    assert first.logprob == pytest.approx(
        float(logprobs[tiny.tokenizer.convert_tokens_to_ids(first.token)]), abs=1e-4
    )
    assert all(token.startswith('"') for token, _ in first.top)
    assert json.loads(response.text) in ("cat", "dog", "horse")


def test_logprobs_under_a_schema_are_the_models_own_not_renormalised(client):
    (response,) = client.complete([question("Is it?", schema={"type": "boolean"}, top_logprobs=20)])
    total = sum(torch.tensor([p for _, p in response.logprobs[0].top]).exp())
    assert 0 < float(total) < 0.1


def test_an_answer_cut_off_within_its_schema_is_truncated_not_ok(client):
    for budget in range(1, 12):
        (response,) = client.complete([question("Go", budget, schema=detection_schema(4))])
        assert response.status is ResponseStatus.TRUNCATED
        assert response.usage.output_tokens == budget
        assert f"{budget} tokens" in response.reason
        with pytest.raises(ValueError):
            json.loads(response.text)


def test_an_answer_that_just_fits_is_ok(client):
    request = question("Go", schema=detection_schema(2))
    (whole,) = client.complete([request])
    n = whole.usage.output_tokens
    (fits,) = client.complete([question("Go", n, schema=detection_schema(2))])
    (cut,) = client.complete([question("Go", n - 1, schema=detection_schema(2))])
    assert (fits.text, fits.status) == (whole.text, ResponseStatus.OK)
    assert cut.status is ResponseStatus.TRUNCATED


def test_a_stop_string_inside_a_schema_leaves_it_truncated(client):
    (response,) = client.complete([question("Go", schema=detection_schema(2), stop=("answer",))])
    assert response.status is ResponseStatus.TRUNCATED
    assert "stop string" in response.reason


def test_a_schema_that_leaves_no_choice_is_answered_without_the_model(client, monkeypatch):
    monkeypatch.setattr(client._decoder, "_logits", None)
    (response,) = client.complete([question("Go", schema={"const": "words for animals"})])
    assert json.loads(response.text) == "words for animals"
    assert response.status is ResponseStatus.OK


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "nonsense"}, "nonsense"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "minLength"),
        ({"type": "object", "properties": {"a": {"type": "string", "format": "x"}}}, "format"),
    ],
)
def test_a_schema_that_cannot_be_followed_fails_by_name_and_alone(client, schema, named):
    refused, other = client.complete([question("Go", schema=schema), question("Go", 3)])
    assert refused.status is ResponseStatus.FAILED
    assert named in refused.reason
    assert other.text


def test_text_in_answers_may_be_any_unicode(tiny, monkeypatch):
    client = LocalClient(tiny)
    wanted = json.dumps("naïve 動物 🦊", ensure_ascii=False)
    told = iter([*tiny.tokenizer(wanted)["input_ids"], tiny.tokenizer.eos_token_id])

    def logits(tokens: torch.Tensor, *_: object) -> torch.Tensor:
        scores = torch.zeros(len(tokens), len(tiny.tokenizer))
        scores[:, next(told)] = 9.0
        return scores

    monkeypatch.setattr(client._decoder, "_logits", logits)
    (response,) = client.complete([question("Go", schema={"type": "string"}, top_logprobs=1)])
    assert response.text == wanted


def test_the_embedded_model_answers_in_form():
    client = load_client("local/smollm2")
    texts = "\n".join(f"{n}. {text}" for n, text in enumerate(("The cat sat.", "2 + 2"), 1))
    responses = client.complete(
        [
            question(
                f"Which of these texts are about animals? Answer in JSON.\n{texts}",
                60,
                schema=detection_schema(2),
            ),
            question(
                "In a few words: what do cat, dog and horse have in common?",
                300,
                schema=EXPLANATION,
            ),
        ]
    )
    assert [r.status for r in responses] == [ResponseStatus.OK] * 2
    check_detection(responses[0].text, 2)
    assert set(json.loads(responses[1].text)) == {"explanation", "confidence"}


def test_an_integer_without_bounds_ends():
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "k": {"type": "integer", "minimum": 3}},
    }
    found = bounded(schema)["properties"]
    assert found["n"] == {"type": "integer", "minimum": -999_999, "maximum": 999_999}
    assert found["k"] == {"type": "integer", "minimum": 3, "maximum": 999_999}
    assert bounded({"type": "integer", "enum": [10**9]}) == {"type": "integer", "enum": [10**9]}
