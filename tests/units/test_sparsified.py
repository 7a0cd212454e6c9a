import pytest
import torch

from autointerp.records import AutointerpError
from autointerp.units import Neurons, Sparsified
from autointerp.units.base import unit_rows
from tests.conftest import FAMILIES


def scattered(encoded, n_tokens, n_units):
    dense = torch.zeros(n_tokens, n_units)
    dense[encoded.tokens, encoded.units] = encoded.values
    return dense


def neurons(tiny_subject, family="llama"):
    return Neurons.of("n", "subject", tiny_subject(family), "blocks.1.mlp.hook_post")


def hidden_of(n_tokens=20, width=32):
    return torch.randn(n_tokens, width, generator=torch.Generator().manual_seed(0))


def test_the_largest_magnitudes_of_a_token_keep_their_values_and_signs(tiny_subject):
    hidden = hidden_of()
    dense = scattered(Sparsified.of(neurons(tiny_subject), 5).encode(hidden), 20, 32)
    for token, row in enumerate(hidden):
        kept = sorted(range(32), key=lambda unit: -abs(float(row[unit])))[:5]
        expected = torch.zeros(32)
        expected[kept] = row[kept]
        assert torch.equal(dense[token], expected)
    assert bool((dense < 0).any()) and bool((dense > 0).any())


def test_both_polarities_together_fire_l0_times_a_token(tiny_subject):
    encoded = Sparsified.of(neurons(tiny_subject), 7).encode(hidden_of())
    active = torch.bincount(encoded.tokens[encoded.values > 0], minlength=20)
    active += torch.bincount(encoded.tokens[encoded.values < 0], minlength=20)
    assert active.tolist() == [7] * 20


def test_zeros_are_never_kept(tiny_subject):
    hidden = torch.zeros(3, 32)
    hidden[0, 4], hidden[2, 9] = 1.0, -2.0
    encoded = Sparsified.of(neurons(tiny_subject), 5).encode(hidden)
    found = set(zip(*(t.tolist() for t in (encoded.tokens, encoded.units)), strict=True))
    assert found == {(0, 4), (2, 9)}


@pytest.mark.parametrize("size", [1, 5, 32])
def test_ranges_of_units_make_the_whole(size, tiny_subject):
    source, hidden = Sparsified.of(neurons(tiny_subject), 6), hidden_of()
    whole = scattered(source.encode(hidden), 20, 32)
    for first in range(0, 32, size):
        part = source.encode(hidden, slice(first, first + size))
        assert torch.equal(
            scattered(part, 20, min(size, 32 - first)), whole[:, first : first + size]
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_sparsified_neurons_write_what_neurons_write(family, tiny_subject):
    raw = neurons(tiny_subject, family)
    sparse = Sparsified.of(raw, 4)
    assert (sparse.read_at, sparse.write_at) == (raw.read_at, raw.write_at)
    assert torch.equal(sparse.write_directions([3, 1]), raw.write_directions([3, 1]))
    assert unit_rows(sparse) == unit_rows(raw)
    assert len({raw.fingerprint(), sparse.fingerprint(), Sparsified.of(raw, 5).fingerprint()}) == 3


@pytest.mark.parametrize("l0", [0, 33])
def test_more_units_than_there_are_cannot_be_kept(l0, tiny_subject):
    with pytest.raises(AutointerpError, match=rf"sparsify\.l0 is {l0}, but there are 32"):
        Sparsified.of(neurons(tiny_subject), l0)
