"""Every layout against the outputs of the library that owns it (tests/data/README.md)."""

import itertools
import json
import logging
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import autointerp
from autointerp import resources
from autointerp.config import SaeConfig
from autointerp.records import AutointerpError
from autointerp.units import SaeLatents, load_sae
from autointerp.units.sae.load import FORMATS as KNOWN
from tests.units.sae_checkpoints import (
    FORMATS,
    NAMES,
    change_weights,
    checkpoint,
    copy_of,
    io,
    set_config,
)

ARCHITECTURE = {
    "circuit_tracer_transcoder": "relu",
    "dictionary_learning_autoencoder": "relu",
    "dictionary_learning_autoencoder_new": "relu",
    "dictionary_learning_batchtopk": "jumprelu",
    "dictionary_learning_gated": "gated",
    "dictionary_learning_jumprelu": "jumprelu",
    "dictionary_learning_matryoshka_batchtopk": "jumprelu",
    "dictionary_learning_topk": "topk",
    "gemma_scope_2_jumprelu": "jumprelu",
    "gemma_scope_2_skip_transcoder": "jumprelu",
    "gemma_scope_jumprelu": "jumprelu",
    "goodfire_relu": "relu",
    "llama_scope_jumprelu": "jumprelu",
    "openai_relu": "relu",
    "openai_topk": "topk",
    "qwen_scope_topk": "topk",
    "saelens_batchtopk": "jumprelu",
    "saelens_gated": "gated",
    "saelens_jumprelu": "jumprelu",
    "saelens_jumprelu_transcoder": "jumprelu",
    "saelens_legacy_topk": "topk",
    "saelens_matryoshka_batchtopk": "jumprelu",
    "saelens_skip_transcoder": "relu",
    "saelens_standard": "relu",
    "saelens_standard_bf16": "relu",
    "saelens_standard_constant_norm": "relu",
    "saelens_standard_layernorm": "relu",
    "saelens_standard_no_b_dec_in": "relu",
    "saelens_topk": "topk",
    "saelens_topk_rescaled": "topk",
    "saelens_transcoder": "relu",
    "sparsify_groupmax": "groupmax",
    "sparsify_skip_transcoder": "topk",
    "sparsify_topk": "topk",
    "sparsify_topk_bf16": "topk",
}
FORMAT = {
    name: next(f for f in sorted(KNOWN, key=len)[::-1] if name.startswith(f)) for name in NAMES
}
PLACES = {
    "circuit_tracer_transcoder": ("blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out"),
    "gemma_scope_jumprelu": (None, None),
    "gemma_scope_2_jumprelu": ("blocks.12.hook_resid_post",) * 2,
    "gemma_scope_2_skip_transcoder": ("blocks.12.mlp.hook_in", "blocks.12.hook_mlp_out"),
    "goodfire_relu": ("blocks.19.hook_resid_post",) * 2,
    "llama_scope_jumprelu": ("blocks.12.hook_resid_post",) * 2,
    "openai_relu": (None, None),
    "openai_topk": (None, None),
    "saelens_jumprelu_transcoder": ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out"),
    "saelens_skip_transcoder": ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out"),
    "saelens_transcoder": ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out"),
    "sparsify_groupmax": ("blocks.3.hook_mlp_out",) * 2,
    "sparsify_skip_transcoder": ("blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out"),
}
SAME_WEIGHTS = [
    ("circuit_tracer_transcoder", "goodfire_relu"),
    ("gemma_scope_2_jumprelu", "gemma_scope_jumprelu"),
]
"""The same random weights in two layouts."""
ELSEWHERE = ("blocks.3.hook_resid_post",) * 2
TRAINED = [name for name in NAMES if (FORMATS / name / "training_checkpoint").is_dir()]


@pytest.fixture
def copy(tmp_path):
    """name → a copy of that checkpoint, to be changed."""
    return lambda name: copy_of(name, tmp_path)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_all_checkpoints_are_here():
    assert list(ARCHITECTURE) == NAMES and len(NAMES) == 35


@pytest.mark.parametrize("name", NAMES)
def test_activations_and_reconstruction_are_the_owners(name):
    sae = autointerp.load_sae(checkpoint(name))
    said = io(name)
    acts = sae.encode(said["x"])
    close(acts, said["acts"])
    assert torch.equal(acts > 0, said["acts"] > 0)
    close(sae.decode(acts), said["recon"])
    close(sae.decode(acts, said["x"]), said.get("recon_with_skip", said["recon"]))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_dictionary_says_of_itself(name):
    sae = load_sae(checkpoint(name))
    assert (sae.d_in, sae.n_latents) == (16, 64)
    assert sae.d_out == io(name)["recon"].shape[1]
    assert sae.architecture == ARCHITECTURE[name] and sae.format == FORMAT[name]
    assert (sae.hook_in, sae.hook_out) == PLACES.get(name, ELSEWHERE)
    assert all(t.dtype == torch.float32 for t in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec))
    for part in ("n_latents=64", "d_in=16", f"hook_in={sae.hook_in}", f"format={sae.format}"):
        assert part in repr(sae)


def test_loading_says_what_was_loaded(caplog):
    with caplog.at_level(logging.INFO, logger="autointerp.units.sae.load"):
        load_sae(checkpoint("saelens_topk"))
    assert "topk, k=8, n_latents=64, d_in=16" in caplog.text
    assert "hook_in=blocks.3.hook_resid_post" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_the_format_may_be_given_and_another_is_refused(name):
    path = checkpoint(name)
    assert load_sae(path, FORMAT[name]).fingerprint() == load_sae(path).fingerprint()
    for other in set(KNOWN) - {FORMAT[name]}:
        with pytest.raises(AutointerpError, match=f"not in format '{other}'"):
            load_sae(path, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_and_its_file_are_the_same_dictionary(name):
    whole = checkpoint(name)
    files = [whole] if whole.is_file() else [p for p in whole.rglob("*") if p.suffix in SUFFIXES]
    own = [p for p in files if p.name != "io.safetensors" and "training_checkpoint" not in p.parts]
    assert len(own) == 1
    assert load_sae(own[0]).fingerprint() == load_sae(whole).fingerprint()


SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("openai")])
def test_a_folder_around_one_checkpoint_is_that_checkpoint(name):
    assert load_sae(FORMATS / name).fingerprint() == load_sae(checkpoint(name)).fingerprint()


def test_a_folder_with_two_checkpoints_is_refused_naming_both():
    with pytest.raises(AutointerpError, match=r"2 that fit: 3.pt \(openai\); 3_as_saved.pt"):
        load_sae(FORMATS / "openai_topk")
    with pytest.raises(AutointerpError, match=r"holds \d\d that fit: .* and \d+ more; name the"):
        load_sae(FORMATS)


def test_a_folder_of_two_formats_is_refused_until_one_is_named(copy):
    folder = copy("saelens_standard")
    other = checkpoint("dictionary_learning_topk")
    for file in ("ae.pt", "config.json"):
        shutil.copy(other / file, folder / file)
    with pytest.raises(AutointerpError, match=r"2 that fit: ae.pt \(dictionary_learning\); sae_w"):
        load_sae(folder)
    assert load_sae(folder, "saelens").architecture == "relu"
    assert load_sae(folder, "dictionary_learning").architecture == "topk"


def test_a_file_that_fits_two_formats_is_refused_until_one_is_named(copy):
    file = copy("qwen_scope_topk")
    config = {"act_size": 16, "dict_size": 64, "act_name": "blocks.0.attn.hook_z"}
    (file.parent / "layer3.sae_cfg.json").write_text(json.dumps(config))
    with pytest.raises(AutointerpError, match=r"\(qwen_scope\); layer3.sae.pt \(hook_z\)"):
        load_sae(file)
    assert load_sae(file, "qwen_scope").k == 8


def test_a_place_of_no_known_format_is_refused_saying_what_it_holds(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(AutointerpError, match=r"no format known here \(saelens, .*readme\.txt"):
        load_sae(tmp_path)
    with pytest.raises(AutointerpError, match=r"a file that ends in '\.txt'"):
        load_sae(tmp_path / "readme.txt")
    save_file({"lm_head.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(AutointerpError, match=r"holds tensors lm_head\.weight"):
        load_sae(tmp_path / "model.safetensors")
    with pytest.raises(AutointerpError, match="no such folder or file"):
        load_sae(tmp_path / "nothing")
    with pytest.raises(AutointerpError, match="format 'jumprelu' is not known; one of saelens"):
        load_sae(tmp_path, "jumprelu")
    for nothing in ("", " "):
        with pytest.raises(AutointerpError, match="names no sparse autoencoder"):
            load_sae(nothing)


def test_demo_is_the_shipped_dictionary():
    own = load_sae(resources.path("datasets/demo/sae"))
    assert load_sae("demo").fingerprint() == own.fingerprint()


def test_fingerprints_tell_dictionaries_apart(copy):
    own = {name: load_sae(checkpoint(name)).fingerprint() for name in NAMES}
    for name, other in itertools.combinations(NAMES, 2):
        same = own[name] == own[other]
        assert same == ((name, other) in SAME_WEIGHTS), (name, other)
    folder = copy("saelens_standard")
    weights = folder / "sae_weights.safetensors"
    assert load_sae(folder).fingerprint() == own["saelens_standard"]
    change_weights(weights, b_enc=load_file(weights)["b_enc"] + torch.eye(64)[5] * 1e-3)
    assert load_sae(folder).fingerprint() != own["saelens_standard"]


@pytest.mark.parametrize("name", [n for n, kind in ARCHITECTURE.items() if kind == "topk"])
def test_encode_topk_is_encode_without_the_zeros(name):
    sae, x = load_sae(checkpoint(name)), io(name)["x"]
    values, indices = sae.encode_topk(x)
    assert values.shape == indices.shape == (32, 8)
    assert torch.equal(torch.zeros(32, 64).scatter(1, indices, values), sae.encode(x))


@pytest.mark.parametrize("name", ["saelens_standard_layernorm", "openai_topk"])
def test_latents_know_the_way_back_until_they_are_others(name):
    sae, x = load_sae(checkpoint(name)), io(name)["x"]
    latents = sae.encode(x)
    sae.encode(x.flip(0))
    close(sae.decode(latents), io(name)["recon"])
    latents[:, 5] = 0
    close(sae.decode(latents), sae.decode(latents, x))
    with pytest.raises(AutointerpError, match=r"give the input, decode\(f, x\)"):
        sae.decode(latents.flip(0))


@pytest.mark.parametrize("name", ["saelens_gated", "sparsify_groupmax", "openai_topk"])
def test_tokens_may_lie_in_batches_and_are_encoded_one_by_one(name):
    sae, x = load_sae(checkpoint(name)), io(name)["x"]
    close(sae.encode(x.reshape(4, 8, 16)).reshape(32, 64), sae.encode(x))
    close(sae.encode(x[7:8]), sae.encode(x)[7:8])


# SAELens


@pytest.mark.parametrize("name", TRAINED)
def test_a_checkpoint_of_an_unfinished_training_equals_its_export(name):
    export, training = load_sae(checkpoint(name)), load_sae(FORMATS / name / "training_checkpoint")
    x = io(name)["x"]
    close(training.encode(x), export.encode(x))
    close(training.decode(training.encode(x), x), export.decode(export.encode(x), x))


@pytest.mark.parametrize("name", ["saelens_batchtopk", "dictionary_learning_batchtopk"])
def test_a_batch_top_k_dictionary_is_a_threshold_at_inference(name):
    sae, said = load_sae(checkpoint(name)), io(name)
    assert sae.architecture == "jumprelu"
    close(sae.encode(said["x"][:1]), sae.encode(said["x"])[:1])
    trained = said.get("acts_training_model", said.get("acts_batch_topk"))
    assert (sae.encode(said["x"]) - trained).abs().max() > 0.1


def test_a_threshold_of_another_width_keeps_its_value():
    stored = load_file(FORMATS / "saelens_batchtopk/training_checkpoint/sae_weights.safetensors")[
        "topk_threshold"
    ]
    sae = load_sae(FORMATS / "saelens_batchtopk/training_checkpoint")
    assert stored.dtype == torch.float64 and sae.threshold is not None
    assert sae.threshold.dtype == torch.float32
    assert float(sae.threshold) == pytest.approx(float(stored), rel=1e-7)


def test_a_dictionary_fires_above_its_threshold_and_not_at_it(copy):
    folder = copy("saelens_jumprelu")
    weights = folder / "sae_weights.safetensors"
    sae, x = load_sae(folder), io("saelens_jumprelu")["x"][:1]
    z = sae.pre_activations(x)[0]
    change_weights(weights, threshold=z.abs())
    assert float(load_sae(folder).encode(x).abs().max()) == 0
    change_weights(weights, threshold=z - 1e-3)
    assert torch.equal(load_sae(folder).encode(x)[0], z.relu())


def test_a_negative_threshold_compares_pre_activations_and_passes_no_negative_ones(copy):
    folder = copy("saelens_jumprelu")
    change_weights(folder / "sae_weights.safetensors", threshold=torch.full((64,), -5.0))
    sae, x = load_sae(folder), io("saelens_jumprelu")["x"]
    assert torch.equal(sae.encode(x), sae.pre_activations(x).relu())


def test_a_logarithm_of_thresholds_is_undone(copy):
    folder = copy("saelens_jumprelu")
    weights = folder / "sae_weights.safetensors"
    logarithm = load_file(weights)["threshold"].log()
    change_weights(weights, threshold=None, log_threshold=logarithm)
    close(load_sae(folder).encode(io("saelens_jumprelu")["x"]), io("saelens_jumprelu")["acts"])


def test_a_top_k_dictionary_of_before_version_6_is_not_read_as_relu():
    sae = load_sae(checkpoint("saelens_legacy_topk"))
    assert sae.architecture == "topk" and sae.k == 8


@pytest.mark.parametrize("name", ["saelens_standard", "saelens_standard_layernorm"])
def test_a_flat_config_of_before_version_6_is_the_same_dictionary(copy, name):
    folder = copy(name)
    config = json.loads((folder / "cfg.json").read_text())
    flat = {
        "hook_point": config["metadata"]["hook_name"],
        "hook_point_head_index": None,
        "activation_fn_str": "relu",
        "normalize_activations": config["normalize_activations"].replace("none", "") or False,
        "d_in": 16,
        "d_sae": 64,
        "dtype": "torch.float32",
    }
    (folder / "cfg.json").write_text(json.dumps(flat))
    assert load_sae(folder).fingerprint() == load_sae(checkpoint(name)).fingerprint()
    assert load_sae(folder).hook_in == "blocks.3.hook_resid_post"


@pytest.mark.parametrize("architecture", ["matching_pursuit", "temporal", "abstopk"])
def test_other_architectures_are_refused_by_name(copy, architecture):
    folder = copy("saelens_standard")
    set_config(folder / "cfg.json", architecture=architecture)
    with pytest.raises(AutointerpError, match=f"'{architecture}' is not one of standard, gated"):
        load_sae(folder)


def test_other_activation_functions_of_before_version_6_are_refused_by_name(copy):
    folder = copy("saelens_legacy_topk")
    set_config(folder / "cfg.json", activation_fn_str="tanh-relu")
    with pytest.raises(AutointerpError, match="tanh-relu"):
        load_sae(folder)


@pytest.mark.parametrize("normalisation", ["expected_average_only_in", True])
def test_a_scale_of_the_input_that_no_file_says_must_be_given(copy, normalisation):
    folder = copy("saelens_standard")
    set_config(folder / "cfg.json", normalize_activations=normalisation)
    with pytest.raises(AutointerpError, match=r"give `input_scale`, which is sqrt\(d_in\)"):
        load_sae(folder)
    x, said = io("saelens_standard")["x"], load_sae(checkpoint("saelens_standard"))
    scaled = load_sae(folder, input_scale=0.25)
    close(scaled.encode(x), said.encode(x * 0.25))
    close(scaled.decode(scaled.encode(x)), said.decode(said.encode(x * 0.25)) / 0.25)
    with pytest.raises(AutointerpError, match="scale of the input is '0', not a positive"):
        load_sae(folder, input_scale=0)


@pytest.mark.parametrize("name", ["saelens_standard", "saelens_standard_no_b_dec_in"])
def test_a_scale_that_a_training_keeps_in_a_file_is_folded(copy, name):
    folder = copy(name)
    set_config(folder / "cfg.json", normalize_activations="expected_average_only_in")
    scaler = {"scaling_factor": 3.0, "has_whitening": False}
    (folder / "activation_scaler.json").write_text(json.dumps(scaler))
    x, said, scaled = io(name)["x"], load_sae(checkpoint(name)), load_sae(folder)
    close(scaled.encode(x), said.encode(x * 3))
    close(scaled.decode(scaled.encode(x)), said.decode(said.encode(x * 3)) / 3)


def test_a_scale_shrinks_the_threshold_where_decoder_norms_multiply(copy):
    folder = copy("saelens_batchtopk") / "training_checkpoint"
    set_config(folder / "cfg.json", normalize_activations="expected_average_only_in")
    x, said = io("saelens_batchtopk")["x"], load_sae(checkpoint("saelens_batchtopk"))
    scaled = load_sae(folder, input_scale=3.0)
    close(scaled.encode(x), said.encode(x * 3) / 3)
    close(scaled.decode(scaled.encode(x)), said.decode(said.encode(x * 3)) / 3)


@pytest.mark.parametrize("name", ["saelens_standard", "saelens_standard_no_b_dec_in"])
def test_a_whitening_that_a_training_keeps_in_a_file_is_folded(copy, name):
    folder = copy(name)
    set_config(folder / "cfg.json", normalize_activations="covariance_whitening")
    with pytest.raises(AutointerpError, match=r"activation_whitening\.safetensors is absent"):
        load_sae(folder)
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(16, 16, generator=generator, dtype=torch.float64) + 4 * torch.eye(16)
    mean = torch.randn(16, generator=generator, dtype=torch.float64)
    tensors = {
        "mean": mean,
        "matrix": matrix,
        "inverse_matrix": torch.linalg.inv(matrix).contiguous(),
    }
    save_file(tensors, folder / "activation_whitening.safetensors")
    x, said, folded = io(name)["x"], load_sae(checkpoint(name)), load_sae(folder)
    white = ((x.double() - mean) @ matrix).float()
    torch.testing.assert_close(folded.encode(x), said.encode(white), rtol=1e-4, atol=1e-4)
    back = said.decode(said.encode(white)).double() @ tensors["inverse_matrix"] + mean
    torch.testing.assert_close(folded.decode(folded.encode(x)), back.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["saelens_standard", "saelens_jumprelu"])
def test_a_scaling_factor_multiplies_latents(copy, name):
    folder = copy(name)
    weights, said = folder / "sae_weights.safetensors", io(name)
    change_weights(weights, scaling_factor=torch.ones(64))
    close(load_sae(folder).encode(said["x"]), said["acts"])
    change_weights(weights, scaling_factor=torch.linspace(0.5, 2, 64))
    close(load_sae(folder).encode(said["x"]), said["acts"] * torch.linspace(0.5, 2, 64))
    change_weights(weights, scaling_factor=-torch.ones(64))
    with pytest.raises(AutointerpError, match="`scaling_factor` has values that are not positive"):
        load_sae(folder)


def test_a_scaling_factor_that_would_change_the_top_k_is_refused(copy):
    folder = copy("saelens_topk")
    change_weights(folder / "sae_weights.safetensors", scaling_factor=torch.full((64,), 2.0))
    with pytest.raises(AutointerpError, match="cannot be folded into a topk dictionary"):
        load_sae(folder)


def test_a_dead_row_of_the_decoder_does_not_divide_by_zero(copy):
    folder = copy("saelens_topk_rescaled")
    weights = folder / "sae_weights.safetensors"
    W_dec = load_file(weights)["W_dec"]
    W_dec[3] = 0
    change_weights(weights, W_dec=W_dec)
    sae = load_sae(folder)
    assert torch.isfinite(sae.decode(sae.encode(io("saelens_topk")["x"]))).all()


def test_a_skip_is_added_where_the_input_is_given():
    sae, said = load_sae(checkpoint("saelens_skip_transcoder")), io("saelens_skip_transcoder")
    assert sae.W_skip is not None and sae.W_skip.shape == (16, 12)
    close(sae.decode(said["acts"]), said["recon"])
    close(sae.decode(said["acts"], said["x"]), said["recon_with_skip"])


def test_the_export_keeps_what_the_training_was():
    details = load_sae(checkpoint("saelens_matryoshka_batchtopk")).metadata
    assert details["training_architecture"] == "matryoshka_batchtopk"


def test_a_model_with_centred_weights_is_warned_of(copy, caplog):
    folder = copy("saelens_standard")
    loading = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    set_config(folder / "cfg.json", metadata=loading)
    load_sae(folder)
    assert "center_writing_weights" in caplog.text


def test_odd_metadata_does_not_stop_the_reader(copy):
    folder = copy("saelens_standard")
    set_config(folder / "cfg.json", metadata="none")
    assert load_sae(folder).hook_in is None


# dictionary_learning


def test_per_token_top_k_ignores_the_saved_threshold():
    sae, said = load_sae(checkpoint("dictionary_learning_topk")), io("dictionary_learning_topk")
    assert sae.k == 8
    close(sae.encode(said["x"]), said["acts"])
    assert (sae.encode(said["x"]) - said["acts_threshold"]).abs().max() > 0.1


def test_decoder_norms_are_not_folded_into_activations():
    for name, other in [
        ("dictionary_learning_autoencoder", "acts_normalized"),
        ("dictionary_learning_gated", "acts_normalize_decoder"),
    ]:
        sae, said = load_sae(checkpoint(name)), io(name)
        close(sae.encode(said["x"]) * sae.W_dec.norm(dim=1), said[other])


def test_a_threshold_that_was_never_set_is_refused(copy):
    folder = copy("dictionary_learning_batchtopk")
    change_weights(folder / "ae.pt", threshold=torch.tensor(-1.0))
    with pytest.raises(AutointerpError, match="too short to set one"):
        load_sae(folder)


def test_two_ks_that_differ_are_refused(copy):
    folder = copy("dictionary_learning_topk")
    change_weights(folder / "ae.pt", k=torch.tensor(9, dtype=torch.int32))
    with pytest.raises(AutointerpError, match=r"k is 9, but config\.json says '8'"):
        load_sae(folder)


def test_groups_that_do_not_add_up_are_refused(copy):
    folder = copy("dictionary_learning_matryoshka_batchtopk")
    change_weights(folder / "ae.pt", group_sizes=torch.tensor([16, 16, 31]))
    with pytest.raises(AutointerpError, match=r"\[16, 16, 31\] do not add up to 64"):
        load_sae(folder)


def test_an_unknown_class_is_refused_by_name(copy):
    folder = copy("dictionary_learning_topk")
    set_config(folder / "config.json", trainer={"dict_class": "CrossCoder"})
    with pytest.raises(AutointerpError, match="'CrossCoder' is not one of AutoEncoder"):
        load_sae(folder)


@pytest.mark.parametrize(
    ("submodule", "model", "hook"),
    [
        ("resid_post_layer_7", "EleutherAI/pythia-70m", "blocks.7.hook_resid_post"),
        ("mlp_out_layer3", "EleutherAI/pythia-70m", "blocks.3.hook_mlp_out"),
        ("attn_out_layer0", "openai-community/gpt2", "blocks.0.hook_attn_out"),
        ("mlp_out_layer_3", "google/gemma-2-2b", "model.layers.3.mlp:output"),
        ("blocks.3.mlp.hook_post", None, "blocks.3.mlp.hook_post"),
        ("model.layers.3.mlp:input", None, "model.layers.3.mlp:input"),
        ("something", None, None),
        (None, None, None),
        (["resid_post_layer_7"], 3, None),
    ],
)
def test_submodules_become_hook_points_only_where_they_are_certain(copy, submodule, model, hook):
    folder = copy("dictionary_learning_topk")
    trainer = json.loads((folder / "config.json").read_text())["trainer"]
    changed = trainer | {"submodule_name": submodule, "lm_name": model}
    set_config(folder / "config.json", trainer=changed)
    assert load_sae(folder).hook_in == hook


# OpenAI


@pytest.mark.parametrize("name", ["openai_relu", "openai_topk"])
def test_keys_that_leaked_into_a_file_are_ignored(name):
    leaked = load_sae(FORMATS / name / "3_as_saved.pt")
    assert leaked.fingerprint() == load_sae(FORMATS / name / "3.pt").fingerprint()


def test_only_top_k_normalises_its_input():
    assert load_sae(checkpoint("openai_topk")).normalisation == "layer_norm"
    assert load_sae(checkpoint("openai_relu")).normalisation == "none"


@pytest.mark.parametrize(
    ("location", "hook"),
    [
        ("resid_post_mlp_v5_32k", "blocks.3.hook_resid_post"),
        ("resid_delta_attn_v5_128k", "blocks.3.hook_attn_out"),
        ("resid_post_attn_v5_32k", "blocks.3.hook_resid_mid"),
        ("resid_delta_mlp", "blocks.3.hook_mlp_out"),
        ("mlp_post_act", "blocks.3.mlp.hook_post"),
        ("resid_post_mlpx", None),
    ],
)
def test_the_path_says_location_and_layer(tmp_path, location, hook):
    folder = tmp_path / "gpt2-small" / location / "autoencoders"
    folder.mkdir(parents=True)
    shutil.copy(checkpoint("openai_topk"), folder)
    assert load_sae(folder).hook_in == load_sae(folder / "3.pt").hook_out == hook


def test_other_activations_are_refused_by_name(copy):
    file = copy("openai_relu")
    change_weights(file, activation="Identity")
    with pytest.raises(AutointerpError, match="'Identity' is not one of ReLU, TopK"):
        load_sae(file)
    state = {"k": 8, "postact_fn": "Identity"}
    change_weights(file, activation="TopK", activation_state_dict=state)
    with pytest.raises(AutointerpError, match="postact_fn 'Identity' is not ReLU"):
        load_sae(file)


def test_pickles_of_before_archives_are_read_too(copy):
    file = copy("openai_topk")
    state = torch.load(file, weights_only=True)
    torch.save(state, file, _use_new_zipfile_serialization=False)
    assert load_sae(file).fingerprint() == load_sae(checkpoint("openai_topk")).fingerprint()


# sparsify


def test_no_number_of_latents_stands_for_the_expansion_factor():
    config = json.loads((checkpoint("sparsify_topk") / "cfg.json").read_text())
    assert config["num_latents"] == 0
    assert load_sae(checkpoint("sparsify_topk")).n_latents == 64


@pytest.mark.parametrize("normalises", [True, False])
def test_b_dec_is_subtracted_whatever_normalize_decoder_says(copy, normalises):
    folder = copy("sparsify_topk")
    set_config(folder / "cfg.json", normalize_decoder=normalises, signed=False)
    close(load_sae(folder).encode(io("sparsify_topk")["x"]), io("sparsify_topk")["acts"])


def test_a_dictionary_without_its_decoder_has_latents_only(copy):
    folder = copy("sparsify_topk")
    change_weights(folder / "sae.safetensors", W_dec=None)
    sae, said = load_sae(folder), io("sparsify_topk")
    close(sae.encode(said["x"]), said["acts"])
    assert not sae.has_decoder and sae.d_out == 16
    assert (
        SaeLatents("sae", "subject", "blocks.0.hook_resid_post", sae).write_directions([0]) is None
    )
    with pytest.raises(AutointerpError, match="hold no decoder"):
        sae.decode(said["acts"])


@pytest.mark.parametrize(
    ("hookpoint", "model", "hook"),
    [
        ("layers.11", "EleutherAI/pythia-70m", "blocks.11.hook_resid_post"),
        ("layers.3.mlp", "google/gemma-2-2b", "model.layers.3.mlp:output"),
        ("h.3.attn", "openai-community/gpt2", "blocks.3.hook_attn_out"),
        ("embed_tokens", "EleutherAI/pythia-70m", None),
        ("layers.3.mlp.act", "EleutherAI/pythia-70m", None),
    ],
)
def test_hookpoints_become_hook_points_only_where_they_are_certain(
    copy, tmp_path, hookpoint, model, hook
):
    folder = copy("sparsify_topk").rename(tmp_path / "sparsify_topk" / hookpoint)
    set_config(folder.parent / "config.json", model=model)
    assert load_sae(folder).hook_in == hook


def test_groups_of_unequal_size_are_refused(copy):
    folder = copy("sparsify_groupmax")
    set_config(folder / "cfg.json", k=7)
    with pytest.raises(AutointerpError, match="64 latents are not 7 groups"):
        load_sae(folder)


# Gemma Scope, Llama Scope, Qwen Scope, circuit-tracer, hook_z


@pytest.mark.parametrize(
    ("path", "hook_in", "hook_out"),
    [
        ("gemma-scope-2b-pt-res/layer_20/width_16k", "hook_resid_post", "hook_resid_post"),
        ("models--google--gemma-scope-9b-it-mlp/layer_20/w", "hook_mlp_out", "hook_mlp_out"),
        ("gemma-scope-2b-pt-att/layer_20/width_16k", "attn.hook_z", "attn.hook_z"),
        ("gemma-scope-2b-pt-transcoders/layer_20/w", "ln2.hook_normalized", "hook_mlp_out"),
        ("layer_20/width_16k", None, None),
    ],
)
def test_the_repositorys_name_says_the_place(tmp_path, path, hook_in, hook_out):
    folder = tmp_path / path
    folder.mkdir(parents=True)
    shutil.copy(checkpoint("gemma_scope_jumprelu"), folder)
    sae = load_sae(folder)
    assert sae.hook_in == (hook_in and f"blocks.20.{hook_in}")
    assert sae.hook_out == (hook_out and f"blocks.20.{hook_out}")


def test_small_letters_are_the_same_tensors(tmp_path):
    arrays = dict(np.load(checkpoint("gemma_scope_jumprelu")))
    small = {name.replace("W_", "w_"): array for name, array in arrays.items()}
    np.savez(tmp_path / "params.npz", **small)
    small_sae = load_sae(tmp_path / "params.npz")
    assert small_sae.fingerprint() == load_sae(checkpoint("gemma_scope_jumprelu")).fingerprint()


def test_dictionaries_of_embeddings_are_read_for_scaled_embeddings(tmp_path):
    folder = tmp_path / "gemma-scope-2b-pt-res" / "embedding" / "width_4k"
    folder.mkdir(parents=True)
    shutil.copy(checkpoint("gemma_scope_jumprelu"), folder)
    sae, said = load_sae(folder), io("gemma_scope_jumprelu")
    assert sae.hook_in == "hook_embed"
    close(sae.encode(said["x"] * 4), said["acts"])


@pytest.mark.parametrize(
    ("module", "hook"),
    [
        ("model.layers.12.output", "blocks.12.hook_resid_post"),
        ("model.language_model.layers.12.output", "blocks.12.hook_resid_post"),
        ("model.layers.12.self_attn.o_proj.input", "blocks.12.attn.hook_z"),
        ("model.layers.12.pre_feedforward_layernorm.output", "blocks.12.mlp.hook_in"),
        ("model.layers.12.post_feedforward_layernorm.output", "blocks.12.hook_mlp_out"),
        ("model.layers.12.mlp.gate_proj.output", "model.layers.12.mlp.gate_proj:output"),
        ("model.layers.12", None),
        (None, None),
    ],
)
def test_modules_of_the_config_become_hook_points(copy, module, hook):
    folder = copy("gemma_scope_2_jumprelu")
    set_config(folder / "config.json", hf_hook_point_in=module)
    assert load_sae(folder).hook_in == hook


def test_a_skip_that_the_config_denies_is_refused(copy):
    folder = copy("gemma_scope_2_skip_transcoder")
    set_config(folder / "config.json", affine_connection=False)
    with pytest.raises(AutointerpError, match="says affine_connection False, but"):
        load_sae(folder)


def test_a_cross_layer_transcoder_without_its_layers_is_refused(copy):
    folder = copy("gemma_scope_2_jumprelu")
    change_weights(folder / "params.safetensors", w_dec=torch.zeros(64, 3, 16))
    with pytest.raises(AutointerpError, match="a cross-layer transcoder"):
        load_sae(folder)


def test_llama_scope_folds_the_norm_of_its_data_and_says_so(copy):
    folder = copy("llama_scope_jumprelu")
    scale = 16**0.5 / 6.5
    sae, x = load_sae(folder), io("llama_scope_jumprelu")["x"]
    assert sae.metadata["input_scale"] == pytest.approx(scale)
    set_config(folder / "hyperparams.json", norm_activation="inference")
    unfolded = load_sae(folder)
    unfolded.threshold = sae.threshold
    close(unfolded.encode(x * scale), sae.encode(x))
    set_config(folder / "hyperparams.json", norm_activation="token-wise")
    with pytest.raises(AutointerpError, match="norm_activation 'token-wise' is not one of"):
        load_sae(folder)


def test_llama_scope_gates_with_decoder_norms_where_its_config_says_so(copy):
    folder = copy("llama_scope_jumprelu")
    plain, x = load_sae(folder), io("llama_scope_jumprelu")["x"]
    set_config(folder / "hyperparams.json", sparsity_include_decoder_norm=True)
    z = plain.pre_activations(x)
    scale = plain.metadata["input_scale"]
    kept = z * (plain.W_dec * scale).norm(dim=1) > plain.threshold
    close(load_sae(folder).encode(x), z.relu() * kept)


def test_llama_scope_r1_undoes_the_logarithm(copy):
    folder = copy("llama_scope_jumprelu")
    plain, x = load_sae(folder), io("llama_scope_jumprelu")["x"]
    weights = load_file(folder / "checkpoints/final.safetensors")
    threshold = plain.threshold
    assert threshold is not None
    weights["log_jumprelu_threshold"] = threshold.log().expand(64).contiguous()
    other = folder.parent / "L12R"
    other.mkdir()
    save_file(weights, other / "sae_weights.safetensors")
    config = json.loads((folder / "hyperparams.json").read_text())
    (other / "config.json").write_text(json.dumps(config))
    sae = load_sae(other)
    assert sae.format == "llama_scope_r1"
    close(sae.encode(x), plain.encode(x))
    close(sae.decode(sae.encode(x)), plain.decode(plain.encode(x)))
    set_config(other / "config.json", dataset_average_activation_norm=None)
    with pytest.raises(AutointerpError, match="give `input_scale`"):
        load_sae(other)


def test_k_is_looked_for_in_the_repositorys_name_then_beside_the_file(copy, tmp_path):
    file = copy("qwen_scope_topk")
    assert load_sae(file).k == 8
    assert load_sae(file, k=5).k == 5
    (file.parent / "meta.json").unlink()
    with pytest.raises(AutointerpError, match="k is not in the file but in its repository's name"):
        load_sae(file)
    for name in ("SAE-Res-Qwen3-8B-W32K-L0_9", "models--Qwen--SAE-Res-Qwen3-8B-W32K-L0_9"):
        named = tmp_path / name
        named.mkdir()
        shutil.copy(file, named)
        assert load_sae(named).k == 9
    with pytest.raises(AutointerpError, match="k is '65', not an integer from 1 to 64"):
        load_sae(file, k=65)


def test_matrices_that_a_format_stores_transposed_are_read_so_even_when_square(tmp_path):
    generator = torch.Generator().manual_seed(0)
    W, b = torch.randn(8, 8, generator=generator), torch.zeros(8)
    tensors = {"W_enc": W, "W_dec": W + 1, "b_enc": b, "b_dec": b + 1}
    for stored, file in [("rows", "layer0.sae.pt"), ("columns", "sae_weights.safetensors")]:
        folder = tmp_path / stored
        folder.mkdir()
        if stored == "rows":
            torch.save(tensors, folder / file)
        else:
            save_file({**tensors, "W_dec": W.T.contiguous()}, folder / file)
            config = {"architecture": "topk", "k": 2, "d_in": 8, "d_sae": 8}
            (folder / "cfg.json").write_text(json.dumps(config))
    assert torch.equal(load_sae(tmp_path / "rows", k=2).W_enc, W.T)
    assert torch.equal(load_sae(tmp_path / "columns").W_enc, W)


def test_one_layer_of_a_cross_layer_transcoder_adds_up_its_writes(tmp_path):
    generator = torch.Generator().manual_seed(0)
    W_enc, W_dec = torch.randn(6, 4, generator=generator), torch.randn(6, 3, 4, generator=generator)
    encoder = {"W_enc_2": W_enc, "b_enc_2": torch.zeros(6), "b_dec_2": torch.zeros(4)}
    save_file(encoder, tmp_path / "W_enc_2.safetensors")
    save_file({"W_dec_2": W_dec}, tmp_path / "W_dec_2.safetensors")
    hooks = "feature_input_hook: hook_resid_mid\nfeature_output_hook: hook_mlp_out\n"
    (tmp_path / "config.yaml").write_text(hooks)
    sae = load_sae(tmp_path)
    assert (sae.hook_in, sae.hook_out) == ("blocks.2.hook_resid_mid", "blocks.4.hook_mlp_out")
    x = torch.randn(5, 4, generator=generator)
    close(sae.encode(x), (x @ W_enc.T).relu())
    close(sae.W_dec, W_dec.sum(1))
    assert "reconstructs" in sae.metadata


def test_attention_dictionaries_read_the_heads_side_by_side(tmp_path):
    source = load_file(checkpoint("saelens_standard") / "sae_weights.safetensors")
    torch.save(source, tmp_path / "gpt2-small_L5.pt")
    config = {"act_size": 16, "dict_size": 64, "act_name": "blocks.5.attn.hook_z"}
    (tmp_path / "gpt2-small_L5_cfg.json").write_text(json.dumps(config))
    sae = load_sae(tmp_path)
    assert sae.format == "hook_z" and sae.hook_in == "blocks.5.attn.hook_z"
    assert sae.fingerprint() == load_sae(checkpoint("saelens_standard")).fingerprint()


def test_two_linear_maps_without_a_config_are_the_r1_dictionary(tmp_path):
    source = checkpoint("dictionary_learning_autoencoder_new") / "ae.pt"
    shutil.copy(source, tmp_path / "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt")
    sae, said = load_sae(tmp_path), io("dictionary_learning_autoencoder_new")
    assert sae.format == "qresearch" and sae.hook_in == "blocks.19.hook_resid_post"
    close(sae.encode(said["x"]), said["acts"])


def test_every_format_has_a_row_in_the_docs():
    page = (FORMATS.parents[2] / "docs" / "sae-formats.md").read_text()
    for name, reader in KNOWN.items():
        assert reader.LAYOUT and f"\n| `{name}` |" in page


def test_the_examples_of_the_page_run(monkeypatch, capsys):
    root = FORMATS.parents[2]
    monkeypatch.chdir(root)
    page = (root / "docs" / "sae-formats.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(code, {"hidden": torch.zeros(3, 16)})
    assert "SparseAutoencoder(topk, k=8, n_latents=64" in capsys.readouterr().out
    (config,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    source = yaml.safe_load(config)["sources"]["features"]
    assert SaeConfig.model_validate(source).path.startswith("google/gemma-scope-2b-pt-res:")
