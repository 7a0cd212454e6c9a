import itertools
import json
import os
import random
import signal

import pytest
import torch

from autointerp.config import SaeTrainConfig, load_config, parse_config
from autointerp.recording.corpus import document_id
from autointerp.records import AutointerpError
from autointerp.train import train_dictionaries
from autointerp.units import load_sae
from tests.processes import Forked

SENTENCE = "a river house green seven walks under bright cat when nobody saw it and"
WORDS = SENTENCE.split(" ")


def texts(seed: int, n: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=60)) for _ in range(n)]


DICTIONARY = {"architecture": "topk", "n_latents": 40, "k": 4}
TRAINING, EXCLUDED = texts(0, 30), texts(1, 8)


@pytest.fixture
def settings(tmp_path, tiny_folder):
    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
        return str(path)

    return {
        "subject": {"model": str(tiny_folder), "device": "cpu"},
        "hook_point": "blocks.0.hook_resid_post",
        "corpus": {
            "path": write("training.jsonl", [*TRAINING, *EXCLUDED]),
            "sequence_length": 17,
            "window_length": 8,
        },
        "exclude": [write("excluded.jsonl", EXCLUDED)],
        "output": str(tmp_path / "sae"),
        "dictionaries": {"small": DICTIONARY},
        "n_tokens": 6000,
        "batch_tokens": 256,
        "buffer_chunks": 1,
        "held_out_share": 0.1,
        "save_dtype": "float32",
    }


def train(settings, **changes):
    config = parse_config(settings | changes, SaeTrainConfig, "sae.yaml")
    return train_dictionaries(config)


def test_a_dictionary_is_trained_and_written_without_the_excluded_documents(settings, tmp_path):
    sae = train(settings)["small"]
    assert (sae.n_latents, sae.d_in, sae.hook_in) == (40, 32, "blocks.0.hook_resid_post")
    assert load_sae(tmp_path / "sae" / "small").fingerprint() == sae.fingerprint()
    trained_on = set((tmp_path / "sae" / "small" / "training_documents.txt").read_text().split())
    assert trained_on < {document_id(text) for text in TRAINING}
    assert not trained_on & {document_id(text) for text in EXCLUDED}
    metrics = json.loads((tmp_path / "sae" / "small" / "metrics.json").read_text())
    assert metrics["n_excluded_documents"] == 8
    assert metrics["n_held_out_documents"] == 3
    assert metrics["n_training_documents"] == len(trained_on) == 27
    assert metrics["explained_variance"] > 0


def test_another_config_in_the_same_folder_is_refused(settings, tmp_path):
    train(settings)
    stored = (tmp_path / "sae" / "small" / "sae_weights.safetensors").read_bytes()
    with pytest.raises(AutointerpError, match="holds a training of another config"):
        train(settings, dictionaries={"small": DICTIONARY | {"k": 5}})
    assert (tmp_path / "sae" / "small" / "sae_weights.safetensors").read_bytes() == stored
    # The same config again changes nothing.
    train(settings)
    assert (tmp_path / "sae" / "small" / "sae_weights.safetensors").read_bytes() == stored


def test_a_corpus_with_nothing_left_is_refused(settings):
    with pytest.raises(AutointerpError, match=r"no document is left.*38 read, 38 excluded"):
        train(settings, exclude=[settings["corpus"]["path"]])


def test_a_corpus_that_is_too_short_is_refused_before_any_training(settings):
    longer = settings["corpus"] | {"sequence_length": 2000}
    with pytest.raises(AutointerpError, match="gives 0 sequences of 2000 tokens"):
        train(settings, corpus=longer)
    # The refused config does not hold the folder against the mended one.
    train(settings, n_tokens=600)


def test_held_out_documents_that_are_too_short_are_refused_before_any_training(settings, tmp_path):
    short = tmp_path / "short.jsonl"
    rows = ["too short", *TRAINING]
    short.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    with pytest.raises(AutointerpError, match="none of the 1 held-out documents has 17 tokens"):
        train(settings, corpus=settings["corpus"] | {"path": str(short)}, held_out_share=0.02)
    assert not (tmp_path / "sae" / "checkpoint.safetensors").exists()


def test_several_dictionaries_of_any_kind_share_one_pass(settings, tmp_path):
    kinds = ("relu_l1", "relu_l1_april", "batch_topk", "gated", "jumprelu", "matryoshka")
    wanted = {kind: DICTIONARY | {"architecture": kind} for kind in kinds}
    saes = train(settings, dictionaries=wanted | {"wide": DICTIONARY | {"n_latents": 64}})
    assert saes["wide"].n_latents == 64
    for name, sae in saes.items():
        assert load_sae(tmp_path / "sae" / name).fingerprint() == sae.fingerprint()
        metrics = json.loads((tmp_path / "sae" / name / "metrics.json").read_text())
        assert 0 <= metrics["dead_share"] <= 1 and metrics["n_tokens"] > 0
        details = sae.metadata["training_architecture_details"]
        assert details["architecture"] == (name if name in kinds else "topk")
    assert saes["batch_topk"].architecture == "jumprelu"
    table = (tmp_path / "sae" / "metrics.csv").read_text()
    assert {line.split(",")[0] for line in table.splitlines()[1:]} == set(saes)
    assert "<svg" in (tmp_path / "sae" / "progress.html").read_text()


def test_a_transcoder_reads_one_place_and_writes_another(settings, tmp_path):
    places = {"hook_point": "blocks.1.mlp.hook_in", "hook_out": "blocks.1.hook_mlp_out"}
    wanted = {"into": DICTIONARY | {"architecture": "batch_topk", "learning_rate": 0.01}}
    sae = train(settings, **places, dictionaries=wanted, warmup_steps=5)["into"]
    assert (sae.hook_in, sae.hook_out) == tuple(places.values())
    assert load_sae(tmp_path / "sae" / "into").hook_out == "blocks.1.hook_mlp_out"
    metrics = json.loads((tmp_path / "sae" / "into" / "metrics.json").read_text())
    assert metrics["explained_variance"] > 0


def test_a_transcoder_that_no_layout_can_hold_is_refused_before_any_work(settings):
    with pytest.raises(AutointerpError, match="topk transcoders cannot be written"):
        train(settings, hook_out="blocks.1.hook_mlp_out")


def test_kept_activations_are_removed_at_the_end(settings, tmp_path):
    plain = train(settings)["small"]
    kept = train(settings, keep_activations=True, output=str(tmp_path / "kept"))["small"]
    assert not list((tmp_path / "kept").glob("activations*"))
    # Rounded to bfloat16, so not the same, but as good.
    torch.testing.assert_close(kept.W_dec, plain.W_dec, atol=0.1, rtol=0)


def train_until_killed(tell, file, reports):
    """Train; after so many reports of progress, die of SIGKILL."""
    left = itertools.count(reports, -1)

    def die(_):
        if next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    train_dictionaries(load_config(file, SaeTrainConfig), report=die)


def test_a_training_killed_at_any_moment_goes_on_to_the_same_result(settings, tmp_path):
    """kill -9 again and again, until it is through."""
    wanted = {name: DICTIONARY | {"architecture": name} for name in ("topk", "batch_topk")}
    changed = settings | {"dictionaries": wanted, "keep_activations": True, "n_tokens": 60_000}
    whole = train(changed)
    killed = changed | {"output": str(tmp_path / "killed"), "checkpoint_seconds": 0.0}
    file = tmp_path / "killed.yaml"
    file.write_text(json.dumps(killed))
    for reports in (1, 2, 1000):
        code = Forked(train_until_killed, file, reports).wait()
        assert code == (0 if reports == 1000 else -9)
    for name, sae in whole.items():
        again = load_sae(tmp_path / "killed" / name)
        assert again.fingerprint() == sae.fingerprint()
