"""A dictionary at the wrong place, behind another normalisation or of another model is told."""

import json

import numpy as np
import pytest
import torch

from autointerp.recording.first_use import expected_l0, first_use, tried, try_dictionaries
from autointerp.records import Sequence, Split
from autointerp.store import RunStore
from autointerp.units import Neurons, SaeLatents, SparseAutoencoder, load_sae
from tests.units.sae_checkpoints import checkpoint, io

PLACE = "blocks.1.hook_resid_post"


def sequences(n: int = 6, split: Split = Split.EXPLAIN) -> list[Sequence]:
    generator = np.random.default_rng(0)
    return [
        Sequence(
            f"{i:016x}", f"d{i}", split, generator.integers(0, 32, 24).astype(np.int32),
            np.arange(24) < 1, np.arange(24, dtype=np.int32), np.arange(1, 25, dtype=np.int32),
        )
        for i in range(n)
    ]  # fmt: skip


def perfect(d: int, scale: float = 1.0, **more) -> SparseAutoencoder:
    """relu(x) and relu(-x): reconstructs everything, with d of 2 d latents active."""
    both = torch.cat([torch.eye(d), -torch.eye(d)], dim=1)
    zero = torch.zeros(d)
    return SparseAutoencoder(
        "relu", both, torch.zeros(2 * d), zero, scale * both.T, zero, **more
    )  # fmt: skip


@pytest.fixture
def subject(tiny_subject):
    return tiny_subject("llama")


def test_a_dictionary_that_fits_says_nothing(subject):
    sae = perfect(subject.d_model, metadata={"average_l0": subject.d_model})
    source = SaeLatents.of("features", "subject", subject, sae, PLACE)
    found = first_use(source, subject, sequences())
    assert found is not None and found.warning is None
    assert found.n_tokens == 6 * 23 and found.l0 == subject.d_model
    assert found.explained_variance == pytest.approx(1, abs=1e-6)


def test_a_reconstruction_worse_than_the_mean_is_told(subject):
    """Closed form: x - (-x) = 2 x, so 1 - 4 E‖x‖² / (E‖x‖² - ‖E x‖²) <= -3."""
    source = SaeLatents.of("features", "subject", subject, perfect(subject.d_model, -1.0), PLACE)
    found = first_use(source, subject, sequences())
    assert found is not None and found.warning is not None
    assert found.explained_variance is not None and found.explained_variance < -2.9
    assert "features: its reconstruction explains -" in found.warning
    assert PLACE in found.warning and "wrong hook point" in found.warning


@pytest.mark.parametrize(
    ("said", "is_told"), [(0.3, True), (0.34, False), (1, False), (2.9, False), (3.1, True)]
)
def test_active_latents_three_times_off_are_told(subject, said, is_told):
    d = subject.d_model
    sae = perfect(d, metadata={"l0": said * d})
    source = SaeLatents.of("features", "subject", subject, sae, PLACE)
    found = first_use(source, subject, sequences())
    assert found is not None and (found.warning is not None) == is_told
    if is_told:
        assert f"{d} latents are active per token where its files say" in str(found.warning)


def test_explained_variance_is_that_of_the_owners_numbers():
    """On the fixture of another library: 1 - Σ(x - recon)² / Σ(x - mean)², L0 as counted there."""
    for name in ("gemma_scope_jumprelu", "saelens_standard", "gemma_scope_2_jumprelu"):
        sae, known = load_sae(checkpoint(name)), io(name)
        x, recon = known["x"].double(), known["recon"].double()
        l0, variance = tried(sae, known["x"], known["x"])
        assert l0 == float((known["acts"] != 0).sum(1).double().mean())
        expected = 1 - (x - recon).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
        assert variance == pytest.approx(float(expected), rel=1e-5)


def test_what_files_say_of_active_latents_is_read():
    assert expected_l0(load_sae(checkpoint("gemma_scope_jumprelu"))) == 71
    assert expected_l0(load_sae(checkpoint("gemma_scope_2_jumprelu"))) == 20
    assert expected_l0(load_sae(checkpoint("sparsify_topk"))) is not None
    assert expected_l0(load_sae(checkpoint("saelens_standard"))) is None


def test_without_a_decoder_or_explain_documents_nothing_is_made_up(subject):
    sae = perfect(subject.d_model)
    sae.W_dec = torch.zeros(0, subject.d_model)
    source = SaeLatents.of("features", "subject", subject, sae, PLACE)
    found = first_use(source, subject, sequences())
    assert found is not None and found.explained_variance is None and found.warning is None
    assert first_use(source, subject, sequences(split=Split.TEST)) is None


def test_it_is_said_and_kept_in_the_run(subject, tmp_path):
    said: list[str] = []

    class Hearing:
        note = staticmethod(said.append)

    store = RunStore(tmp_path)
    bad = SaeLatents.of("bad", "subject", subject, perfect(subject.d_model, -1.0), PLACE)
    neurons = Neurons.of("neurons", "subject", subject, "blocks.0.mlp.hook_post")
    try_dictionaries([neurons, bad], subject, sequences(), store, Hearing())  # type: ignore[arg-type]
    assert len(said) == 1 and said[0].startswith("WARNING: bad: its reconstruction")
    kept = json.loads((tmp_path / "first_use.json").read_text())
    assert set(kept) == {"bad"} and kept["bad"]["warning"] in said[0]
