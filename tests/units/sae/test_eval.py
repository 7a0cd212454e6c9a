"""`autointerp sae eval`: what splicing costs, against the subject run by hand."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.units.sae.baselines import pca_dictionary, random_dictionary
from autointerp.units.sae.evaluation import SaeEvaluation
from autointerp.units.sae.spliced import SplicedLoss

PLACE = "blocks.1.hook_resid_post"


def cross_entropy(logits: torch.Tensor, ids: torch.Tensor) -> float:
    return float(
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_the_loss_of_what_is_spliced_in_is_that_of_the_model_run_by_hand(tiny_subject, family):
    subject = tiny_subject(family)
    ids = np.random.default_rng(0).integers(1, 60, (3, 9))
    tokens = torch.from_numpy(ids)
    masked = np.zeros((3, 9), bool)
    masked[:, 0] = True
    there = subject.run(tokens, [PLACE])[PLACE]
    put = 0.5 * there + 0.3

    def run(values):
        module = subject.hook(PLACE).module

        def replace(_m, _a, output):
            new = values.clone()
            new[:, 0] = (output[0] if isinstance(output, tuple) else output)[:, 0]
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = module.register_forward_hook(replace)
        found = subject.model(input_ids=tokens).logits.float()
        handle.remove()
        return found

    mean = there.mean((0, 1))
    loss = SplicedLoss(subject, PLACE, mean)
    loss.add(ids, masked, {"half": put, "truth": there})
    plain = subject.model(input_ids=tokens).logits.float()
    half, zero = run(put), run(torch.zeros_like(there))
    found = loss.of("half")
    assert found.n_tokens == 24
    assert found.ce == pytest.approx(cross_entropy(plain, tokens), rel=1e-5)
    assert found.ce_reconstructed == pytest.approx(cross_entropy(half, tokens), rel=1e-5)
    assert found.ce_zero == pytest.approx(cross_entropy(zero, tokens), rel=1e-5)
    by_hand = cross_entropy(run(mean.expand_as(there)), tokens)
    assert found.ce_mean == pytest.approx(by_hand, rel=1e-5)
    p, q = plain.log_softmax(-1), half.log_softmax(-1)
    kl = torch.nn.functional.kl_div(
        q.flatten(0, 1), p.flatten(0, 1), log_target=True, reduction="batchmean"
    )
    assert found.kl_reconstructed == pytest.approx(float(kl), rel=1e-4)
    assert loss.of("truth").loss_recovered == pytest.approx(1.0, abs=1e-5)
    assert loss.of("truth").kl_reconstructed == pytest.approx(0.0, abs=1e-6)


def test_the_baseline_of_principal_components_is_the_textbook_one():
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9) + 3
    evaluation = SaeEvaluation(pca_dictionary(x, 3))
    evaluation.add(x)
    found = evaluation.metrics()
    variances = torch.linalg.svdvals(x.double() - x.double().mean(0)) ** 2
    assert found.explained_variance == pytest.approx(
        float(variances[:3].sum() / variances.sum()), abs=1e-5
    )
    assert found.l0 == pytest.approx(3.0)


def test_random_directions_explain_less_than_components_and_more_than_the_mean():
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) + 3
    evaluation = SaeEvaluation(random_dictionary(x, 64, 3))
    evaluation.add(x)
    found = evaluation.metrics()
    assert found.l0 == 3.0 and 0 < found.explained_variance < 0.9


@pytest.fixture
def trained(tiny_folder, tmp_path):
    """Two small dictionaries of the tiny subject as `sae train` leaves them, and their config."""
    from autointerp.config import SaeTrainConfig, load_config
    from autointerp.train import train_dictionaries
    from tests.units.test_train_sae import TRAINING

    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in TRAINING))
    config = tmp_path / "sae.yaml"
    settings = {
        "subject": {"model": str(tiny_folder), "device": "cpu"},
        "hook_point": "blocks.0.hook_resid_post",
        "corpus": {"path": str(texts), "sequence_length": 17, "window_length": 8},
        "output": str(tmp_path / "sae"),
        "dictionaries": {
            "narrow": {"architecture": "topk", "n_latents": 40, "k": 4},
            "wide": {"architecture": "batch_topk", "n_latents": 80, "k": 4},
        },
        "n_tokens": 6000,
        "batch_tokens": 256,
        "buffer_chunks": 1,
        "held_out_share": 0.3,
    }
    config.write_text(json.dumps(settings))
    train_dictionaries(load_config(config, SaeTrainConfig))
    return [str(tmp_path / "sae" / name) for name in ("narrow", "wide")], config


def test_dictionaries_and_baselines_are_measured_on_documents_they_have_not_seen(trained, tmp_path):
    paths, config = trained
    result = CliRunner().invoke(
        app,
        ["sae", "eval", *paths, "--config", str(config), "--tokens", "300", "--loss-tokens", "51",
         "--baselines", "pca,random", "--output", str(tmp_path / "out"), "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [row["name"] for row in rows] == ["narrow", "wide", "pca", "random"]
    for row in rows:
        assert row["n_tokens"] > 200 and row["loss_tokens"] == 48
        assert row["ce_zero"] is not None and row["kl_reconstructed"] >= 0
    assert rows[0]["l0"] == 4.0 and rows[2]["l0"] == pytest.approx(4.0)
    csv = (tmp_path / "out" / "evaluation.csv").read_text().splitlines()
    assert len(csv) == 5 and csv[0].startswith("name,architecture,n_latents")
    assert (tmp_path / "out" / "frontier.png").stat().st_size > 1000
    assert "<svg" in (tmp_path / "out" / "frontier.svg").read_text()


def test_a_card_has_the_dictionary_first_and_what_stands_beside_it(trained, tmp_path):
    paths, config = trained
    out = tmp_path / "out"
    command = ["--config", str(config), "--tokens", "300", "--output", str(out)]
    more = ["--loss-tokens", "51", "--baselines", "pca,random"]
    assert CliRunner().invoke(app, ["sae", "eval", *paths, *command, *more]).exit_code == 0
    result = CliRunner().invoke(app, ["sae", "card", paths[1], str(out), "--config", str(config)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "# Sparse autoencoder `wide`"
    assert "| latents | 80, batch_topk |" in lines
    assert any(line.startswith("| training tokens | 5,888 |") for line in lines)
    row = json.loads((out / "evaluation.json").read_text())[1]
    start = lines.index("|---|---:|---:|---:|---:|---:|---:|---:|")
    assert [line.split(" | ")[0] for line in lines[start + 1 : start + 5]] == [
        "| **`wide`**", "| `narrow`", "| principal components", "| random decoder, TopK"
    ]  # fmt: skip
    assert f" {row['explained_variance']:.4f} " in lines[start + 1]
    assert f" {row['loss_recovered']:.4f} " in lines[start + 1]
    assert '"n_latents": 80' in result.stdout and "autointerp sae train sae.yaml" in result.stdout
    # Neither the config nor the numbers of another dictionary make a card.
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text().replace("blocks.0.", "blocks.1."))
    result = CliRunner().invoke(app, ["sae", "card", paths[1], str(out), "--config", str(other)])
    assert result.exit_code == 2 and "not this dictionary, of 80 at blocks.0." in result.output
    kept = json.loads((out / "evaluation.json").read_text())[:1]
    (out / "evaluation.json").write_text(json.dumps(kept))
    result = CliRunner().invoke(app, ["sae", "card", paths[1], str(out)])
    assert result.exit_code == 2 and "only of narrow" in result.output


def test_text_that_was_all_trained_on_is_refused(trained, tmp_path):
    from tests.units.test_train_sae import TRAINING

    paths, config = trained
    seen = tmp_path / "seen.jsonl"
    seen.write_text("".join(json.dumps({"text": text}) + "\n" for text in TRAINING[-3:]))
    listed = tmp_path / "sae" / "narrow" / "training_documents.txt"
    from autointerp.recording.corpus import document_id

    listed.write_text("\n".join(document_id(text) for text in TRAINING))
    result = CliRunner().invoke(
        app, ["sae", "eval", paths[0], "--config", str(config), "--corpus", str(seen)]
    )
    assert result.exit_code == 1
    assert "of 3 documents 3 were trained on or excluded" in result.output


def test_an_unknown_baseline_is_a_usage_error():
    result = CliRunner().invoke(
        app, ["sae", "eval", "demo", "--corpus", "demo", "--baselines", "x"]
    )
    assert result.exit_code == 2 and "'x' is none of pca, random" in result.output
