import pytest
import torch
import transformers
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject import Subject, hooks
from tests.conftest import FAMILIES
from tests.subject.reference import reference

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


@pytest.mark.parametrize("family", FAMILIES)
def test_every_hook_point_is_what_the_weights_give_by_hand(family, tiny_subject):
    subject = tiny_subject(family)
    names = hooks.hook_names(subject.model)
    by_hand = reference(subject.model, TOKENS)
    assert set(names) == set(by_hand)
    assert len(names) >= 1 + 3 * 10
    found = subject.run(TOKENS, names)
    for name in names:
        torch.testing.assert_close(found[name], by_hand[name], rtol=1e-5, atol=2e-5, msg=name)


def test_gpt_neox_with_attention_first_has_a_place_between():
    config = transformers.GPTNeoXConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        use_parallel_residual=False,
        attn_implementation="eager",
    )
    torch.manual_seed(1)
    model = transformers.GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    subject = Subject("neox", model, None, torch.device("cpu"), "tiny")
    found, by_hand = subject.run(TOKENS, hooks.hook_names(model)), reference(model, TOKENS)
    assert set(found) == set(by_hand) and "blocks.1.hook_resid_mid" in found
    for name, value in found.items():
        close(value, by_hand[name])


def test_a_norm_whose_scale_is_zero_still_has_its_normalized_point(tiny_subject):
    subject = tiny_subject("llama")
    subject.model.model.layers[1].post_attention_layernorm.weight[3] = 0.0
    found = subject.run(TOKENS, ["blocks.1.ln2.hook_normalized"])["blocks.1.ln2.hook_normalized"]
    close(found.square().mean(-1), torch.ones(2, 7))


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
    with pytest.raises(
        AutointerpError,
        match=r"near ones: .*blocks.*gpt2 model of 3 blocks has hook_embed and, in each of "
        r"blocks\.0 to blocks\.2: .*mlp\.hook_post",
    ):
        subject.hook("blocks.7.hook_resid_post")
    with pytest.raises(AutointerpError, match="does not exist"):
        tiny_subject("gpt_neox").hook("blocks.1.hook_resid_mid")


def test_an_unknown_module_path_lists_near_modules(tiny_subject):
    with pytest.raises(
        AutointerpError,
        match=r"MODULE:output.*model\.layers\.1\.mlp.*llama model has: embed_tokens, layers, norm",
    ):
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
    with pytest.raises(
        AutointerpError, match=r"'opt' have no TransformerLens.*decoder\.layers\.1:output"
    ):
        subject.hook("blocks.0.hook_resid_post")
    path = "model.decoder.layers.0:output"
    reported = model(TOKENS, output_hidden_states=True).hidden_states
    close(subject.run(TOKENS, [path])[path], reported[1])


def test_a_module_that_the_forward_pass_does_not_use_is_reported(tiny_subject):
    with pytest.raises(AutointerpError, match=r"nothing passed hook point 'lm_head:output'"):
        tiny_subject("llama").run(TOKENS, ["lm_head:output"])
