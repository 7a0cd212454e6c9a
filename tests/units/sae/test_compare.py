"""`autointerp sae compare`: two dictionaries of a subject, and of two that cut text differently."""

import csv
import json
import random

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.config import CorpusConfig, SubjectConfig
from autointerp.sae_compare import CompareOptions, compare_paths
from autointerp.sae_compare_report import summary
from autointerp.subject import load_subject
from autointerp.units.sae.convert import write_saelens
from autointerp.units.sae.maps import flat_map
from autointerp.units.sae.model import SparseAutoencoder
from tests.conftest import tiny_model
from tests.units.test_train_sae import WORDS

PLACE = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    generator = random.Random(3)
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [" ".join(generator.choices(WORDS, k=60)) for _ in range(40)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    return path


def random_relu(seed: int = 0, n: int = 24, d: int = 32) -> SparseAutoencoder:
    W = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    W = W / W.norm(dim=1, keepdim=True)
    zeros = torch.zeros(d)
    return SparseAutoencoder(
        "relu", W.T.contiguous(), torch.full((n,), -0.5), zeros, W, zeros, hook_in=PLACE,
        hook_out=PLACE,
    )  # fmt: skip


def permuted(sae: SparseAutoencoder, order: torch.Tensor) -> SparseAutoencoder:
    return SparseAutoencoder(
        "relu", sae.W_enc[:, order].contiguous(), sae.b_enc[order], sae.b_pre, sae.W_dec[order],
        sae.b_dec, hook_in=PLACE, hook_out=PLACE,
    )  # fmt: skip


def corpus(texts) -> CorpusConfig:
    return CorpusConfig(path=str(texts), sequence_length=17, window_length=8)


def options(texts, folder, **more) -> CompareOptions:
    return CompareOptions(SubjectConfig(model=str(folder), device="cpu"), corpus(texts), **more)


@pytest.fixture
def copies(tmp_path):
    """A dictionary and a copy of it in another order."""
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    sae = random_relu()
    write_saelens(sae, tmp_path / "one", torch.float32)
    write_saelens(permuted(sae, order), tmp_path / "two", torch.float32)
    return str(tmp_path / "one"), str(tmp_path / "two"), order


def test_a_permuted_copy_has_universality_one_and_the_permutation_is_found(
    copies, texts, tiny_folder
):
    one, two, order = copies
    found = compare_paths(one, two, options(texts, tiny_folder, n_tokens=1500))
    assert found.aligned_by == "tokens" and found.matches_b.known.sum() > 15
    known = found.matches_b.known
    assert found.matches_b.latent[known].tolist() == order.numpy()[known].tolist()
    np.testing.assert_allclose(found.matches_b.correlation[known], 1.0, atol=1e-9)
    assert found.is_mutual.sum() == known.sum()
    assert found.control_b.correlation[known].mean() < 0.5
    assert found.decoders is not None and found.splitting is not None
    assert found.decoders.nearest_b.tolist() == order.tolist()
    assert found.splitting.n_children.tolist() == [1] * 24
    fired = found.splitting.n_wide > 0
    assert (found.splitting.n_both == found.splitting.n_wide)[fired].all()


def test_correlations_are_those_of_the_latents_computed_by_hand(texts, tiny_folder, tmp_path):
    write_saelens(random_relu(0), tmp_path / "a", torch.float32)
    write_saelens(random_relu(1, 16), tmp_path / "b", torch.float32)
    found = compare_paths(
        str(tmp_path / "a"), str(tmp_path / "b"), options(texts, tiny_folder, max_norm=None)
    )
    subject = load_subject(str(tiny_folder), device="cpu")
    rows = []
    for line in sorted(set(texts.read_text().splitlines())):
        ids = subject.tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids) - 16, 17):
            hidden = subject.run(torch.tensor([ids[start : start + 17]]), [PLACE])[PLACE][0, 1:]
            rows.append(hidden.float())
    x = torch.cat(rows)
    a, b = random_relu(0).encode(x), random_relu(1, 16).encode(x)
    assert found.n_tokens == len(x) and found.n_documents == 40
    r = np.corrcoef(a.double().T, b.double().T)[:24, 24:]
    r = np.where(found.matches_b.known, r, -2.0)
    known = found.matches_a.known
    np.testing.assert_allclose(found.matches_a.correlation[known], r.max(1)[known], atol=1e-5)
    assert found.matches_a.n_active.tolist() == (a > 0).sum(0).tolist()


def test_tables_figures_and_neighbours_are_written(copies, texts, tiny_folder, tmp_path):
    one, two, order = copies
    command = ["sae", "compare", one, two, "--corpus", str(texts), "--subject", str(tiny_folder)]
    config = tmp_path / "sae.yaml"
    settings = {
        "subject": {"model": str(tiny_folder), "device": "cpu"}, "hook_point": PLACE,
        "corpus": corpus(texts).model_dump(exclude_none=True), "output": "x", "n_tokens": 1,
        "dictionaries": {"x": {"n_latents": 40}},
    }  # fmt: skip
    config.write_text(json.dumps(settings))
    out = tmp_path / "out"
    more = ["--config", str(config), "--tokens", "600", "--latent", "3", "--neighbours", "4"]
    result = CliRunner().invoke(app, [*command, *more, "--output", str(out)])
    assert result.exit_code == 0, result.output
    assert "24 were kept in two" in result.stdout and "aligned by tokens" in result.stdout
    names = {path.name for path in out.iterdir()}
    tables = {"universality", "splitting", "families", "neighbours", "map"}
    figures = {"universality", "splitting", "map"}
    assert names == {"comparison.json"} | {f"{n}.csv" for n in tables} | {
        f"{n}.{s}" for n in figures for s in ("png", "svg")
    }
    facts = json.loads((out / "comparison.json").read_text())
    assert facts["splitting"]["n_kept"] == 24 and facts["universality"]["n_mutual"] > 15

    def read(name):
        return list(csv.DictReader((out / f"{name}.csv").open()))

    rows = [row for row in read("universality") if row["dictionary"] == "two"]
    assert len(rows) == 24
    for row, origin in zip(rows, order.tolist(), strict=True):
        assert row["nearest"] == str(origin)
        known = row["status"] == "ok"
        assert (row["match"] == str(origin)) == known == bool(row["correlation"])
    families = read("families")
    assert {row["fate"] for row in families} == {"kept"}
    assert order[int(families[5]["children"])] == 5
    near = read("neighbours")
    assert [row["dictionary"] for row in near] == ["one"] * 4 + ["two"] * 4
    assert order[int(near[4]["neighbour"])] == 3 and float(near[4]["cosine"]) == pytest.approx(1)
    assert len(read("map")) == 48 and facts["map"] == "umap"
    # The same again as JSON; a latent that is not there is a usage error.
    result = CliRunner().invoke(app, [*command, *more, "--json"])
    again = json.loads(result.stdout)["universality"]["a_in_b"]
    assert again == pytest.approx(facts["universality"]["a_in_b"], abs=1e-6)
    result = CliRunner().invoke(app, [*command, "--config", str(config), "--latent", "24"])
    assert result.exit_code == 2 and "one has the latents 0 to 23, not 24" in result.output


def test_a_baseline_of_random_directions_stands_for_a_second_dictionary(copies, texts, tiny_folder):
    found = compare_paths(copies[0], "random", options(texts, tiny_folder, n_tokens=600))
    assert found.b.name == "random" and found.b.sae.n_latents == 24
    assert found.splitting is not None
    facts = summary(found)["universality"]["a_in_b"]
    assert facts["mean"] < 0.95 and facts["n_compared"] > 10


def word_tokenizer():
    """One token a word, without the space before it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<unk>", *dict.fromkeys(WORDS)])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def detector(subject, words: list[str], hook: str) -> SparseAutoencoder:
    """A latent for each word, that fires where the word's last token is embedded."""
    emb = subject.model.get_input_embeddings().weight.detach().float()
    ids = [subject.tokenizer(f" {word}", add_special_tokens=False)["input_ids"][-1]
           for word in words]  # fmt: skip
    rows = emb[ids]
    zeros = torch.zeros(rows.shape[1])
    W_enc = (rows / rows.pow(2).sum(1, keepdim=True)).T.contiguous()
    bias = torch.full((len(words),), -0.95)
    return SparseAutoencoder("relu", W_enc, bias, zeros, rows, zeros, hook_in=hook, hook_out=hook)


def test_two_subjects_that_cut_text_differently_are_aligned_by_characters(
    texts, tiny_folder, tmp_path
):
    words = list(dict.fromkeys(WORDS))
    other = tmp_path / "words"
    made = word_tokenizer()
    tiny_model("gpt2", vocabulary=len(made), width=48).save_pretrained(other)
    made.save_pretrained(other)
    subjects = [load_subject(str(folder), device="cpu") for folder in (tiny_folder, other)]
    shifted = words[3:] + words[:3]
    write_saelens(detector(subjects[0], words, "model.embed_tokens:output"), tmp_path / "a",
                  torch.float32)  # fmt: skip
    write_saelens(detector(subjects[1], shifted, "transformer.wte:output"), tmp_path / "b",
                  torch.float32)  # fmt: skip
    found = compare_paths(
        str(tmp_path / "a"), str(tmp_path / "b"),
        options(texts, tiny_folder, subject_b=SubjectConfig(model=str(other), device="cpu")),
    )  # fmt: skip
    assert found.aligned_by == "characters" and found.splitting is None
    assert found.matches_a.known.all()
    assert [shifted[i] for i in found.matches_a.latent] == words
    np.testing.assert_allclose(found.matches_a.correlation, 1.0, atol=1e-4)
    assert found.control_a.correlation.max() < 0.5


def test_a_dictionary_of_another_width_is_refused_by_name(copies, texts, tiny_folder, tmp_path):
    write_saelens(random_relu(d=20), tmp_path / "narrower", torch.float32)
    with pytest.raises(Exception, match=r"narrower has 20 channels where .* has 32"):
        compare_paths(copies[0], str(tmp_path / "narrower"), options(texts, tiny_folder))


def test_maps_keep_what_writes_alike_together_and_are_the_same_again():
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(2, 16, generator=g)
    rows = centres.repeat_interleave(10, 0) + 0.05 * torch.randn(20, 16, generator=g)
    places, method = flat_map(rows)
    assert method == "pca" and places.shape == (20, 2)
    assert np.abs(places[:10, 0].mean() - places[10:, 0].mean()) > 5 * places[:10, 0].std()
    unit = (rows / rows.norm(dim=1, keepdim=True)).double()
    centred = (unit - unit.mean(0)).numpy()
    s = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose((places**2).sum(0), s[:2] ** 2, rtol=1e-4)
    np.testing.assert_array_equal(flat_map(rows)[0], places)


def test_with_umap_clusters_lie_apart_and_a_seed_gives_one_map():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 16, generator=g).repeat_interleave(25, 0)
    rows = rows + 0.05 * torch.randn(50, 16, generator=g)
    places, method = flat_map(rows)
    assert method == "umap"
    apart = np.linalg.norm(places[:25].mean(0) - places[25:].mean(0))
    assert apart > 5 * places[:25].std(0).max()
    np.testing.assert_array_equal(flat_map(rows)[0], places)


def test_without_umap_a_map_is_of_principal_components(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "umap", None)
    assert flat_map(torch.randn(60, 5, generator=torch.Generator().manual_seed(0)))[1] == "pca"
