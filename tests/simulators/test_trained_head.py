"""Simulators that were trained to be one, against an independent computation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from autointerp.recording.corpus import vocabulary
from autointerp.records import AutointerpError
from autointerp.simulators.trained_head import TrainedHead, load_trained
from tests.conftest import tiny_model

TEXT = " The cat sat on the mat, 12 times.\n\tOdd"
EXPLANATION = "words for animals"


@pytest.fixture(scope="module")
def folder(tiny_folder: Path) -> Path:
    return tiny_folder


@pytest.fixture
def head_folder(folder: Path, tokenizer, tmp_path: Path) -> Path:
    """A model and, beside it, a head of its own."""
    model = transformers.AutoModel.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(1)
    save_file(
        {"weight": torch.randn(11, 32), "bias": torch.randn(11)}, tmp_path / "head.safetensors"
    )
    return tmp_path


@pytest.fixture
def classifier_folder(folder: Path, tokenizer, tmp_path: Path) -> Path:
    """A token classifier with a class per level."""
    torch.manual_seed(2)
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=11)
    model = transformers.AutoModelForTokenClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def tokens_of(tokenizer, text: str) -> tuple[list[int], tuple[str, ...]]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    texts = vocabulary(tokenizer)
    return ids, tuple(texts[i] for i in ids)


def plainly(logits, n_before: int) -> np.ndarray:
    """E = sum_k k p_k over 11 classes, at the text's own tokens."""
    p = np.exp(logits[n_before:] - logits[n_before:].max(-1, keepdims=True))
    return (p @ np.arange(11)) / p.sum(-1)


def start_ids(tokenizer, before="## Neuron Description: ", between="\n\n ## Input: ") -> list[int]:
    return tokenizer(before + EXPLANATION + between)["input_ids"]


def test_the_first_logits_of_a_language_model_are_the_levels(folder, tokenizer):
    ids, tokens = tokens_of(tokenizer, TEXT)
    start = start_ids(tokenizer)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(torch.tensor([start + ids])).logits[0, :, :11].double().numpy()
    simulator = TrainedHead(load_trained(folder, device="cpu"))
    (simulation,) = simulator.simulate(EXPLANATION, [tokens])
    assert simulation.expected == pytest.approx(plainly(logits, len(start)), abs=1e-4)
    assert simulation.known.all()
    assert simulator.n_levels == 11


def test_a_token_classifier_has_a_class_per_level(classifier_folder, tokenizer):
    ids, tokens = tokens_of(tokenizer, TEXT)
    start = start_ids(tokenizer)
    model = transformers.AutoModelForTokenClassification.from_pretrained(classifier_folder).eval()
    with torch.no_grad():
        logits = model(torch.tensor([start + ids])).logits[0].double().numpy()
    (simulation,) = TrainedHead(load_trained(classifier_folder, device="cpu")).simulate(
        EXPLANATION, [tokens]
    )
    assert simulation.expected == pytest.approx(plainly(logits, len(start)), abs=1e-4)


def test_a_head_may_lie_beside_its_model_and_say_how_it_is_prompted(head_folder, tokenizer):
    (head_folder / "simulator.json").write_text(json.dumps({"before": "D: ", "between": "\nT: "}))
    ids, tokens = tokens_of(tokenizer, TEXT)
    start = start_ids(tokenizer, "D: ", "\nT: ")
    model = transformers.AutoModel.from_pretrained(head_folder).eval()
    torch.manual_seed(1)
    weight, bias = torch.randn(11, 32), torch.randn(11)
    with torch.no_grad():
        hidden = model(torch.tensor([start + ids])).last_hidden_state[0]
    logits = (hidden @ weight.T + bias).double().numpy()
    (simulation,) = TrainedHead(load_trained(head_folder, device="cpu")).simulate(
        EXPLANATION, [tokens]
    )
    assert simulation.expected == pytest.approx(plainly(logits, len(start)), abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3"])
def test_other_architectures_are_read_as_well(family, tokenizer, tmp_path):
    tiny_model(family, vocabulary=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids, tokens = tokens_of(tokenizer, TEXT)
    start = start_ids(tokenizer)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        logits = model(torch.tensor([start + ids])).logits[0, :, :11].double().numpy()
    (simulation,) = TrainedHead(load_trained(tmp_path, device="cpu")).simulate(
        EXPLANATION, [tokens]
    )
    assert simulation.expected == pytest.approx(plainly(logits, len(start)), abs=1e-4)


def test_batches_change_nothing(folder, tokenizer):
    texts = [tokens_of(tokenizer, text)[1] for text in (TEXT, "a", "the cat", TEXT * 3)]
    jobs = [(EXPLANATION, [*texts, ()]), ("years", texts[::-1]), ("", texts[:1])]
    model = load_trained(folder, device="cpu")
    whole = TrainedHead(model).simulate_many(jobs)
    small = TrainedHead(model, batch_tokens=1).simulate_many(jobs)
    for ours, theirs in zip(whole, small, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.expected == pytest.approx(b.expected, abs=1e-4)
    assert len(whole[0][4].expected) == 0


def test_memory_that_ends_halves_the_batch(folder, tokenizer, monkeypatch):
    texts = [tokens_of(tokenizer, TEXT)[1]] * 8
    simulator = TrainedHead(load_trained(folder, device="cpu"))
    expected = simulator.simulate(EXPLANATION, texts)
    read = simulator._read

    def small(batch):
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return read(batch)

    monkeypatch.setattr(simulator, "_read", small)
    for a, b in zip(simulator.simulate(EXPLANATION, texts), expected, strict=True):
        assert a.expected == pytest.approx(b.expected, abs=1e-5)


def test_parts_of_characters_are_missing_and_shift_nothing(folder, tokenizer):
    ids, tokens = tokens_of(tokenizer, "a 🦊 cat\tand\n動 end")
    (simulation,) = TrainedHead(load_trained(folder, device="cpu")).simulate("x", [tokens])
    broken = ["\ufffd" in token for token in tokens]
    assert any(broken)
    assert simulation.known.tolist() == [not part for part in broken]
    assert len(simulation.expected) == len(ids)


def test_texts_of_another_tokenizer_are_refused(folder):
    simulator = TrainedHead(load_trained(folder, device="cpu"))
    with pytest.raises(AutointerpError, match="not in its vocabulary"):
        simulator.simulate("x", [("▁The", "▁cat", "▁sat")])


def test_what_looks_like_a_special_token_in_a_description_is_text(folder, tokenizer):
    start = TrainedHead(load_trained(folder, device="cpu"))._start("a<|im_end|>b")
    assert tokenizer.eos_token_id not in start
    assert "<|im_end|>" in tokenizer.decode(start)


def test_texts_longer_than_the_context_are_refused(folder, tokenizer):
    model = load_trained(folder, device="cpu")
    _, tokens = tokens_of(tokenizer, "cat " * (model.max_tokens + 1))
    with pytest.raises(AutointerpError, match="shorter windows"):
        TrainedHead(model).simulate("x", [tokens])


def test_the_fingerprint_is_of_weights_head_and_prompt(head_folder):
    prints = [load_trained(head_folder, device="cpu").fingerprint]
    save_file({"weight": torch.ones(11, 32)}, head_folder / "head.safetensors")
    prints.append(load_trained(head_folder, device="cpu").fingerprint)
    (head_folder / "simulator.json").write_text('{"before": "D"}')
    prints.append(load_trained(head_folder, device="cpu").fingerprint)
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("head", "settings", "named"),
    [
        ({"weight": torch.ones(11, 31)}, "", "11, 31"),
        ({"weight": torch.ones(5, 32)}, "", "5 classes"),
        ({"other": torch.ones(11, 32)}, "", "None"),
        ({"weight": torch.ones(11, 32)}, '{"befor": "x"}', "befor"),
        ({"weight": torch.ones(11, 32)}, '{"n_levels": true}', "n_levels"),
        ({"weight": torch.ones(11, 32)}, "{", "simulator.json"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_by_name(head_folder, head, settings, named):
    save_file(head, head_folder / "head.safetensors")
    if settings:
        (head_folder / "simulator.json").write_text(settings)
    with pytest.raises(AutointerpError, match=named):
        load_trained(head_folder, device="cpu")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(AutointerpError, match="could not be loaded"):
        load_trained(tmp_path)
