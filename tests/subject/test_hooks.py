import pytest
import torch
import transformers
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject import Subject, hooks
from tests.conftest import FAMILIES

TOKENS = torch.tensor([[5, 9, 2, 33, 7, 1, 60], [8, 8, 3, 21, 50, 4, 12]])


def everything(subject: Subject, block: int) -> dict[str, Tensor]:
    """All hook points of one block, captured in one run."""
    prefix = f"blocks.{block}."
    names = [name for name in hooks.hook_names(subject.model) if name.startswith(prefix)]
    return {k.removeprefix(prefix): v for k, v in subject.run(TOKENS, names).items()}


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_residual_stream_is_what_the_model_itself_reports(family, tiny_subject):
    subject = tiny_subject(family)
    reported = subject.model(TOKENS, output_hidden_states=True).hidden_states
    names = [f"blocks.{i}.hook_resid_{side}" for i in range(3) for side in ("pre", "post")]
    found = subject.run(TOKENS, names)
    for block in range(3):
        close(found[f"blocks.{block}.hook_resid_pre"], reported[block])
    for block in range(2):
        close(found[f"blocks.{block}.hook_resid_post"], reported[block + 1])
    # What the model reports last is after the final norm; a hook point is before it.
    final_norm = {"gpt2": "ln_f", "gpt_neox": "final_layer_norm"}.get(family, "norm")
    last = found["blocks.2.hook_resid_post"]
    assert not torch.allclose(last, reported[3], atol=1e-2)
    close(getattr(subject.model.base_model, final_norm)(last), reported[3])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("block", [0, 2])
def test_what_a_block_adds_to_the_residual_stream_is_attention_and_mlp(family, block, tiny_subject):
    at = everything(tiny_subject(family), block)
    added = at["hook_attn_out"] + at["hook_mlp_out"]
    close(at["hook_resid_pre"] + added, at["hook_resid_post"])
    if family != "gpt_neox":  # attention and MLP in parallel: there is no place between them
        close(at["hook_resid_pre"] + at["hook_attn_out"], at["hook_resid_mid"])


def test_gpt2_mlp_by_hand(tiny_subject):
    subject = tiny_subject("gpt2")
    block, at = subject.model.transformer.h[1], everything(subject, 1)
    close(at["mlp.hook_in"], block.ln_2(at["hook_resid_mid"]))
    mlp = block.mlp
    before = at["mlp.hook_in"] @ mlp.c_fc.weight + mlp.c_fc.bias
    close(at["mlp.hook_post"], torch.nn.functional.gelu(before, approximate="tanh"))
    close(at["hook_mlp_out"], at["mlp.hook_post"] @ mlp.c_proj.weight + mlp.c_proj.bias)


def test_gpt_neox_mlp_by_hand(tiny_subject):
    subject = tiny_subject("gpt_neox")
    block, at = subject.model.gpt_neox.layers[1], everything(subject, 1)
    close(at["mlp.hook_in"], block.post_attention_layernorm(at["hook_resid_pre"]))
    up, down = block.mlp.dense_h_to_4h, block.mlp.dense_4h_to_h
    before = at["mlp.hook_in"] @ up.weight.T + up.bias
    close(at["mlp.hook_post"], torch.nn.functional.gelu(before))
    close(at["hook_mlp_out"], at["mlp.hook_post"] @ down.weight.T + down.bias)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
def test_gated_mlp_by_hand(family, tiny_subject):
    subject = tiny_subject(family)
    block, at = subject.model.model.layers[1], everything(subject, 1)
    is_gemma = family == "gemma2"
    norm = block.pre_feedforward_layernorm if is_gemma else block.post_attention_layernorm
    close(at["mlp.hook_in"], norm(at["hook_resid_mid"]))
    gate = at["mlp.hook_in"] @ block.mlp.gate_proj.weight.T
    up = at["mlp.hook_in"] @ block.mlp.up_proj.weight.T
    silu = torch.nn.functional.silu(gate)
    gelu = torch.nn.functional.gelu(gate, approximate="tanh")
    close(at["mlp.hook_post"], (gelu if is_gemma else silu) * up)
    written = at["mlp.hook_post"] @ block.mlp.down_proj.weight.T
    close(at["hook_mlp_out"], block.post_feedforward_layernorm(written) if is_gemma else written)


@pytest.mark.parametrize("family", FAMILIES)
def test_hook_z_is_the_attention_weighted_values_heads_first(family, tiny_subject):
    subject = tiny_subject(family)
    at = everything(subject, 1)
    weights = subject.model(TOKENS, output_attentions=True).attentions[1]
    if family == "gpt2":
        block = subject.model.transformer.h[1]
        normal = block.ln_1(at["hook_resid_pre"])
        values = (normal @ block.attn.c_attn.weight + block.attn.c_attn.bias)[..., 32:]
        values = values.unflatten(-1, (4, 4))
        out = at["attn.hook_z"] @ block.attn.c_proj.weight + block.attn.c_proj.bias
    elif family == "gpt_neox":
        block = subject.model.gpt_neox.layers[1]
        joined = block.attention.query_key_value(block.input_layernorm(at["hook_resid_pre"]))
        values = joined.unflatten(-1, (4, 3, 4))[..., 2, :]
        out = block.attention.dense(at["attn.hook_z"])
    else:
        block = subject.model.model.layers[1]
        normal = block.input_layernorm(at["hook_resid_pre"])
        values = (normal @ block.self_attn.v_proj.weight.T).unflatten(-1, (2, 4))
        values = values.repeat_interleave(2, dim=-2)
        out = at["attn.hook_z"] @ block.self_attn.o_proj.weight.T
        if family == "gemma2":
            out = block.post_attention_layernorm(out)
    close(at["attn.hook_z"], torch.einsum("bhqk,bkhd->bqhd", weights, values).flatten(-2))
    close(at["hook_attn_out"], out)


def test_a_module_path_names_any_place(tiny_subject):
    subject = tiny_subject("llama")
    pairs = {
        "model.layers.1:output": "blocks.1.hook_resid_post",
        "model.layers.1:input": "blocks.1.hook_resid_pre",
        "model.layers.1.mlp.down_proj:input": "blocks.1.mlp.hook_post",
        "model.layers.1.self_attn:output": "blocks.1.hook_attn_out",
    }
    found = subject.run(TOKENS, [*pairs, *pairs.values()])
    for path, name in pairs.items():
        assert torch.equal(found[path], found[name])
    assert subject.hook("model.layers.1.mlp:input").block == 1
    assert subject.hook("model.embed_tokens:output").block is None


def test_gemma3_with_a_vision_tower_has_its_blocks_elsewhere():
    text = transformers.Gemma3TextConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        pad_token_id=0,
    )
    vision = transformers.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    config = transformers.Gemma3Config(
        text_config=text.to_dict(), vision_config=vision.to_dict(), mm_tokens_per_image=4
    )
    model = transformers.Gemma3ForConditionalGeneration(config).eval().requires_grad_(False)
    subject = Subject("gemma3", model, None, torch.device("cpu"), "tiny")
    found = subject.run(TOKENS, ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"])
    close(found["blocks.0.hook_resid_post"], found["blocks.1.hook_resid_pre"])
    assert (subject.n_blocks, subject.d_model) == (2, 16)


def test_an_unknown_hook_point_lists_near_ones(tiny_subject):
    subject = tiny_subject("gpt2")
    with pytest.raises(
        AutointerpError, match=r"blocks\.1\.hook_resid_pots.*blocks\.1\.hook_resid_post"
    ):
        subject.hook("blocks.1.hook_resid_pots")
    with pytest.raises(AutointerpError, match=r"near ones: .*blocks"):
        subject.hook("blocks.7.hook_resid_post")
    with pytest.raises(AutointerpError, match="does not exist"):
        tiny_subject("gpt_neox").hook("blocks.1.hook_resid_mid")


def test_an_unknown_module_path_lists_near_modules(tiny_subject):
    with pytest.raises(AutointerpError, match=r"MODULE:output.*model\.layers\.1\.mlp"):
        tiny_subject("llama").hook("model.layers.1.mpl:input")
    with pytest.raises(AutointerpError, match="MODULE:input"):
        tiny_subject("llama").hook("model.layers.1:inside")


def test_a_family_without_a_table_asks_for_a_module_path():
    config = transformers.OPTConfig(
        vocab_size=64,
        hidden_size=16,
        ffn_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        word_embed_proj_dim=16,
        max_position_embeddings=32,
    )
    model = transformers.OPTForCausalLM(config).eval().requires_grad_(False)
    subject = Subject("opt", model, None, torch.device("cpu"), "tiny")
    with pytest.raises(AutointerpError, match=r"'opt' have no TransformerLens names.*module path"):
        subject.hook("blocks.0.hook_resid_post")
    path = "model.decoder.layers.0:output"
    reported = model(TOKENS, output_hidden_states=True).hidden_states
    close(subject.run(TOKENS, [path])[path], reported[1])


def test_a_module_that_the_forward_pass_does_not_use_is_reported(tiny_subject):
    with pytest.raises(AutointerpError, match=r"nothing passed hook point 'lm_head:output'"):
        tiny_subject("llama").run(TOKENS, ["lm_head:output"])
