import json
import random

import pytest

from autointerp.config import SaeTrainConfig, parse_config
from autointerp.recording.corpus import document_id
from autointerp.records import AutointerpError
from autointerp.train import train_dictionaries
from autointerp.units import load_sae

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
