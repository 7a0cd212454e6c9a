"""Dictionaries and subjects that learned nothing, of the shape of those that did."""

from pathlib import Path

import pytest
import torch

from autointerp import resources
from autointerp.config import parse_config
from autointerp.config.run import RunConfig
from autointerp.controls.dictionaries import control_dictionary
from autointerp.parts import Parts
from autointerp.records import AutointerpError
from autointerp.store import RunStore
from autointerp.subject import load_subject
from autointerp.units import load_sae
from tests.run_helpers import small_config, write_dictionary


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return load_sae(write_dictionary(tmp_path_factory.mktemp("sae")))


@pytest.mark.parametrize("kind", ["random_decoder", "permuted_decoder"])
def test_a_control_keeps_norms_and_the_number_of_active_latents(trained, kind):
    made = control_dictionary(trained, kind, 5)
    assert torch.allclose(made.W_enc.norm(dim=0), trained.W_enc.norm(dim=0), rtol=1e-5)
    assert torch.allclose(made.W_dec.norm(dim=1), trained.W_dec.norm(dim=1), rtol=1e-5)
    hidden = torch.randn(200, trained.d_in, generator=torch.Generator().manual_seed(1))
    assert (made.encode(hidden) > 0).sum(1).max() <= trained.k
    assert made.fingerprint() != trained.fingerprint()
    assert not torch.allclose(made.W_dec, trained.W_dec)


def test_permuted_channels_keep_all_cosines_among_latents(trained):
    made = control_dictionary(trained, "permuted_decoder", 5)
    assert torch.allclose(made.W_dec @ made.W_dec.T, trained.W_dec @ trained.W_dec.T, atol=1e-4)
    across = made.W_dec @ made.W_enc, trained.W_dec @ trained.W_enc
    assert torch.allclose(*across, atol=1e-4)


def test_a_random_dictionary_reads_what_it_writes(trained):
    made = control_dictionary(trained, "random_decoder", 5)
    cosines = torch.cosine_similarity(made.W_enc.T, made.W_dec, dim=1)
    assert torch.allclose(cosines, torch.ones_like(cosines), atol=1e-5)
    old = torch.cosine_similarity(made.W_dec, trained.W_dec, dim=1)
    assert old.abs().mean() < 3 / trained.d_in**0.5


def test_a_control_of_the_trainings_own_seed_does_not_have_the_directions_it_started_from():
    shipped = load_sae(resources.path("datasets/demo/sae"))
    made = control_dictionary(shipped, "random_decoder", 0)
    old = torch.cosine_similarity(made.W_dec, shipped.W_dec, dim=1)
    assert abs(float(old.mean())) < 5 / (shipped.n_latents * shipped.d_in) ** 0.5


def test_a_seed_gives_the_same_control_and_another_another(trained):
    first, again, other = (control_dictionary(trained, "random_decoder", s) for s in (1, 1, 2))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    with pytest.raises(AutointerpError, match="random_decoder or permuted_decoder"):
        control_dictionary(trained, "shuffled", 1)


def test_a_subject_with_random_weights_has_the_shape_and_tokenizer_alone(tiny_folder: Path):
    state = torch.random.get_rng_state()
    trained, first, again, other = (
        load_subject(str(tiny_folder), device="cpu", random_weights=seed)
        for seed in (None, 3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.fingerprint == again.fingerprint
    assert len({trained.fingerprint, first.fingerprint, other.fingerprint}) == 3
    assert first.n_blocks == trained.n_blocks and first.d_model == trained.d_model
    assert first.tokenizer_name == trained.tokenizer_name
    assert first.name.endswith("(random weights, seed 3)")


def test_controls_are_sources_of_a_run_and_nobody_explains_with_an_untrained_model(
    tiny_folder: Path, tmp_path: Path
):
    folder = write_dictionary(tmp_path / "sae")
    sae = {"type": "sae", "path": str(folder)}
    config = small_config(
        tmp_path,
        tiny_folder,
        subjects={
            "untrained": {"model": str(tiny_folder), "device": "cpu", "random_weights": 0},
            "subject": {"model": str(tiny_folder), "device": "cpu"},
        },
        sources={
            "features": sae,
            "untrained": {**sae, "subject": "untrained"},
            "random": {**sae, "control": "random_decoder"},
            "permuted": {**sae, "control": "permuted_decoder", "control_seed": 2},
        },
    )
    parts = Parts(config, RunStore(tmp_path / "run"))
    prints = {name: source.fingerprint() for name, source in parts.sources.items()}
    assert prints["features"] == prints["untrained"]
    assert len(set(prints.values())) == 3
    asked = parts.language_model(str(tiny_folder))
    assert asked is parts.subject("subject") and asked is not parts.subject("untrained")


def test_an_unknown_control_is_refused_with_the_known_ones():
    with pytest.raises(AutointerpError, match="random_decoder"):
        parse_config(
            {
                "subjects": {"s": {}},
                "corpus": {"path": "demo"},
                "sources": {"f": {"type": "sae", "path": "demo", "subject": "s", "control": "no"}},
                "explainers": [{"name": "n", "type": "n2g"}],
            },
            RunConfig,
            "test",
        )
