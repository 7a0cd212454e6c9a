"""Norms of heads' writes against attention worked out from the model's own parts."""

import pytest
import torch

from autointerp.records import AutointerpError
from autointerp.units import AttentionHeads
from tests.conftest import FAMILIES, tiny_model

TOKENS = torch.tensor([[5, 9, 2, 33, 7, 11], [1, 2, 3, 4, 60, 6]])


def attention_of(model, block):
    """(attention module, [d_in, d_out] weight of its output projection)."""
    if hasattr(model, "transformer"):
        module = model.transformer.h[block].attn
        return module, module.c_proj.weight
    if hasattr(model, "gpt_neox"):
        module = model.gpt_neox.layers[block].attention
        return module, module.dense.weight.T
    module = model.model.layers[block].self_attn
    return module, module.o_proj.weight.T


def written_by_each_head(model, block):
    """[n_heads, batch, n_tokens, d_model]: attention's output minus that without the head.

    A head is taken out by zeroing its rows of the output projection, so nothing is assumed of how
    its values were mixed or shared.
    """
    attention, weight = attention_of(model, block)
    n_heads = model.config.num_attention_heads
    d_head = weight.shape[0] // n_heads
    found = []

    def run():
        handle = attention.register_forward_hook(lambda _m, _a, output: found.append(output[0]))
        model(TOKENS)
        handle.remove()
        return found.pop()

    whole = run()
    parts = []
    for head in range(n_heads):
        kept = weight.clone()
        weight[head * d_head : (head + 1) * d_head] = 0.0
        parts.append(whole - run())
        weight.copy_(kept)
    return torch.stack(parts)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_heads_value_is_the_norm_of_what_it_takes_away_when_zeroed(family, tiny_subject):
    subject = tiny_subject(family)
    heads = AttentionHeads.of("h", "subject", subject, "blocks.1.attn")
    assert (heads.n_units, heads.read_at) == (4, "blocks.1.attn.hook_z")
    hidden = subject.run(TOKENS, [heads.read_at])[heads.read_at]
    values = heads.encode(hidden.reshape(12, -1)).values
    expected = written_by_each_head(tiny_model(family), 1).norm(dim=-1).reshape(4, 12).T
    assert values.shape == (12, 4)
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)
    part = heads.encode(hidden.reshape(12, -1), slice(1, 3)).values
    torch.testing.assert_close(part, values[:, 1:3])


def test_heads_of_one_key_value_group_are_units_of_their_own(tiny_subject):
    subject = tiny_subject("llama")
    assert subject.model.config.num_key_value_heads == 2
    heads = AttentionHeads.of("h", "subject", subject, "blocks.0.attn")
    hidden = subject.run(TOKENS, [heads.read_at])[heads.read_at].reshape(12, -1)
    values = heads.encode(hidden).values
    assert not torch.allclose(values[:, 0], values[:, 1])


def test_wide_heads_are_measured_in_the_models_width(tiny_subject):
    """d_head above d_model: R is not square."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2 * 24, 16, generator=generator)
    factors = torch.linalg.qr(rows.reshape(2, 24, 16).transpose(1, 2), mode="r").R
    heads = AttentionHeads("h", "subject", "x", factors)
    hidden = torch.randn(5, 48, generator=generator)
    expected = torch.stack([(hidden[:, :24] @ rows[:24]), (hidden[:, 24:] @ rows[24:])], 1)
    torch.testing.assert_close(heads.encode(hidden).values, expected.norm(dim=2))


def test_heads_have_one_polarity_and_no_direction(tiny_subject):
    heads = AttentionHeads.of("h", "subject", tiny_subject("gpt2"), "blocks.0.attn")
    assert heads.polarities == (1,)
    assert heads.write_at is None and heads.write_directions([0]) is None


def test_a_module_path_names_heads_too(tiny_subject):
    path = "model.layers.1.self_attn.o_proj:input"
    by_path = AttentionHeads.of("h", "subject", tiny_subject("llama"), path)
    by_name = AttentionHeads.of("h", "subject", tiny_subject("llama"), "blocks.1.attn")
    assert torch.equal(by_path.factors, by_name.factors)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("blocks.1.hook_resid_post", "not the input of an output projection"),
        ("model.layers.1.self_attn.o_proj:output", "not the input of an output projection"),
        ("model.layers.1.self_attn.q_proj:input", "not the input of an output projection"),
        ("blocks.9.attn", "does not exist in this model"),
    ],
)
def test_other_places_have_no_heads(place, said, tiny_subject):
    with pytest.raises(AutointerpError, match=said):
        AttentionHeads.of("h", "subject", tiny_subject("llama"), place)
