import pytest
import torch

from autointerp.records import AutointerpError
from tests.conftest import FAMILIES

TOKENS = torch.tensor([[5, 9, 2, 33, 7, 1, 60], [8, 8, 3, 21, 50, 4, 12]])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_run_stops_at_the_deepest_hook(family, tiny_subject):
    subject = tiny_subject(family, n_blocks=4)
    calls = []
    for block in range(4):
        module = subject.hook(f"blocks.{block}.hook_resid_post").module
        module.register_forward_hook(lambda *_, block=block: calls.append(block))
    subject.model.get_output_embeddings().register_forward_hook(lambda *_: calls.append("lm_head"))

    subject.run(TOKENS, ["blocks.1.hook_resid_post", "blocks.0.mlp.hook_post"])
    assert calls in ([0], [0, 1])  # a block's own hooks may run before the one that stops
    calls.clear()
    subject.run(TOKENS, ["blocks.2.hook_resid_pre"])
    assert calls == [0, 1]
    calls.clear()
    name = "blocks.1.hook_resid_pre"
    subject.run(TOKENS, [name, name])
    assert calls == [0]
    calls.clear()
    subject.run(TOKENS, ["blocks.3.hook_resid_post"])
    assert calls == [0, 1, 2] or calls == [0, 1, 2, 3]
    calls.clear()
    subject.run(TOKENS, ["hook_embed"])
    assert calls == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (TOKENS[0], r"not Tensor of shape \[7\], torch.int64"),
        (TOKENS.float(), r"not Tensor of shape \[2, 7\], torch.float32"),
        (TOKENS.tolist(), "not list"),
        (TOKENS.numpy(), r"not ndarray of shape \[2, 7\], int64"),
    ],
)
def test_ids_that_are_no_batch_are_refused(given, says, tiny_subject):
    with pytest.raises(AutointerpError, match=r"token ids must be a tensor \[batch.*" + says):
        tiny_subject("llama").run(given, ["blocks.0.hook_resid_post"])


def test_a_string_is_no_list_of_hook_points(tiny_subject):
    with pytest.raises(AutointerpError, match=r"is a string: give hook points as a list"):
        tiny_subject("llama").run(TOKENS, "blocks.0.hook_resid_post")


def test_the_lm_head_cannot_be_asked_for(tiny_subject):
    with pytest.raises(AutointerpError, match="belongs to the LM head, which is not run"):
        tiny_subject("llama").run(TOKENS, ["blocks.0.hook_resid_post", "lm_head:input"])


def run_out_of_memory(subject, limit, error):
    """Make the subject refuse batches of more than `limit` sequences; returns the batch sizes."""
    sizes = []

    def check(module, args, kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > limit:
            raise error

    subject.model.base_model.register_forward_pre_hook(check, with_kwargs=True)
    return sizes


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_batch_that_memory_does_not_hold_goes_in_halves(error, tiny_subject):
    name = "blocks.1.hook_resid_post"
    tokens, mask = TOKENS[[0, 1, 0, 1, 1]], torch.ones(5, 7, dtype=torch.long)
    mask[3, 5:] = 0
    whole = tiny_subject("llama").run(tokens, [name], mask)[name]
    subject = tiny_subject("llama")
    sizes = run_out_of_memory(subject, 2, error)
    parts = subject.run(tokens, [name], mask)[name]
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    assert sizes == [5, 2, 3, 1, 2]


def test_one_sequence_that_memory_does_not_hold_is_refused(tiny_subject):
    subject = tiny_subject("llama")
    run_out_of_memory(subject, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(AutointerpError, match=r"one sequence of 7 tokens.*sequence_length"):
        subject.run(TOKENS, ["blocks.0.hook_resid_post"])


def test_other_errors_are_not_taken_for_a_lack_of_memory(tiny_subject):
    subject = tiny_subject("llama")
    run_out_of_memory(subject, 0, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        subject.run(TOKENS, ["blocks.0.hook_resid_post"])


def test_a_run_leaves_no_hook_behind(tiny_subject):
    subject = tiny_subject("llama")
    subject.run(TOKENS, ["blocks.0.hook_resid_post"])
    module = subject.hook("blocks.0.hook_resid_post").module
    assert not module._forward_hooks and not module._forward_pre_hooks
    assert subject.model(TOKENS).logits.shape == (2, 7, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_on_the_right_changes_nothing(family, tiny_subject):
    subject = tiny_subject(family)
    names = ["blocks.0.mlp.hook_post", "blocks.2.hook_resid_post"]
    alone = subject.run(TOKENS[:1, :4], names)
    mask = torch.ones_like(TOKENS)
    mask[0, 4:] = 0
    padded = subject.run(TOKENS, names, mask)
    for name in names:
        torch.testing.assert_close(padded[name][0, :4], alone[name][0], rtol=1e-5, atol=1e-5)


def test_width_at_a_hook_point(tiny_subject):
    subject = tiny_subject("gpt2")
    assert subject.width_at("blocks.0.hook_resid_post") == subject.d_model == 16
    assert subject.width_at("blocks.0.mlp.hook_post") == 64
    assert subject.n_blocks == 3


@pytest.mark.parametrize("name", ["model.rotary_emb:output", "model.embed_tokens:input"])
def test_a_place_without_a_vector_per_token_has_no_width(name, tiny_subject):
    with pytest.raises(AutointerpError, match=r"one vector of numbers per token|carries no tensor"):
        tiny_subject("llama").width_at(name)
