"""What the planted model does at every place is what its equations say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.planted import PLACE, UNITS, build, planted_texts, write_folder
from autointerp.planted.model import INDEX, NEURON_PLACE, THRESHOLD, latent_units
from autointerp.records import UnitId, UsageError
from autointerp.subject import load_subject
from autointerp.units import Intervention, SaeLatents, load_sae
from autointerp.units.interventions import activations_of

TEXT = " the ship near a cold wave before the dog and hot snow of night"


def ids_of(planted, text=TEXT):
    return planted.subject.tokenizer(text, add_special_tokens=False)["input_ids"]


def hidden(planted, ids, place=PLACE):
    return planted.subject.run(torch.tensor([ids]), [place])[place][0]


@pytest.mark.parametrize("place", ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre", PLACE])
def test_directions_at_every_place_have_the_computed_values(planted, place):
    for text in planted_texts(12, seed=3):
        ids = ids_of(planted, text)
        found = (hidden(planted, ids, place) @ planted.basis.T).numpy()
        np.testing.assert_allclose(found, planted.activations(ids), atol=1e-5)


def test_before_attention_only_what_the_embedding_wrote_is_there(planted):
    ids = ids_of(planted)
    found = (hidden(planted, ids, "blocks.0.hook_resid_pre") @ planted.basis.T).numpy()
    want = planted.activations(ids)
    want[:, [INDEX["share of sea"], INDEX["both"]]] = 0
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_the_planted_neuron_has_the_computed_activation(planted):
    ids = ids_of(planted)
    found = hidden(planted, ids, NEURON_PLACE)[:, 0].numpy()
    want = planted.neuron(ids)
    np.testing.assert_allclose(found, want, atol=1e-5)
    tokens = planted.subject.tokenizer.convert_ids_to_tokens(ids)
    assert [t for t, value in zip(tokens, want, strict=True) if value > 1] == [" dog"]


def test_by_hand_on_three_words(planted):
    """ " ship", " dog": R² / d = 0.75; share = 12 · 3 / √0.75 after one word, half after two."""
    values = planted.activations(ids_of(planted, " ship dog"))
    share = 12 * 3 / np.sqrt(0.75 + 1e-6) / np.array([1, 2])
    np.testing.assert_allclose(values[:, INDEX["share of sea"]], share)
    assert values[:, INDEX["sea"]].tolist() == [3, 0]
    assert values[:, INDEX["animals"]].tolist() == [0, 3]
    r = np.sqrt((36 + share[1] ** 2) / 48 + 1e-6)
    gate = 2 * 3 / r
    want = 0.3 * gate / (1 + np.exp(-gate)) * share[1] / r
    assert values[1, INDEX["both"]] == pytest.approx(want)
    assert values[0, INDEX["both"]] == 0


def test_signed_units_have_two_sides(planted):
    ids, source = ids_of(planted), planted.directions()
    place = INDEX["heat"]
    both = [UnitId("directions", place, side) for side in (1, -1)]
    found = activations_of(source, hidden(planted, ids), both).numpy()
    want = planted.activations(ids)[:, place]
    np.testing.assert_allclose(found, np.stack([want, -want], 1).clip(0), atol=1e-5)
    assert (found.max(0) > 2).all()


def test_the_dictionary_encodes_planted_units_exactly(planted):
    ids, sae = ids_of(planted), planted.dictionary()
    n = len(latent_units())
    found = sae.encode(hidden(planted, ids))[:, :n].numpy()
    np.testing.assert_allclose(found, planted.latents(ids), atol=1e-5)
    assert ((found == 0) | (found > THRESHOLD)).all()


@pytest.mark.parametrize("unit", ["animals", "weather", "both", "silent 0"])
def test_steering_raises_logits_by_the_computed_amount(planted, unit):
    """L(w | x + v u) - L(w | x), from the residual stream alone."""
    ids, source, k = ids_of(planted), planted.directions(), INDEX[unit]
    edit = Intervention.add(source, UnitId("directions", k), 2.0, 3.0)
    plain = hidden(planted, ids)
    want = planted.logits(plain + 6.0 * planted.basis[k]) - planted.logits(plain)
    model = planted.subject.model
    with torch.no_grad():
        before = model(torch.tensor([ids])).logits[0]
        with planted.subject.intervene(edit):
            after = model(torch.tensor([ids])).logits[0]
    np.testing.assert_allclose(before, planted.logits(plain), atol=1e-5)
    np.testing.assert_allclose(after - before, want, atol=1e-4)
    words = [planted.subject.tokenizer.convert_tokens_to_ids(w) for w in UNITS[k].writes]
    if words:
        others = [i for i in range(after.shape[1]) if i not in words]
        raised = (after - before)[-1]
        assert raised[words].min() > 2 and raised[words].min() > raised[others].max()


@pytest.mark.parametrize("unit", ["animals", "heat", "share of sea"])
def test_ablation_takes_the_unit_and_nothing_else(planted, unit):
    ids, k = ids_of(planted), INDEX[unit]
    source = planted.directions()
    plain = hidden(planted, ids)
    with planted.subject.intervene(Intervention.ablate(source, UnitId("directions", k))):
        found = hidden(planted, ids)
    values = planted.activations(ids)[:, k].clip(0)
    want = plain - torch.from_numpy(values).float()[:, None] * planted.basis[k]
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_ablating_a_latent_is_ablating_its_direction(planted):
    """The reconstruction's error stays: the stream loses f_i d_i."""
    ids = ids_of(planted)
    source = SaeLatents.of("latents", "planted", planted.subject, planted.dictionary())
    place = [u.index for u in latent_units()].index(INDEX["animals"])
    plain = hidden(planted, ids)
    with planted.subject.intervene(Intervention.ablate(source, UnitId("latents", place))):
        found = hidden(planted, ids)
    values = torch.from_numpy(planted.latents(ids)[:, place]).float()
    want = plain - values[:, None] * planted.basis[INDEX["animals"]]
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_the_same_seed_makes_the_same_model_and_another_another(planted):
    again, other = build(), build(seed=1)
    ids = ids_of(planted)
    assert torch.equal(hidden(again, ids), hidden(planted, ids))
    assert not torch.allclose(hidden(other, ids), hidden(planted, ids))
    np.testing.assert_array_equal(other.activations(ids), planted.activations(ids))


def test_what_is_written_loads_as_the_same_model_and_dictionary(planted, tmp_path: Path):
    result = CliRunner().invoke(app, ["plant", str(tmp_path / "p")])
    assert result.exit_code == 0, result.output
    assert f"autointerp run {tmp_path / 'p' / 'config.yaml'}" in result.output.replace("\n", "")
    subject = load_subject(str(tmp_path / "p" / "model"), device="cpu")
    ids = subject.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert ids == ids_of(planted)
    x = subject.run(torch.tensor([ids]), [PLACE])[PLACE][0]
    np.testing.assert_allclose(x, hidden(planted, ids), atol=1e-6)
    sae = load_sae(tmp_path / "p" / "dictionary")
    np.testing.assert_allclose(
        sae.encode(x)[:, : len(latent_units())], planted.latents(ids), atol=1e-5
    )
    with pytest.raises(UsageError, match="not empty"):
        write_folder(tmp_path / "p")
