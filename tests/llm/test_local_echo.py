"""Log-probabilities of prompts on the local model, against a plain forward pass."""

from pathlib import Path

import pytest
import torch

from autointerp.llm import Message, Request, ResponseStatus, local_reading
from autointerp.llm.local import LocalClient
from autointerp.subject import Subject, load_subject

PROMPTS = (
    "The cat sat on the mat.",
    "The cat sat on the mat, and then it slept for a long time under the old table.",
    "The\tcat\nunknown 動物 🦊",
    "The <|im_end|> is text",
)


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Subject:
    return load_subject(str(tiny_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def client(tiny: Subject) -> LocalClient:
    return LocalClient(tiny)


def reading(text: str, top: int = 0) -> Request:
    return Request((Message("user", text),), 0, echo=True, top_logprobs=top)


def plainly(subject: Subject, text: str) -> tuple[list[int], torch.Tensor]:
    """Ids of a text, and [n - 1, vocab] log-probabilities of what comes after each but the last."""
    ids = subject.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    with torch.inference_mode():
        return ids, subject.model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)


@pytest.mark.parametrize("positions_at_once", [3, 512])
def test_prompt_logprobs_are_those_of_a_plain_forward_pass(
    client, tiny, monkeypatch, positions_at_once
):
    monkeypatch.setattr(local_reading, "_POSITIONS_AT_ONCE", positions_at_once)
    for text, response in zip(
        PROMPTS, client.complete([reading(text, 5) for text in PROMPTS]), strict=True
    ):
        ids, logprobs = plainly(tiny, text)
        assert response.status is ResponseStatus.OK
        assert [t.token for t in response.logprobs] == [tiny.tokenizer.decode([i]) for i in ids[1:]]
        expected = logprobs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
        assert [t.logprob for t in response.logprobs] == pytest.approx(expected.tolist(), abs=1e-4)
        best = logprobs.topk(5).values
        for token, values in zip(response.logprobs, best.tolist(), strict=True):
            assert [p for _, p in token.top] == pytest.approx(values, abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3", "gemma2"])
def test_prompt_logprobs_hold_on_other_architectures(tiny_subject, tokenizer, family):
    subject = tiny_subject(family, vocabulary=len(tokenizer))
    subject.tokenizer = tokenizer
    responses = LocalClient(subject).complete([reading(text) for text in PROMPTS])
    for text, response in zip(PROMPTS, responses, strict=True):
        ids, logprobs = plainly(subject, text)
        expected = logprobs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
        assert [t.logprob for t in response.logprobs] == pytest.approx(expected.tolist(), abs=1e-3)


def test_each_request_gets_as_many_alternatives_as_it_asked_for(client):
    responses = client.complete([reading(PROMPTS[0], n) for n in (0, 2, 20)])
    for n, response in zip((0, 2, 20), responses, strict=True):
        assert {len(token.top) for token in response.logprobs} == {n}
        for token in response.logprobs:
            values = [p for _, p in token.top]
            assert values == sorted(values, reverse=True)


def test_reading_costs_no_output_tokens(client):
    (response,) = client.complete([reading(PROMPTS[0])])
    assert response.text == ""
    assert response.usage.output_tokens == 0
    assert response.usage.input_tokens == len(response.logprobs) + 1


def test_readings_and_questions_share_a_call(client):
    requests = [reading("one two"), Request((Message("user", "Go"),), 3), reading("three four")]
    found = client.complete(requests)
    assert [r.logprobs is not None for r in found] == [True, False, True]
    assert found[1].text


def test_a_prompt_longer_than_the_context_is_refused(client):
    (response,) = client.complete([reading("word " * client.capabilities.max_context)])
    assert response.status is ResponseStatus.FAILED
    assert "context" in response.reason
