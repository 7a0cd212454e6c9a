"""Interventions on units of every kind of source: values moved as asked, everything else kept."""

import pytest
import torch

from autointerp.records import AutointerpError, UnitId
from autointerp.subject import Sampling
from autointerp.units import (
    AttentionHeads,
    Directions,
    DirectionSet,
    Intervention,
    Neurons,
    SaeLatents,
    SparseAutoencoder,
    Sparsified,
    random_directions,
)
from autointerp.units.interventions import activations_of, drawn_places, values_of
from autointerp.units.strength import jensen_shannon, mean_kl, strength_for_kl
from tests.conftest import FAMILIES
from tests.units.test_attention_heads import attention_of

TEXTS = [[5, 9, 2, 33, 7, 1, 60], [8, 3, 21]]
IDS = torch.tensor([TEXTS[0]])
MIDDLE = "blocks.1.hook_resid_post"


def random_sae(width=16, n=24, architecture="relu", normalisation="none", out=None, **rest):
    g = torch.Generator().manual_seed(3)

    def made(*shape):
        return torch.randn(*shape, generator=g)

    extra = {"topk": {"k": 5}, "jumprelu": {"threshold": torch.full((n,), 0.3)}}
    return SparseAutoencoder(
        architecture, made(width, n), 0.1 * made(n), 0.1 * made(width), made(n, width),
        made(width), normalisation=normalisation, hook_in=MIDDLE, hook_out=out,
        **extra.get(architecture, {}), **rest,
    )  # fmt: skip


def latents(subject, **options):
    return SaeLatents.of("f", "subject", subject, random_sae(subject.d_model, **options))


def directions(rows, place=MIDDLE, centre=None):
    n, width = rows.shape
    made = DirectionSet(rows, centre)
    return Directions("d", "subject", place, n, width, lambda: made, torch.device("cpu"))


def hidden_at(subject, place, ids=IDS):
    return subject.run(ids, [place])[place][0]


def seen_under(subject, edit, place, ids=IDS):
    with subject.intervene(edit):
        return hidden_at(subject, place, ids)


@pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm"])
@pytest.mark.parametrize("architecture", ["relu", "topk", "jumprelu"])
def test_a_latent_moves_by_its_decoder_and_the_error_term_stays(
    architecture, normalisation, tiny_subject
):
    subject = tiny_subject("llama")
    source = latents(subject, architecture=architecture, normalisation=normalisation)
    x, sae = hidden_at(subject, MIDDLE), source.sae
    f = sae.encode(x)
    index = int(f.sum(0).argmax())
    unit = UnitId("f", index)
    for edit, changed in [
        (Intervention.clamp(source, unit, 2.0, 3.0), torch.full_like(f[:, index], 6.0)),
        (Intervention.scale(source, unit, 2.5), 2.5 * f[:, index]),
        (Intervention.ablate(source, unit), torch.zeros_like(f[:, index])),
        (Intervention.ablate(source, unit, 0.7), torch.full_like(f[:, index], 0.7)),
        (Intervention.add(source, unit, -0.5, 3.0), f[:, index] - 1.5),
    ]:
        other = f.clone()
        other[:, index] = changed
        expected = x + (sae.decode(other, x) - sae.decode(f, x))
        torch.testing.assert_close(
            seen_under(subject, edit, MIDDLE), expected, atol=1e-4, rtol=1e-4
        )


def test_a_set_of_latents_is_read_before_any_of_them_is_moved(tiny_subject):
    subject = tiny_subject("gpt2")
    source = latents(subject)
    units = [UnitId("f", index) for index in (7, 2, 19)]
    x = hidden_at(subject, MIDDLE)
    f = source.sae.encode(x)
    other = f.clone()
    other[:, [7, 2, 19]] = torch.tensor([2.0, 4.0, 6.0])
    expected = x + source.sae.decode(other) - source.sae.decode(f)
    edit = Intervention.clamp(source, units, 2.0, (1.0, 2.0, 3.0))
    torch.testing.assert_close(seen_under(subject, edit, MIDDLE), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dictionary_with_nothing_changed_leaves_the_logits(family, tiny_subject):
    subject = tiny_subject(family)
    source = latents(subject)
    units = [UnitId("f", index) for index in range(source.n_units)]
    plain = subject.next_logits(TEXTS)
    with subject.intervene(Intervention.scale(source, units, 1.0)):
        torch.testing.assert_close(subject.next_logits(TEXTS), plain, atol=1e-5, rtol=0)


def test_a_transcoder_reads_at_one_place_and_writes_at_another(tiny_subject):
    subject = tiny_subject("llama")
    read, write = "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"
    sae = random_sae(subject.d_model, out=write)
    sae.hook_in = read
    source = SaeLatents.of("f", "subject", subject, sae)
    f = sae.encode(hidden_at(subject, read))
    x = hidden_at(subject, write)
    edit = Intervention.ablate(source, UnitId("f", 4))
    expected = x - f[:, 4:5] * sae.W_dec[4]
    torch.testing.assert_close(seen_under(subject, edit, write), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_side_of_a_neuron_is_moved_and_the_other_kept(family, tiny_subject):
    subject = tiny_subject(family)
    place = "blocks.1.mlp.hook_post"
    source = Neurons.of("n", "subject", subject, place)
    x = hidden_at(subject, place)
    column = x[:, 3]
    for unit, expected in [
        (UnitId("n", 3), column - column.relu()),
        (UnitId("n", 3, -1), column + (-column).relu()),
    ]:
        seen = seen_under(subject, Intervention.ablate(source, unit), place)
        torch.testing.assert_close(seen[:, 3], expected)
        others = [i for i in range(source.n_units) if i != 3]
        assert torch.equal(seen[:, others], x[:, others])
    clamped = seen_under(subject, Intervention.clamp(source, UnitId("n", 3, -1), 2.0, 1.5), place)
    torch.testing.assert_close(clamped[:, 3], torch.full((7,), -3.0))


def test_what_a_neuron_adds_at_the_layers_output_is_its_write_direction(tiny_subject):
    subject = tiny_subject("llama")
    source = Neurons.of("n", "subject", subject, "blocks.1.mlp.hook_post")
    out = "blocks.1.hook_mlp_out"
    x = hidden_at(subject, out)
    seen = seen_under(subject, Intervention.add(source, UnitId("n", 3), 2.0, 1.5), out)
    row = source.write_directions([3])
    torch.testing.assert_close(seen - x, (3.0 * row).expand(7, -1), atol=1e-5, rtol=1e-4)


def test_sparsified_neurons_lose_only_what_they_show(tiny_subject):
    subject = tiny_subject("llama")
    place = "blocks.1.mlp.hook_post"
    inner = Neurons.of("n", "subject", subject, place)
    source = Sparsified.of(inner, 4)
    x = hidden_at(subject, place)
    shown = values_of(source, x, list(range(source.n_units)))
    index = int((shown > 0).sum(0).argmax())
    unit = UnitId("n", index)
    seen = seen_under(subject, Intervention.ablate(source, unit), place)
    torch.testing.assert_close(seen[:, index], x[:, index] - shown[:, index].relu())
    clamped = seen_under(subject, Intervention.clamp(source, unit, 1.0, 2.0), place)
    torch.testing.assert_close(clamped[:, index], torch.full((7,), 2.0))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_projections_move_by_exactly_what_is_asked_also_on_slanted_directions(scale, tiny_subject):
    subject = tiny_subject("gemma2")
    rows = scale * random_directions(5, subject.d_model, 0)
    centre = torch.full((subject.d_model,), 0.3)
    source = directions(rows, centre=centre)
    x = hidden_at(subject, MIDDLE)
    units = [UnitId("d", 1), UnitId("d", 4, -1)]
    seen = seen_under(subject, Intervention.clamp(source, units, 2.0, (1.0, 0.5)), MIDDLE)
    values = (seen - centre) @ rows.T
    torch.testing.assert_close(values[:, 1], torch.full((7,), 2.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(values[:, 4], torch.full((7,), -1.0), atol=1e-4, rtol=0)
    # The smallest such change: it lies in the span of the two directions.
    change = seen - x
    span = torch.linalg.qr(rows[[1, 4]].T).Q
    torch.testing.assert_close(change @ span @ span.T, change, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "qwen3"])
def test_an_ablated_head_is_a_head_whose_output_weights_are_zero(family, tiny_subject):
    subject = tiny_subject(family)
    source = AttentionHeads.of("h", "subject", subject, "blocks.1.attn")
    with subject.intervene(Intervention.ablate(source, UnitId("h", 2))):
        ablated = subject.next_logits(TEXTS)
    _, weight = attention_of(subject.model, 1)
    d_head = weight.shape[0] // source.n_units
    kept = weight[2 * d_head : 3 * d_head].clone()
    weight[2 * d_head : 3 * d_head] = 0.0
    expected = subject.next_logits(TEXTS)
    weight[2 * d_head : 3 * d_head] = kept
    torch.testing.assert_close(ablated, expected, atol=1e-5, rtol=1e-4)


def test_a_head_is_clamped_to_a_norm_in_the_direction_it_writes(tiny_subject):
    subject = tiny_subject("llama")
    source = AttentionHeads.of("h", "subject", subject, "blocks.1.attn")
    x = hidden_at(subject, source.read_at)
    for unit in (UnitId("h", 2), UnitId("h", 0)):
        edit = Intervention.clamp(source, unit, 2.0, 0.8)
        seen = seen_under(subject, edit, source.read_at)
        norms = activations_of(source, seen, [unit])[:, 0]
        torch.testing.assert_close(norms, torch.full((7,), 1.6), atol=1e-4, rtol=0)
        before = x.reshape(7, 4, -1)[:, unit.index]
        after = seen.reshape(7, 4, -1)[:, unit.index]
        cosine = torch.nn.functional.cosine_similarity(before, after, dim=-1)
        torch.testing.assert_close(cosine, torch.ones(7), atol=1e-5, rtol=0)


def test_a_simulation_takes_the_place_of_a_unit_token_by_token(tiny_subject):
    subject = tiny_subject("llama")
    source = latents(subject)
    unit = UnitId("f", int(source.sae.encode(hidden_at(subject, MIDDLE)).sum(0).argmax()))
    texts = torch.tensor([TEXTS[0], TEXTS[0][::-1]])
    truth = torch.stack([
        activations_of(source, hidden_at(subject, MIDDLE, ids[None]), [unit]) for ids in texts
    ])  # fmt: skip
    plain = list(subject.each_logits(texts.tolist()))
    with subject.intervene(Intervention.ablate(source, unit, truth)):
        perfect = list(subject.each_logits(texts.tolist()))
    for one, other in zip(plain, perfect, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    refused = pytest.raises(AutointerpError, match="values for 1 texts of 5 tokens")
    with refused, subject.intervene(Intervention.ablate(source, unit, truth[:1, :5])):
        subject.next_logits(texts.tolist())


def test_resampling_draws_whole_rows_of_the_pool_the_same_for_the_same_text_and_place(
    tiny_subject,
):
    subject = tiny_subject("llama")
    source = directions(torch.eye(subject.d_model)[:2])
    units = [UnitId("d", 0), UnitId("d", 1)]
    pool = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    x = hidden_at(subject, MIDDLE)
    edit = Intervention.resample(source, units, pool, seed=5)
    seen = seen_under(subject, edit, MIDDLE)
    drawn = (seen - x)[:, :2] + x[:, :2].relu()
    torch.testing.assert_close(drawn[:, 1], 10 * drawn[:, 0], atol=1e-4, rtol=0)
    assert {round(float(v)) for v in drawn[:, 0]} <= {1, 2, 3}
    assert torch.equal(seen, seen_under(subject, edit, MIDDLE))


def test_the_drawing_is_uniform():
    from autointerp.subject.intervene import Tokens

    rows, positions = torch.meshgrid(torch.arange(100), torch.arange(100), indexing="ij")
    drawn = drawn_places(Tokens(rows.flatten(), positions.flatten()), 10, 3)
    counts = drawn.bincount(minlength=10).double()
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    assert chi_square < 27.9  # 0.999 quantile of 9 degrees of freedom


def test_each_text_may_have_a_strength_of_its_own_in_generation_too(tiny_subject):
    subject = tiny_subject("llama")
    source = latents(subject)
    unit, strengths = UnitId("f", 3), torch.tensor([0.0, 1.0, 4.0])
    edit = Intervention.add(source, unit, strengths, 5.0)
    sampling = Sampling(max_new_tokens=6, stop_at_end=False)
    with subject.intervene(edit):
        together = subject.generate([TEXTS[0]] * 3, sampling, batch_size=2)
    for strength, one in zip(strengths.tolist(), together, strict=True):
        with subject.intervene(edit.by(strength)):
            assert subject.generate([TEXTS[0]], sampling) == [one]
    assert together[0] == subject.generate([TEXTS[0]], sampling)[0]


@pytest.mark.parametrize("units", ["f/2", ["f/2"], UnitId("f", 2), [UnitId("f", 2)]])
def test_units_may_be_given_by_name(units, tiny_subject):
    source = latents(tiny_subject("llama"))
    assert Intervention.clamp(source, units, 1.0, 2.0).units == (UnitId("f", 2),)


def test_units_that_do_not_exist_are_refused_by_name(tiny_subject):
    source = latents(tiny_subject("llama"))
    with pytest.raises(AutointerpError, match="other/1"):
        Intervention.scale(source, UnitId("other", 1), 2.0)
    with pytest.raises(AutointerpError, match="f/24 does not exist"):
        Intervention.scale(source, UnitId("f", 24), 2.0)
    with pytest.raises(AutointerpError, match="f/2- does not exist"):
        Intervention.scale(source, UnitId("f", 2, -1), 2.0)
    with pytest.raises(AutointerpError, match="'two' is not a unit"):
        Intervention.scale(source, "two", 2.0)
    source.sae.W_dec = source.sae.W_dec[:0]
    with pytest.raises(AutointerpError, match="hold no decoder"):
        Intervention.scale(source, UnitId("f", 2), 2.0)


@pytest.mark.parametrize("budget", [0.003, 0.1, 0.5])
def test_a_kl_budget_is_spent_to_a_percent(budget, tiny_subject):
    subject = tiny_subject("llama")
    source = directions(random_directions(3, subject.d_model, 0))
    edit = Intervention.add(source, UnitId("d", 1), 1.0, 1.0)
    found = strength_for_kl(subject, edit.by, TEXTS, budget)
    base = alone(subject)
    with subject.intervene(edit.by(found.strength)):
        kl = mean_kl(alone(subject), base)
    assert found.reached and found.kl == pytest.approx(budget, rel=0.01)
    assert kl == pytest.approx(found.kl, rel=1e-3)


def alone(subject):
    """Next-token logits by the model itself, text by text."""
    return torch.stack([subject.model(input_ids=torch.tensor([t])).logits[0, -1] for t in TEXTS])


def test_a_budget_out_of_reach_is_said_not_claimed(tiny_subject):
    subject = tiny_subject("llama")
    source = directions(random_directions(3, subject.d_model, 0))
    edit = Intervention.add(source, UnitId("d", 1), 1.0, 1.0)
    found = strength_for_kl(subject, edit.by, TEXTS, 1e6, largest=8.0)
    assert not found.reached and found.strength == 8.0 and found.kl < 1e6
    with pytest.raises(AutointerpError, match="above 0"):
        strength_for_kl(subject, edit.by, TEXTS, 0.0)


def test_divergences_equal_their_closed_forms():
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    kl = float(0.9 * torch.log(torch.tensor(1.8)) + 0.1 * torch.log(torch.tensor(0.2)))
    assert mean_kl(q.log(), p.log()) == pytest.approx(kl, rel=1e-5)
    apart = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()
    assert float(jensen_shannon(*apart)) == pytest.approx(0.6931472, rel=1e-6)
    assert float(jensen_shannon(p.log(), p.log())) == 0.0
