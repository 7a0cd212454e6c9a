import numpy as np
import pytest
import torch

from autointerp.records import AutointerpError, UnitId
from autointerp.units import Dense, Neurons, SaeLatents, Sparse, SparseAutoencoder
from autointerp.units.base import unit_rows
from tests.conftest import FAMILIES

TOKENS = torch.tensor([[5, 9, 2, 33, 7]])


def random_sae(architecture: str, d_in: int = 16, n_latents: int = 40, **more) -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    weights = [random(d_in, n_latents), random(n_latents), random(d_in)]
    return SparseAutoencoder(architecture, *weights, random(n_latents, d_in), random(d_in), **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_neuron_writes_its_direction(family, tiny_subject):
    """The change of what is at `write_at` when one neuron's value changes by one."""
    subject = tiny_subject(family)
    neurons = Neurons.of("n", "subject", subject, "blocks.1.mlp.hook_post")
    assert neurons.write_at is not None
    place = subject.hook("blocks.1.mlp.hook_post").module
    before = subject.run(TOKENS, [neurons.write_at])[neurons.write_at]
    for index in (0, 7, neurons.n_units - 1):

        def push(_module, args, index=index):
            changed = args[0].clone()
            changed[..., index] += 1.0
            return (changed, *args[1:])

        handle = place.register_forward_pre_hook(push)
        after = subject.run(TOKENS, [neurons.write_at])[neurons.write_at]
        handle.remove()
        direction = neurons.write_directions([index])
        assert direction is not None and direction.shape == (1, subject.d_model)
        torch.testing.assert_close(
            after - before, direction[0].expand_as(before), rtol=1e-4, atol=1e-4
        )


def test_neurons_write_to_the_mlp_output_unless_a_norm_follows(tiny_subject):
    def written(family: str, hook_point: str) -> str | None:
        return Neurons.of("n", "subject", tiny_subject(family), hook_point).write_at

    assert written("gpt2", "blocks.1.mlp.hook_post") == "blocks.1.hook_mlp_out"
    assert written("llama", "blocks.1.mlp.hook_post") == "blocks.1.hook_mlp_out"
    gemma = written("gemma2", "blocks.1.mlp.hook_post")
    assert gemma == "model.layers.1.mlp.down_proj:output"
    path = "model.layers.1.mlp.down_proj:input"
    assert written("llama", path) == "model.layers.1.mlp.down_proj:output"


def test_a_place_that_no_projection_reads_writes_nothing(tiny_subject):
    for place in ("blocks.1.hook_resid_mid", "blocks.1.hook_resid_post", "blocks.0.mlp.hook_in"):
        channels = Neurons.of("n", "subject", tiny_subject("llama"), place)
        assert channels.write_at is None and channels.write_directions([0]) is None
        assert channels.n_units == 16


def test_neurons_are_the_hidden_state_and_both_its_signs(tiny_subject):
    neurons = Neurons.of("n", "subject", tiny_subject("gpt2"), "blocks.0.mlp.hook_post")
    hidden = torch.randn(3, 64).bfloat16()
    encoded = neurons.encode(hidden)
    assert torch.equal(encoded.values, hidden.float())
    rows = unit_rows(neurons)
    assert len(rows) == 128
    assert (rows[0], rows[63], rows[64]) == (UnitId("n", 0), UnitId("n", 63), UnitId("n", 0, -1))


def test_sparse_latents_are_the_dense_ones(tiny_subject):
    sae = random_sae("topk", k=5)
    latents = SaeLatents.of("f", "subject", tiny_subject("llama"), sae, "blocks.1.hook_resid_post")
    hidden = torch.randn(30, 16)
    encoded = latents.encode(hidden)
    assert isinstance(encoded, Sparse) and bool((encoded.values > 0).all())
    dense = torch.zeros(30, 40)
    dense[encoded.tokens, encoded.units] = encoded.values
    assert torch.equal(dense, sae.encode(hidden))
    relu = SaeLatents("f", "subject", "blocks.1.hook_resid_post", random_sae("relu")).encode(hidden)
    assert isinstance(relu, Dense) and relu.values.shape == (30, 40)


def test_top_k_fires_fewer_than_k_where_fewer_are_positive():
    sae = random_sae("topk", k=5)
    sae.b_enc -= 100
    sae.b_enc[:2] += 200
    encoded = SaeLatents("f", "subject", "x", sae).encode(torch.randn(4, 16))
    assert isinstance(encoded, Sparse) and len(encoded.values) == 8
    assert set(encoded.units.tolist()) == {0, 1}


def test_a_dictionary_of_another_width_is_refused_naming_both(tiny_subject):
    sae = random_sae("relu", d_in=12)
    with pytest.raises(AutointerpError, match=r"d_in = 12.*blocks\.1\.hook_resid_post.*has 16"):
        SaeLatents.of("f", "subject", tiny_subject("llama"), sae, "blocks.1.hook_resid_post")


def test_a_dictionary_without_a_hook_point_asks_for_one(tiny_subject):
    with pytest.raises(AutointerpError, match="name no hook point; set `hook_point:`"):
        SaeLatents.of("f", "subject", tiny_subject("llama"), random_sae("relu"))


def test_the_hook_point_of_the_files_is_the_default(tiny_subject):
    sae = random_sae("relu", hook_in="blocks.0.hook_resid_post", hook_out="blocks.0.hook_mlp_out")
    latents = SaeLatents.of("f", "subject", tiny_subject("llama"), sae)
    assert latents.read_at == "blocks.0.hook_resid_post"
    assert latents.write_at == "blocks.0.hook_mlp_out"
    assert torch.equal(latents.write_directions([3, 1]), sae.W_dec[[3, 1]])
    elsewhere = SaeLatents.of("f", "subject", tiny_subject("llama"), sae, "blocks.1.hook_resid_pre")
    assert elsewhere.fingerprint() != latents.fingerprint()


def test_jumprelu_keeps_what_is_strictly_above_its_threshold():
    sae = random_sae("jumprelu", threshold=torch.tensor(0.5))
    z = torch.tensor([[0.4, 0.5, 0.6, -1.0]])
    assert sae.activate(z).tolist() == [[0.0, 0.0, pytest.approx(0.6), 0.0]]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda sae: sae.encode(np.zeros((3, 16))), r"\[n_tokens, 16\], not ndarray .*\[3, 16\]"),
        (lambda sae: sae.encode(torch.zeros(3, 12)), r"\[n_tokens, 16\], not Tensor .*\[3, 12\]"),
        (lambda sae: sae.encode(torch.tensor(1.0)), r"\[n_tokens, 16\], not Tensor .*\[\]"),
        (lambda sae: sae.pre_activations([[1.0]]), r"\[n_tokens, 16\], not list"),
        (lambda sae: sae.decode(torch.ones(2, 10)), r"latents .*\[n_tokens, 40\], not .*\[2, 10\]"),
        (lambda sae: sae.decode(torch.ones(2, 40), torch.ones(2, 3)), r"hidden states .*\[2, 3\]"),
    ],
)
def test_what_does_not_fit_a_dictionary_is_refused_naming_shapes(run, says):
    with pytest.raises(AutointerpError, match=says):
        run(random_sae("relu"))


def test_decoding_a_normalised_dictionary_needs_its_input():
    sae = random_sae("relu", normalisation="layer_norm")
    with pytest.raises(AutointerpError, match=r"give the input, decode\(f, x\)"):
        sae.decode(torch.zeros(1, 40))


@pytest.mark.parametrize("source", ["neurons", "topk", "relu"])
def test_a_range_of_units_is_that_part_of_all(source, tiny_subject):
    hidden = torch.randn(30, 16)
    if source == "neurons":
        whole_source = Neurons("n", "subject", "x", 16)
    else:
        sae = random_sae(source, k=5 if source == "topk" else None)
        whole_source = SaeLatents("f", "subject", "x", sae)

    def dense(units: slice | None, n: int) -> torch.Tensor:
        encoded = whole_source.encode(hidden, units)
        if isinstance(encoded, Dense):
            assert encoded.values.shape == (30, n)
            return encoded.values
        values = torch.zeros(30, n)
        values[encoded.tokens, encoded.units] = encoded.values
        return values

    whole = dense(None, whole_source.n_units)
    for first, last in ((0, 7), (7, 16), (3, 3), (0, whole_source.n_units)):
        assert torch.equal(dense(slice(first, last), last - first), whole[:, first:last])
