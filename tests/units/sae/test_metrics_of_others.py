"""Every metric against SAELens' and dictionary_learning's own, on one subject, text, dictionary."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from autointerp.subject import load_subject
from autointerp.units import load_sae
from autointerp.units.sae.evaluation import SaeEvaluation
from autointerp.units.sae.spliced import SplicedLoss

FOLDER = Path(__file__).parents[2] / "data" / "sae_metrics"
NUMBERS = json.loads((FOLDER / "numbers.json").read_text())
PLACE = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def subject():
    return load_subject(str(FOLDER / "subject"), device="cpu", dtype="float32")


def measured(subject, owner, name):
    """All metrics, the loss, and each latent's density, on the tokens that the owner had."""
    sae = load_sae(FOLDER / name / owner)
    ids = np.array(json.loads((FOLDER / "tokens.json").read_text()))
    hidden = subject.run(torch.from_numpy(ids), [PLACE])[PLACE]
    evaluation = SaeEvaluation(sae)
    evaluation.add(hidden.flatten(0, 1))
    put = sae.decode(sae.encode(hidden.flatten(0, 1))).view(hidden.shape)
    loss = SplicedLoss(subject, PLACE, evaluation.mean_target())
    for part in np.array_split(np.arange(len(ids)), 3):
        loss.add(ids[part], np.zeros_like(ids[part], bool), {"sae": put[part]})
    density = (sae.encode(hidden.flatten(0, 1)) != 0).double().mean(0)
    return evaluation.metrics(), loss.of("sae"), density


@pytest.mark.parametrize("name", ["relu", "topk"])
def test_metrics_are_those_of_saelens(subject, name):
    m, loss, density = measured(subject, "saelens", name)
    theirs = NUMBERS[name]["saelens"]
    ours = {
        "l0": m.l0,
        "l1": m.l1,
        "mse": m.mse,
        "explained_variance": m.explained_variance,
        "cossim": m.cosine,
        "l2_ratio": m.l2_ratio,
        "ce_loss_without_sae": loss.ce,
        "ce_loss_with_sae": loss.ce_reconstructed,
        "ce_loss_with_ablation": loss.ce_zero,
        "ce_loss_score": loss.loss_recovered,
        "kl_div_with_sae": loss.kl_reconstructed,
        "kl_div_with_ablation": loss.kl_zero,
        "kl_div_score": loss.kl_recovered,
        "feature_density": density.tolist(),
    }
    assert ours == {key: pytest.approx(theirs[key], rel=2e-5, abs=1e-6) for key in ours}
    # Theirs is a mean over batches of a ratio of means, ours the ratio over all tokens.
    bias = theirs["relative_reconstruction_bias"]
    assert m.relative_reconstruction_bias == pytest.approx(bias, rel=3e-3)


@pytest.mark.parametrize("name", ["relu", "topk"])
def test_metrics_are_those_of_dictionary_learning(subject, name):
    m, loss, _ = measured(subject, "dictionary_learning", name)
    theirs = NUMBERS[name]["dictionary_learning"]
    ours = {
        "l0": m.l0,
        "l1_loss": m.l1,
        "l2_loss": m.l2_loss,
        "frac_variance_explained": m.explained_variance_centred,
        "cossim": m.cosine,
        "l2_ratio": m.l2_ratio,
        "relative_reconstruction_bias": m.relative_reconstruction_bias,
        "frac_alive": 1 - m.dead_share,
        "loss_original": loss.ce,
        "loss_reconstructed": loss.ce_reconstructed,
        "loss_zero": loss.ce_zero,
        "frac_recovered": loss.loss_recovered,
    }
    assert ours == {key: pytest.approx(theirs[key], rel=2e-5, abs=1e-6) for key in ours}
