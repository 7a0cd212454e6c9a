"""Promoted and suppressed tokens against the model's own norms and unembedding, run in full."""

import pytest
import torch
from torch import nn

from autointerp.units import (
    AttentionHeads,
    Directions,
    DirectionSet,
    Neurons,
    SaeLatents,
    SparseAutoencoder,
)
from autointerp.units.output_side import norm_gain, output_side, output_tokens, unembedding_of
from tests.conftest import FAMILIES

VOCABULARY = 64
GEMMA = ("gemma2", "gemma3_text")


def block_of(model, number):
    inner = getattr(model, "transformer", None) or getattr(model, "gpt_neox", None) or model.model
    return (inner.h if hasattr(inner, "h") else inner.layers)[number]


def final_norm_of(model):
    if hasattr(model, "transformer"):
        return model.transformer.ln_f
    return model.gpt_neox.final_layer_norm if hasattr(model, "gpt_neox") else model.model.norm


def size_after_centring(norm, rows):
    """Root mean square of what the norm divides by."""
    if isinstance(norm, nn.LayerNorm):
        rows = rows - rows.mean(1, keepdim=True)
    return rows.square().mean(1, keepdim=True).sqrt()


def normed(norm, rows):
    """A norm's own output for very long rows, without its shift, at their original size."""
    shift = norm(torch.zeros_like(rows)[None])[0]
    return (norm(1e4 * rows[None])[0] - shift) * size_after_centring(norm, rows)


@torch.no_grad()
def full_logits(subject, rows, *post_norms):
    """[n, vocab] by the model's own modules: norms on the way, final norm, unembedding."""
    for norm in post_norms:
        rows = normed(norm, rows)
    head = subject.model.get_output_embeddings()
    logits = head(normed(final_norm_of(subject.model), rows))
    return logits - head(torch.zeros(1, subject.d_model))


def written(source, subject, n=6, k=0):
    found = output_side(source, subject, n_tokens=n, n_neighbours=k, vocabulary_size=VOCABULARY)
    assert found is not None
    return list(found)


def assert_ends(found, logits, n=6):
    """What was found is what sorting all logits gives."""
    assert len(found) == len(logits)
    for unit, row in zip(found, logits, strict=True):
        for pairs, largest in ((unit.promoted, True), (unit.suppressed, False)):
            expected = row.topk(n, largest=largest)
            tokens, values = zip(*pairs, strict=True)
            torch.testing.assert_close(torch.tensor(values), expected.values, rtol=2e-3, atol=2e-3)
            torch.testing.assert_close(row[list(tokens)], expected.values, rtol=2e-3, atol=2e-3)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def directions_at(place, rows):
    found = DirectionSet(rows)
    return Directions("d", "subject", place, *rows.shape, lambda: found, torch.device("cpu"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("place", ["hook_resid_pre", "hook_resid_post", "hook_mlp_out"])
def test_directions_in_the_residual_stream_go_through_the_final_norm(family, place, tiny_subject):
    subject, rows = tiny_subject(family), normal(9, 16)
    found = written(directions_at(f"blocks.1.{place}", rows), subject)
    assert_ends(found, full_logits(subject, rows))


@pytest.mark.parametrize("family", FAMILIES)
def test_neurons_go_through_the_norm_that_follows_them_too(family, tiny_subject):
    subject = tiny_subject(family)
    neurons = Neurons.of("n", "subject", subject, "blocks.1.mlp.hook_post")
    block = block_of(subject.model, 1)
    after = (block.post_feedforward_layernorm,) if family in GEMMA else ()
    rows = neurons.write_directions(list(range(neurons.n_units)))
    assert_ends(written(neurons, subject), full_logits(subject, rows, *after))


@pytest.mark.parametrize("family", FAMILIES)
def test_directions_of_heads_values_go_through_their_projection(family, tiny_subject):
    subject, rows = tiny_subject(family), normal(5, 16)
    block = block_of(subject.model, 1)
    attention = getattr(block, "attn", None) or getattr(block, "attention", None) or block.self_attn
    names = ("c_proj", "dense", "o_proj")
    projection = next(getattr(attention, name) for name in names if hasattr(attention, name))
    with torch.no_grad():
        out = projection(rows) - projection(torch.zeros_like(rows))
    after = (block.post_attention_layernorm,) if family in GEMMA else ()
    found = written(directions_at("blocks.1.attn.hook_z", rows), subject)
    assert_ends(found, full_logits(subject, out, *after))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_a_transcoder_writes_elsewhere_than_it_reads(family, tiny_subject):
    subject, decoder = tiny_subject(family), normal(12, 16)
    sae = SparseAutoencoder(
        *("relu", normal(16, 12, seed=1), torch.zeros(12), torch.zeros(16)),
        *(decoder, torch.zeros(16)),
        hook_in="blocks.1.mlp.hook_in",
        hook_out="blocks.1.hook_mlp_out",
    )
    latents = SaeLatents.of("f", "subject", subject, sae)
    assert (latents.read_at, latents.write_at) == ("blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out")
    assert_ends(written(latents, subject), full_logits(subject, decoder))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "qwen3"])
def test_a_huge_neuron_of_the_last_block_makes_the_models_logits(family, tiny_subject):
    """The whole model run with one neuron pushed so far that nothing else counts."""
    subject = tiny_subject(family)
    neurons = Neurons.of("n", "subject", subject, "blocks.2.mlp.hook_post")
    found = written(neurons, subject, n=3)
    place = subject.hook("blocks.2.mlp.hook_post").module
    for index in (0, 5, neurons.n_units - 1):

        def push(_module, args, index=index):
            return (args[0].index_fill(-1, torch.tensor([index]), 1e6), *args[1:])

        handle = place.register_forward_pre_hook(push)
        logits = subject.model(torch.tensor([[5, 9, 2]])).logits[0, -1]
        handle.remove()
        norm = final_norm_of(subject.model)
        shift = subject.model.get_output_embeddings()(norm(torch.zeros(1, 1, 16)))[0, 0]
        assert [t for t, _ in found[index].promoted] == (logits - shift).topk(3).indices.tolist()


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_vocabulary_chunks_change_nothing_and_padding_is_left_out(chunk, tiny_subject):
    unembedding = unembedding_of(tiny_subject("llama"))
    rows = normal(4, 16)
    whole = output_tokens(rows, unembedding, 5, 50)
    chunked = output_tokens(rows, unembedding, 5, 50, chunk)
    for a, b in zip(whole, chunked, strict=True):
        assert torch.equal(a.tokens, b.tokens) and bool((a.tokens < 50).all())
        torch.testing.assert_close(a.logits, b.logits)
    everything, _ = output_tokens(rows, unembedding, 100, 1000, chunk)
    assert everything.tokens.shape == (4, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_norms_gain_is_found_from_what_it_does(family, tiny_subject):
    norm = final_norm_of(tiny_subject(family).model)
    gain, is_centred = norm_gain(norm, 16)
    assert is_centred == (family in ("gpt2", "gpt_neox"))
    expected = norm.weight + (1 if family in GEMMA else 0)
    torch.testing.assert_close(gain, expected, rtol=1e-4, atol=1e-4)


def test_what_is_no_norm_has_no_gain():
    assert norm_gain(nn.Linear(7, 7), 7) is None
    gain, is_centred = norm_gain(nn.LayerNorm(7, elementwise_affine=False), 7)
    assert is_centred and torch.allclose(gain, torch.ones(7))


def test_where_nothing_is_written_there_is_no_output_side(tiny_subject):
    subject = tiny_subject("llama")
    for source in (
        Neurons.of("n", "subject", subject, "blocks.1.hook_resid_post"),
        AttentionHeads.of("h", "subject", subject, "blocks.1.attn"),
    ):
        assert output_side(source, subject, n_tokens=3, n_neighbours=3, vocabulary_size=64) is None


@pytest.mark.parametrize("place", ["blocks.1.mlp.hook_in", "blocks.1.ln2.hook_normalized"])
def test_places_without_a_straight_way_to_the_logits_have_neighbours_only(place, tiny_subject):
    found = written(directions_at(place, normal(6, 16)), tiny_subject("llama"), k=2)
    assert all(unit.promoted is None and unit.suppressed is None for unit in found)
    assert any(unit.neighbours for unit in found)


def test_neighbours_of_signed_units_may_be_opposite_sides(tiny_subject):
    rows = torch.tensor([[1.0, 0.1, 0], [-1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
    rows = torch.cat([rows, torch.zeros(5, 13)], dim=1)
    subject = tiny_subject("gpt2")
    found = written(directions_at("blocks.0.hook_resid_post", rows), subject, k=2)
    near = [[(index, polarity) for index, polarity, _ in unit.neighbours] for unit in found]
    assert near == [[(1, -1), (3, 1)], [(3, -1), (0, -1)], [], [(1, -1), (0, 1)], [(0, 1)]]
    assert all(cosine > 0 for unit in found for *_, cosine in unit.neighbours)


def test_neighbours_of_latents_have_the_largest_cosine(tiny_subject):
    decoder = normal(30, 16)
    sae = SparseAutoencoder(
        *("relu", decoder.T, torch.zeros(30), torch.zeros(16), decoder, torch.zeros(16))
    )
    place = "blocks.1.hook_resid_post"
    latents = SaeLatents.of("f", "subject", tiny_subject("llama"), sae, place)
    unit = nn.functional.normalize(decoder)
    expected = (unit @ unit.T).fill_diagonal_(-1).topk(4)
    for found in written(latents, tiny_subject("llama"), k=4):
        assert [index for index, *_ in found.neighbours] == expected.indices[found.index].tolist()
        assert {polarity for _, polarity, _ in found.neighbours} == {1}
