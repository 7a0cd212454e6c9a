"""How much an explanation helps a base model, against closed forms."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from autointerp.scorers.measured import Measurement
from autointerp.scorers.surprisal import BASELINE, SurprisalReader, SurprisalScorer
from autointerp.subject import Subject, load_subject
from tests.scorers.made import job, scored, unit, windows


class Words:
    """A tokenizer of words."""

    bos_token_id = None

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def __call__(self, text: str, **_) -> dict[str, list[int]]:
        return {"input_ids": [self.ids.setdefault(w, len(self.ids)) for w in text.split()]}


class Counts(torch.nn.Module):
    """P(next = v | past of n tokens) = (c_v + 1) / (n + V), c_v how often v has come."""

    vocabulary = 1000

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        hot = torch.nn.functional.one_hot(input_ids, self.vocabulary) * attention_mask[..., None]
        return SimpleNamespace(logits=torch.log(hot.cumsum(1) + 1.0))


def counting() -> Subject:
    return Subject("counts", Counts(), Words(), torch.device("cpu"), "counts")


def expected_loss(head: str, body: str) -> float:
    """Of the counting model, by its definition."""
    past, losses = head.split(), []
    for word in body.split():
        losses.append(-math.log((past.count(word) + 1) / (len(past) + Counts.vocabulary)))
        past.append(word)
    return sum(losses) / len(losses)


def test_losses_are_those_of_the_definition():
    texts = ("the cat saw the cat", "rain", "a dog and a cat and a dog", "")
    found = SurprisalReader(counting()).losses("cat dog", texts)
    for text, loss in zip(texts[:3], found[:3], strict=True):
        assert loss == pytest.approx(expected_loss("Description: cat dog\n\n", text), rel=1e-5)
    assert math.isnan(found[3])


def test_batches_and_padding_change_nothing():
    texts = tuple(" ".join("abcdefgh"[: 1 + i % 8]) for i in range(20))
    one = SurprisalReader(counting(), batch_tokens=1).losses("a b", texts)
    many = SurprisalReader(counting(), batch_tokens=10_000).losses("a b", texts)
    assert one == pytest.approx(many, rel=1e-5)


def test_an_answer_is_the_fall_of_the_surprisal():
    reader = SurprisalReader(counting())
    (answer,) = reader.answer([Measurement("cat", ("the cat ran", "it rained", ""))])
    values = json.loads(answer.text or "")
    for text, value in zip(("the cat ran", "it rained"), values[:2], strict=True):
        baseline = expected_loss(f"Description: {BASELINE}\n\n", text)
        assert value == pytest.approx(
            baseline - expected_loss("Description: cat\n\n", text), abs=1e-5
        )
    assert values[2] is None


def test_a_word_that_comes_in_active_windows_alone_scores_one():
    reader = SurprisalReader(counting())
    record = unit(windows(n_hard=0))
    scorer = SurprisalScorer("made", n_replicates=200)
    score, _ = scored(
        scorer, job("stone", own="ANIMAL", record=record), lambda r: reader.answer([r])[0]
    )
    assert score.value == 1.0
    assert score.details["mean_active"] > score.details["mean_silent"]
    assert score.lift is not None and score.lift > 0.3


def test_a_uniform_model_helps_nobody(tiny_subject):
    subject = tiny_subject("gpt2")
    with torch.no_grad():
        for parameter in subject.model.parameters():
            parameter.zero_()
    tokenizer = Words()
    subject = Subject("zero", subject.model, tokenizer, torch.device("cpu"), "zero")
    reader = SurprisalReader(subject)
    losses = reader.losses("cat", ("a b c", "d"))
    assert losses == pytest.approx([math.log(64)] * 2)
    (answer,) = reader.answer([Measurement("cat", ("a b c", "d"))])
    assert json.loads(answer.text or "") == [0.0, 0.0]


def test_losses_are_those_of_the_model_read_alone(tiny_folder):
    """Any transformers model: its own loss on the same ids, one text at a time."""
    subject = load_subject(str(tiny_folder), device="cpu")
    texts = (" the river ran", " seven farmers kept bees near the old mill", "<|im_end|>")
    found = SurprisalReader(subject).losses("water", texts)
    for text, loss in zip(texts, found, strict=True):
        ids = [
            subject.tokenizer(t, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            for t in ("Description: water\n\n", text)
        ]
        whole = torch.tensor([ids[0] + ids[1]])
        labels = whole.clone()
        labels[:, : len(ids[0])] = -100
        with torch.no_grad():
            expected = subject.model(input_ids=whole, labels=labels).loss
        assert loss == pytest.approx(float(expected), rel=1e-4)
    special = subject.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert special not in SurprisalReader(subject)._ids("<|im_end|>")


def test_another_model_has_another_fingerprint():
    other = Subject("counts", Counts(), Words(), torch.device("cpu"), "another")
    assert SurprisalReader(counting()).fingerprint != SurprisalReader(other).fingerprint
