"""Every layout against the outputs of the library that wrote it (tests/data/README.md)."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autointerp.records import AutointerpError
from autointerp.units import load_sae

FORMATS = Path(__file__).parent.parent / "data" / "sae_formats"

READ = {
    "saelens_standard": "relu",
    "saelens_standard_bf16": "relu",
    "saelens_standard_constant_norm": "relu",
    "saelens_standard_layernorm": "relu",
    "saelens_standard_no_b_dec_in": "relu",
    "saelens_gated": "gated",
    "saelens_jumprelu": "jumprelu",
    "saelens_batchtopk": "jumprelu",
    "saelens_topk": "topk",
    "saelens_topk_rescaled": "topk",
    "saelens_legacy_topk": "topk",
}


@pytest.fixture
def copy(tmp_path):
    """name → a copy of that checkpoint, to be damaged."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(FORMATS / name, tmp_path / name))

    return make


def set_config(folder: Path, **changes: object) -> None:
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "sae_weights.safetensors"
    tensors = load_file(path) | changes
    save_file({k: v.contiguous() for k, v in tensors.items() if v is not None}, path)


@pytest.mark.parametrize("name", READ)
def test_activations_and_reconstruction_are_the_owning_librarys(name):
    sae = load_sae(FORMATS / name)
    io = load_file(FORMATS / name / "io.safetensors")
    acts = sae.encode(io["x"])
    torch.testing.assert_close(acts, io["acts"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(acts, io["x"]), io["recon"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close((acts > 0).float(), (io["acts"] > 0).float())


@pytest.mark.parametrize("name", READ)
def test_what_a_dictionary_says_of_itself(name):
    sae = load_sae(FORMATS / name)
    assert (sae.d_in, sae.n_latents, sae.d_out) == (16, 64, 16)
    assert sae.architecture == READ[name]
    assert sae.hook_in == sae.hook_out == "blocks.3.hook_resid_post"
    assert all(t.dtype == torch.float32 for t in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec))
    assert "n_latents=64" in repr(sae) and "d_in=16" in repr(sae)


@pytest.mark.parametrize("name", ["saelens_topk", "saelens_topk_rescaled", "saelens_legacy_topk"])
def test_encode_topk_is_encode_without_the_zeros(name):
    sae = load_sae(FORMATS / name)
    x = load_file(FORMATS / name / "io.safetensors")["x"]
    values, indices = sae.encode_topk(x)
    assert values.shape == indices.shape == (32, 8)
    assert torch.equal(torch.zeros(32, 64).scatter(1, indices, values), sae.encode(x))


def test_fingerprints_tell_dictionaries_apart(copy):
    own = {name: load_sae(FORMATS / name).fingerprint() for name in READ}
    assert len(set(own.values())) == len(own)
    folder = copy("saelens_standard")
    assert load_sae(folder).fingerprint() == own["saelens_standard"]
    b_enc = load_file(folder / "sae_weights.safetensors")["b_enc"]
    change_weights(folder, b_enc=b_enc + torch.eye(64)[5] * 1e-3)
    assert load_sae(folder).fingerprint() != own["saelens_standard"]


def test_a_top_k_dictionary_of_before_version_6_is_not_read_as_relu():
    sae = load_sae(FORMATS / "saelens_legacy_topk")
    assert sae.architecture == "topk" and sae.k == 8


@pytest.mark.parametrize(
    "architecture", ["transcoder", "batchtopk", "matching_pursuit", "temporal", "abstopk"]
)
def test_other_architectures_are_refused_by_name(copy, architecture):
    folder = copy("saelens_standard")
    set_config(folder, architecture=architecture)
    with pytest.raises(AutointerpError, match=f"'{architecture}' is not one of standard, gated"):
        load_sae(folder)
    with pytest.raises(AutointerpError, match="architecture 'transcoder'"):
        load_sae(FORMATS / "saelens_transcoder")


def test_other_activation_functions_of_before_version_6_are_refused_by_name(copy):
    folder = copy("saelens_legacy_topk")
    set_config(folder, activation_fn_str="tanh-relu")
    with pytest.raises(AutointerpError, match="tanh-relu"):
        load_sae(folder)


@pytest.mark.parametrize("normalisation", ["expected_average_only_in", True])
def test_other_normalisations_are_refused_by_name(copy, normalisation):
    folder = copy("saelens_standard")
    set_config(folder, normalize_activations=normalisation)
    with pytest.raises(AutointerpError, match="normalize_activations 'expected_average_only_in'"):
        load_sae(folder)


def test_truncated_weights_are_refused(copy):
    folder = copy("saelens_standard")
    weights = folder / "sae_weights.safetensors"
    for size in (0, 5, 300, 4000):
        weights.write_bytes((FORMATS / "saelens_standard" / weights.name).read_bytes()[:size])
        with pytest.raises(AutointerpError, match="saelens_standard: damaged file"):
            load_sae(folder)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(copy, poison):
    folder = copy("saelens_jumprelu")
    threshold = load_file(folder / "sae_weights.safetensors")["threshold"]
    threshold[7] = poison
    change_weights(folder, threshold=threshold)
    with pytest.raises(AutointerpError, match="tensor threshold holds NaN or infinity"):
        load_sae(folder)


def test_tensors_of_another_shape_are_refused_naming_both(copy):
    folder = copy("saelens_standard")
    change_weights(folder, W_dec=torch.zeros(64, 15))
    with pytest.raises(AutointerpError, match=r"W_dec is \[64, 15\], but cfg.json says \[64, 16\]"):
        load_sae(folder)


def test_absent_tensors_are_refused_by_name(copy):
    folder = copy("saelens_gated")
    change_weights(folder, r_mag=None)
    with pytest.raises(AutointerpError, match="tensor r_mag is absent"):
        load_sae(folder)


def test_a_transposed_matrix_is_never_taken_for_the_right_one(copy):
    folder = copy("saelens_standard")
    change_weights(folder, W_enc=load_file(folder / "sae_weights.safetensors")["W_enc"].T)
    with pytest.raises(AutointerpError, match=r"W_enc is \[64, 16\]"):
        load_sae(folder)


def test_a_d_in_that_lies_is_refused(copy):
    folder = copy("saelens_topk")
    set_config(folder, d_in=768)
    with pytest.raises(AutointerpError, match=r"says \[768, 64\]"):
        load_sae(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_in": None}, "d_in is None, not a positive integer"),
        ({"d_sae": "many"}, "d_sae is 'many'"),
        ({"d_sae": -3}, "d_sae is -3"),
        ({"k": 0}, "k is 0, not an integer from 1 to 64"),
        ({"k": 65}, "k is 65, not an integer from 1 to 64"),
        ({"k": None}, "k is None"),
        ({"k": True}, "k is True"),
        ({"metadata": {"hook_name": 5}}, "hook_name is 5, not a text"),
        ({"metadata": {"hook_name_out": ["a"]}}, "hook_name is .'a'., not a text"),
    ],
)
def test_numbers_that_cannot_be_are_refused(copy, changes, message):
    folder = copy("saelens_topk")
    set_config(folder, **changes)
    with pytest.raises(AutointerpError, match=message):
        load_sae(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "\x00\x01", "[1, 2]", "3", "[" * 100_000, '{"k": ' + "1" * 5000 + "}"]
)
def test_a_config_that_is_not_a_json_object_is_refused(copy, text):
    folder = copy("saelens_standard")
    (folder / "cfg.json").write_text(text)
    with pytest.raises(AutointerpError, match=r"damaged file|no keys"):
        load_sae(folder)


def test_a_config_that_is_not_text_is_refused(copy):
    folder = copy("saelens_standard")
    (folder / "cfg.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(AutointerpError, match="damaged file"):
        load_sae(folder)


def test_odd_metadata_does_not_stop_the_reader(copy):
    folder = copy("saelens_standard")
    set_config(folder, metadata="none")
    assert load_sae(folder).hook_in is None


def test_a_scaling_factor_that_scales_is_refused_and_ones_are_not(copy):
    folder = copy("saelens_standard")
    change_weights(folder, scaling_factor=torch.ones(64))
    load_sae(folder)
    change_weights(folder, scaling_factor=torch.full((64,), 1.5))
    with pytest.raises(AutointerpError, match="scaling_factor"):
        load_sae(folder)


def test_a_folder_of_no_known_format_is_refused_saying_what_it_holds(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(AutointerpError, match=r"no format known here \(saelens\).*weights\.pt"):
        load_sae(tmp_path)
    with pytest.raises(AutointerpError, match="no such folder"):
        load_sae(tmp_path / "nothing")
    with pytest.raises(AutointerpError, match="no format known here"):
        load_sae(tmp_path / "weights.pt")
