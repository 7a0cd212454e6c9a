import importlib.util
import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from autointerp.records import AutointerpError
from autointerp.subject import load_subject
from autointerp.subject.embedded import INSTALL_LINE, gguf_path
from autointerp.subject.load import choose_device, choose_dtype


def test_a_folder_loads_and_runs(tiny_folder):
    subject = load_subject(str(tiny_folder), device="cpu")
    ids = torch.tensor([subject.tokenizer("The cat sat.")["input_ids"]])
    name = "blocks.1.hook_resid_post"
    assert subject.run(ids, [name])[name].dtype == torch.float32
    assert not subject.model.training
    assert not any(p.requires_grad for p in subject.model.parameters())


def test_the_dtype_is_the_one_asked_for(tiny_folder):
    subject = load_subject(str(tiny_folder), device="cpu", dtype="bfloat16")
    name = "blocks.0.hook_resid_post"
    assert subject.run(torch.tensor([[1, 2]]), [name])[name].dtype == torch.bfloat16


def test_a_model_that_is_not_causal_is_refused(tmp_path, tokenizer):
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(AutointerpError, match=r"not a causal language model \(it is BertModel\)"):
        load_subject(str(tmp_path))


def test_a_missing_folder_is_refused(tmp_path):
    missing = tmp_path / "nothing"
    with pytest.raises(AutointerpError, match=r"no model at .*nothing.*config\.json"):
        load_subject(str(missing))


def test_a_folder_without_weights_or_tokenizer_is_refused(tmp_path, tiny_folder):
    (tmp_path / "config.json").write_text((tiny_folder / "config.json").read_text())
    with pytest.raises(AutointerpError, match="could not be loaded"):
        load_subject(str(tmp_path))


def test_a_damaged_weights_file_is_refused(tmp_path, tiny_folder):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AutointerpError, match="could not be loaded"):
        load_subject(str(folder))


def test_the_fingerprint_depends_on_the_weights_and_not_on_the_path(tmp_path, tiny_folder):
    own = load_subject(str(tiny_folder), device="cpu").fingerprint
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    assert load_subject(str(copy), device="cpu").fingerprint == own

    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] += 0.5
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_subject(str(copy), device="cpu").fingerprint != own


def test_the_fingerprint_depends_on_the_configuration(tmp_path, tiny_folder):
    own = load_subject(str(tiny_folder), device="cpu").fingerprint
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    assert load_subject(str(copy), device="cpu").fingerprint != own


def test_unknown_devices_and_dtypes_are_refused():
    for name in ("gpu", "meta", "cpu:x", "", "xla"):
        with pytest.raises(AutointerpError, match=f"'{name}' is not auto, cpu"):
            choose_device(name)
    with pytest.raises(AutointerpError, match="'int8' is not one of auto, float32"):
        choose_dtype("int8", torch.device("cpu"))
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(AutointerpError, match=f"'{name}'.*no CUDA device"):
            choose_device(name)
    with pytest.raises(AutointerpError, match="no MPS device"):
        choose_device("mps")


def test_the_device_is_counted_and_auto_prefers_cuda_then_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(AutointerpError, match=r"'cuda:2'.*2 CUDA devices, from cuda:0 on"):
        choose_device("cuda:2")


def test_auto_is_bfloat16_on_cuda_and_float32_elsewhere():
    assert choose_dtype("auto", torch.device("cuda:1")) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    assert choose_dtype("float16", torch.device("cpu")) == torch.float16


SPREAD = {
    "model.embed_tokens": "cpu",
    "model.rotary_emb": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.norm": "cpu",
    "lm_head": "disk",
}


def test_a_model_spread_over_memory_and_disk_gives_what_the_whole_one_gives(tiny_folder):
    whole = load_subject(str(tiny_folder), device="cpu")
    spread = load_subject(str(tiny_folder), device="cpu", device_map=SPREAD)
    waiting = [name for name, p in spread.model.named_parameters() if p.is_meta]
    assert any(name.startswith("model.layers.1.") for name in waiting)
    assert not any(name.startswith("model.layers.0.") for name in waiting)
    names = ["blocks.0.mlp.hook_post", "blocks.1.mlp.hook_post", "blocks.1.hook_resid_post"]
    ids = torch.tensor([[5, 9, 2, 33], [8, 8, 3, 21]])
    expected, found = whole.run(ids, names), spread.run(ids, names)
    for name in names:
        assert torch.equal(found[name], expected[name])
        assert found[name].device == spread.device == torch.device("cpu")
    # Stopped in the middle of a block that lies on disk, it runs again just the same.
    assert torch.equal(spread.run(ids, names[1:2])[names[1]], expected[names[1]])
    assert torch.equal(spread.run(ids, names[2:])[names[2]], expected[names[2]])


def test_how_a_model_is_spread_is_no_part_of_its_fingerprint(tiny_folder):
    own = load_subject(str(tiny_folder), device="cpu").fingerprint
    assert load_subject(str(tiny_folder), device="cpu", device_map=SPREAD).fingerprint == own
    assert load_subject(str(tiny_folder), device="cpu", device_map="auto").fingerprint == own


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ("everywhere", r"'everywhere' is not one of auto, balanced"),
        ({"model": "cuda:99"}, r"'cuda:99' was asked for"),
        ({"model": 99}, r"'cuda:99' was asked for"),
        ({"": "gpu"}, r"'gpu' is not auto, cpu"),
        ({"": "cpu", "model.layer.0": "cpu"}, r"'model\.layer\.0'.*near ones: .*model\.layers\.0"),
    ],
)
def test_a_device_map_that_cannot_be_followed_is_refused(tiny_folder, device_map, message):
    with pytest.raises(AutointerpError, match=message):
        load_subject(str(tiny_folder), device="cpu", device_map=device_map)


def test_the_embedded_tokenizer_splits_numbers_into_digits(tokenizer):
    tokens = tokenizer.tokenize("In 1984, 70 of 12345")
    digits = [t for t in tokens if any(c.isdigit() for c in t)]
    assert digits == list("19847012345")


def test_without_the_embedded_model_the_install_line_is_given(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AutointerpError) as refusal:
        gguf_path()
    assert INSTALL_LINE in str(refusal.value)
    with pytest.raises(AutointerpError, match="--no-deps"):
        load_subject("smollm2")
