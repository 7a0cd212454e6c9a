"""Files that lie, are damaged or want to run: refused by name, and nothing in them runs."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from autointerp.records import AutointerpError
from autointerp.units import load_sae
from autointerp.units.sae.formats.checkpoint import SUFFIXES
from tests.units.sae_checkpoints import (
    FORMATS,
    NAMES,
    change_weights,
    copy_of,
    io,
    set_config,
)

PICKLES = [n for n in NAMES if any((FORMATS / n).glob("*.pt")) or any((FORMATS / n).glob("*.pth"))]
WITHOUT = {
    "circuit_tracer_transcoder": "b_enc",
    "dictionary_learning_autoencoder": "bias",
    "dictionary_learning_gated": "mag_bias",
    "dictionary_learning_matryoshka_batchtopk": "group_sizes",
    "dictionary_learning_topk": "k",
    "gemma_scope_2_jumprelu": "b_dec",
    "goodfire_relu": "decoder_linear.bias",
    "llama_scope_jumprelu": "encoder.bias",
    "openai_topk": "decoder.weight",
    "saelens_gated": "r_mag",
    "saelens_jumprelu": "threshold",
    "saelens_skip_transcoder": "W_skip",
    "sparsify_topk": "encoder.bias",
}


class Runs:
    """A pickle that makes a file when it is opened with its code."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


@pytest.fixture
def copy(tmp_path):
    """name → a copy of that checkpoint, to be damaged."""
    return lambda name: copy_of(name, tmp_path)


def weights_of(path: Path) -> Path:
    """The file of weights of a checkpoint."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return next(
        f
        for f in files
        if f.suffix in SUFFIXES
        and f.name != "io.safetensors"
        and "training_checkpoint" not in f.parts
    )


def refused(path: Path, match: str) -> None:
    """Loading is refused with one line that says this."""
    with pytest.raises(AutointerpError, match=match) as caught:
        load_sae(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500


# Code


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("place", ["instead of the state", "beside the tensors", "in a tensor"])
def test_code_in_a_pickle_does_not_run(copy, tmp_path, name, place):
    path, canary = copy(name), tmp_path / "canary"
    file = weights_of(path)
    tensors = torch.load(file, weights_only=True)
    changed = {
        "instead of the state": Runs(canary),
        "beside the tensors": {**tensors, "extra": Runs(canary)},
        "in a tensor": {name: Runs(canary) for name in tensors},
    }[place]
    torch.save(changed, file)
    refused(path, "a pickle that holds more than tensors and plain values, so it is not opened")
    file.write_bytes(pickle.dumps(changed))
    refused(path, "damaged file|more than tensors")
    assert not canary.exists()
    pickle.loads(pickle.dumps(changed))
    assert canary.exists(), "the canary would have sung"


def test_code_in_an_array_does_not_run(copy, tmp_path):
    file, canary = copy("gemma_scope_jumprelu"), tmp_path / "canary"
    arrays = dict(np.load(file))
    arrays["b_enc"] = np.array([Runs(canary)], dtype=object)
    np.savez(file, **arrays)
    refused(file, "damaged file .*allow_pickle=False")
    assert not canary.exists()


def test_a_torchscript_archive_is_not_opened(copy):
    file = copy("openai_relu")
    torch.jit.script(torch.nn.Linear(2, 2)).save(file)
    refused(file, "damaged file|more than tensors")


def test_tags_of_a_yaml_text_do_not_run(copy, tmp_path):
    path, canary = copy("circuit_tracer_transcoder"), tmp_path / "canary"
    tag = f"feature_input_hook: !!python/object/apply:os.system ['touch {canary}']\n"
    (path.parent / "config.yaml").write_text(tag)
    refused(path, r"config\.yaml: damaged file")
    assert not canary.exists()


# Files that are broken or too large


@pytest.mark.parametrize("name", NAMES)
def test_truncated_weights_are_refused(copy, name):
    path = copy(name)
    file = weights_of(path)
    whole = file.read_bytes()
    for size in (0, 5, 300, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        refused(path, "damaged file")


def test_an_enormous_header_is_refused_without_reading_it(copy):
    folder = copy("saelens_standard")
    file = folder / "sae_weights.safetensors"
    body = file.read_bytes()[8:]
    for size in (2**63, 2**40, 10**8 + 1, len(body) + 1):
        file.write_bytes(struct.pack("<Q", size) + body)
        refused(folder, "damaged file")


def test_a_header_that_claims_more_than_the_file_holds_is_refused(copy):
    folder = copy("saelens_standard")
    file = folder / "sae_weights.safetensors"
    claim = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"W_enc": claim}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    refused(folder, "damaged file")


@pytest.mark.parametrize("compressed", [True, False])
def test_an_archive_that_unpacks_to_far_more_is_refused(copy, compressed):
    file = copy("gemma_scope_jumprelu")
    arrays = dict(np.load(file))
    arrays["W_enc"] = np.zeros((16, 10**6 if compressed else 64), dtype=np.float32)
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    if compressed:
        refused(file, "that would unpack to")
    else:
        assert load_sae(file).n_latents == 64


def test_an_array_whose_header_lies_about_its_size_is_refused(copy):
    file = copy("gemma_scope_jumprelu")
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data.replace(b"(16, 64)", b"(9999999999999, 64)"))
    refused(file, "damaged file")


def test_a_view_that_pretends_to_any_size_is_refused(copy):
    folder = copy("dictionary_learning_topk")
    file = folder / "ae.pt"
    tensors = torch.load(file, weights_only=True)
    tensors["encoder.weight"] = torch.zeros(1).expand(10**7, 10**7)
    torch.save(tensors, file)
    refused(folder, "encoder.weight .* is larger than what is stored of it")


@pytest.mark.parametrize(
    "tensor",
    [torch.eye(64, 16).to_sparse(), torch.zeros(64, 16, dtype=torch.complex64), "text", 3, [1.0]],
    ids=["sparse", "complex", "text", "number", "list"],
)
def test_what_is_no_plain_tensor_is_refused(copy, tensor):
    folder = copy("dictionary_learning_topk")
    file = folder / "ae.pt"
    tensors = torch.load(file, weights_only=True)
    torch.save(tensors | {"encoder.weight": tensor}, file)
    refused(folder, "encoder.weight (is|has)")


def test_a_state_that_is_no_mapping_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "ae.pt")
    refused(tmp_path / "ae.pt", "holds a list, not tensors by name")


@pytest.mark.parametrize("name", ["saelens_standard", "sparsify_topk", "gemma_scope_2_jumprelu"])
@pytest.mark.parametrize(
    "text",
    ["", "{", "\x00\x01", "[1, 2]", "3", "[" * 100_000, '{"k": ' + "1" * 5000 + "}", "\ud800"],
    ids=["empty", "brace", "control", "list", "number", "deep", "endless", "surrogate"],
)
def test_a_config_that_is_not_a_json_object_is_refused(copy, name, text):
    folder = copy(name)
    config = folder / ("config.json" if name.startswith("gemma") else "cfg.json")
    config.write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(folder, r"cfg\.json: |config\.json: ")


def test_a_config_that_is_not_text_or_too_large_is_refused(copy):
    folder = copy("saelens_standard")
    (folder / "cfg.json").write_bytes(b"\xff\xfe\x00{")
    refused(folder, "damaged file")
    (folder / "cfg.json").write_text('{"a": "' + "x" * 4_000_001 + '"}')
    refused(folder, "a config has at most 4000000")


def test_a_yaml_bomb_is_refused_or_read_without_growing(copy):
    path = copy("circuit_tracer_transcoder")
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 40)]
    layers += ["feature_input_hook: *a39"]
    (path.parent / "config.yaml").write_text("\n".join(layers))
    refused(path, "feature_input_hook is .*, not a text")
    (path.parent / "config.yaml").write_text("a: " + "[" * 50_000)
    refused(path, r"config\.yaml: damaged file")
    (path.parent / "config.yaml").write_text("- a\n" * 60_000)
    refused(path, "a config has at most 200000")


# Files that lie


@pytest.mark.parametrize(("name", "missing"), WITHOUT.items())
def test_absent_tensors_are_refused_by_name(copy, name, missing):
    path = copy(name)
    change_weights(weights_of(path), **{missing: None})
    refused(path, f"tensor {missing} is absent")


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_not_numbers_are_refused(copy, name, poison):
    path = copy(name)
    file = weights_of(path)
    if file.suffix == ".npz":
        arrays = dict(np.load(file))
        arrays["threshold"][7] = poison
        np.savez(file, **arrays)
    else:
        load = load_file if file.suffix == ".safetensors" else torch.load
        tensors = load(file)
        own = next(k for k in ("b_enc", "latent_bias", "encoder.bias", "encoder_linear.bias",
                               "b_mag", "mag_bias") if k in tensors)  # fmt: skip
        tensors[own][7] = poison
        change_weights(file, **{own: tensors[own]})
    refused(path, r"tensor [\w.]+ holds NaN or infinity")


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("gemma_scope_jumprelu", "saelens_gated")]
)
def test_tensors_of_another_shape_are_refused(copy, name):
    path = copy(name)
    file = weights_of(path)
    tensors = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
    for key in ("b_enc", "latent_bias", "encoder.bias", "encoder_linear.bias", "mag_bias"):
        if key in tensors:
            change_weights(file, **{key: torch.zeros(63)})
            refused(path, rf"tensor {key} is \[63\], but .* says \[64\]")


def test_a_transposed_matrix_is_never_taken_for_the_right_one(copy):
    for name, key in [
        ("saelens_standard", "W_enc"),
        ("sparsify_topk", "W_dec"),
        ("dictionary_learning_topk", "encoder.weight"),
        ("llama_scope_jumprelu", "decoder.weight"),
    ]:
        path = copy(name)
        file = weights_of(path)
        tensors = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
        change_weights(file, **{key: tensors[key].T})
        refused(path, rf"tensor {key} is \[\d\d, \d\d\], but")


@pytest.mark.parametrize(
    ("name", "config", "key"),
    [
        ("saelens_topk", "cfg.json", "d_in"),
        ("saelens_topk", "cfg.json", "d_sae"),
        ("saelens_transcoder", "cfg.json", "d_out"),
        ("sparsify_topk", "cfg.json", "d_in"),
        ("sparsify_groupmax", "cfg.json", "num_latents"),
        ("llama_scope_jumprelu", "hyperparams.json", "d_model"),
        ("llama_scope_jumprelu", "hyperparams.json", "d_sae"),
    ],
)
def test_a_config_that_lies_about_a_size_is_refused(copy, name, config, key):
    path = copy(name)
    set_config(path / config, **{key: 24})
    refused(path, rf"tensor [\w.]+ is .*, but {config} \(.*{key}.*\) says \[")
    for value in (None, "many", -3, 0, True, 1e3, [64], 10**30):
        set_config(path / config, **{key: value})
        if key != "num_latents" or value != 0:
            refused(path, f"{key} is .*, not a positive integer|but {config} .* says")


@pytest.mark.parametrize("key", ["activation_dim", "dict_size"])
def test_a_trainer_that_lies_about_a_size_is_refused(copy, key):
    folder = copy("dictionary_learning_topk")
    trainer = json.loads((folder / "config.json").read_text())["trainer"]
    set_config(folder / "config.json", trainer=trainer | {key: 24})
    refused(folder, r"but config.json \(activation_dim, dict_size\) says \[")


def test_sizes_beside_a_transcoder_that_lie_are_refused(copy):
    path = copy("circuit_tracer_transcoder")
    (path.parent / "wandb-config.yaml").write_text("d_model: {value: 99}\nd_feature: {value: 64}")
    refused(path, r"but wandb-config.yaml \(d_feature, d_model\) says \[64, 99\]")
    (path.parent / "wandb-config.yaml").write_text("d_model: 16\n")
    refused(path, "d_feature is None, not a positive integer")


@pytest.mark.parametrize(
    ("name", "config"), [("saelens_topk", "cfg.json"), ("sparsify_topk", "cfg.json")]
)
@pytest.mark.parametrize("k", [0, 65, None, True, "8", 8.0, -1])
def test_a_k_that_cannot_be_is_refused(copy, name, config, k):
    folder = copy(name)
    set_config(folder / config, k=k)
    refused(folder, "k is .*, not an integer from 1 to 64")


def test_a_k_in_a_pickle_that_cannot_be_is_refused(copy):
    folder = copy("dictionary_learning_topk")
    for k in (0, 65, -(2**31)):
        change_weights(folder / "ae.pt", k=torch.tensor(k, dtype=torch.int32))
        refused(folder, "k is .*, not an integer from 1 to 64")
    change_weights(folder / "ae.pt", k=torch.tensor(8.5))
    refused(folder, "tensor k is .*, but it must be one integer")
    file = copy("openai_topk")
    for k in (0, 65, True, "8", None):
        state = {"k": k, "postact_fn": "ReLU"}
        change_weights(file, activation_state_dict=state)
        refused(file, "k is .*, not an integer from 1 to 64")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"hook_name": 5}}, "hook_name is 5, not a text"),
        ({"metadata": {"hook_name_out": ["a"]}}, "hook_name is .'a'., not a text"),
        ({"architecture": "\x1b[31m" + "x" * 10_000}, "is not one of standard"),
        ({"normalize_activations": {"a": 1}}, "give `input_scale`"),
    ],
)
def test_odd_values_of_a_config_are_refused(copy, changes, message):
    folder = copy("saelens_topk")
    set_config(folder / "cfg.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize("value", ["0.8", None, True, float("nan"), float("inf"), [1]])
def test_a_threshold_of_a_config_that_is_no_number_is_refused(copy, value):
    folder = copy("llama_scope_jumprelu")
    set_config(folder / "hyperparams.json", jump_relu_threshold=value)
    refused(folder, "jump_relu_threshold is .*, not a number")


@pytest.mark.parametrize("norm", [0, -1, "6.5", float("nan"), 1e300])
def test_a_norm_of_the_data_that_cannot_be_is_refused(copy, norm):
    folder = copy("llama_scope_jumprelu")
    set_config(folder / "hyperparams.json", dataset_average_activation_norm={"in": norm})
    refused(folder, "is .*, not a positive number")


# Places


def test_names_in_files_are_never_paths(copy, tmp_path):
    secret = tmp_path / "secret.safetensors"
    save_file({"W_enc": torch.zeros(2, 2)}, secret)
    folder = copy("saelens_standard")
    (folder / "sae_weights.safetensors").unlink()
    shards = {"W_enc": "../secret.safetensors", "W_dec": "/etc/passwd"}
    index = {"weight_map": shards}
    (folder / "sae_weights.safetensors.index.json").write_text(json.dumps(index))
    shutil.rmtree(folder / "training_checkpoint")
    refused(folder, "is in no format known here")


def test_archive_members_named_as_paths_go_nowhere(copy, tmp_path):
    file = copy("gemma_scope_jumprelu")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../escaped.npy", b"\x93NUMPY\x01\x00")
    refused(file, "damaged file")
    assert not list(tmp_path.rglob("escaped*"))


def test_links_to_devices_pipes_and_nothing_are_not_read(copy):
    folder = copy("saelens_standard")
    weights = folder / "sae_weights.safetensors"
    shutil.rmtree(folder / "training_checkpoint")
    for make in (
        lambda: os.mkfifo(weights),
        lambda: weights.symlink_to("/dev/zero"),
        lambda: weights.symlink_to(folder / "nothing"),
        lambda: weights.symlink_to(weights),
        lambda: weights.mkdir(),
    ):
        weights.unlink() if weights.is_symlink() or weights.exists() else None
        make()
        refused(folder, "is in no format known here")


def test_a_link_to_another_kind_of_file_is_refused_without_showing_it(copy, tmp_path):
    folder = copy("saelens_standard")
    (tmp_path / "secret").write_text("the password is swordfish")
    for name in ("sae_weights.safetensors", "cfg.json"):
        whole = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / "secret")
        with pytest.raises(AutointerpError) as caught:
            load_sae(folder)
        assert "swordfish" not in str(caught.value)
        (folder / name).unlink()
        (folder / name).write_bytes(whole)


def test_a_folder_that_links_to_itself_ends(copy, tmp_path):
    folder = copy("sparsify_topk")
    (folder.parent / "loop").symlink_to(folder.parent)
    assert load_sae(folder.parent).n_latents == 64


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_changed_bytes_are_refused_or_read_and_never_crash(tmp_path_factory, name, data):
    place = tmp_path_factory.mktemp("changed")
    path = copy_of(name, place)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    files += [p for p in sorted(path.parent.glob("*.yaml")) if path.is_file()]
    own = [f for f in files if f.name not in ("meta.json", "io.safetensors")]
    file = data.draw(st.sampled_from([f for f in own if "training_checkpoint" not in f.parts]))
    content = bytearray(file.read_bytes())
    # Headers, pickles and directories lie at the ends; the middle is numbers.
    edge = min(len(content), 1500)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.one_of(st.integers(0, edge - 1), st.integers(-edge, -1)))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.integers(0, 255))
        else:
            content[at:at] = data.draw(st.binary(max_size=8))
    file.write_bytes(content)
    try:
        sae = load_sae(path)
    except AutointerpError:
        return
    finally:
        shutil.rmtree(place)
    assert torch.isfinite(sae.W_enc).all() and sae.n_latents > 0
    assert sae.encode(io(name)["x"][:, : sae.d_in]).shape == (32, sae.n_latents)
