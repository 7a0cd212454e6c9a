"""Latents as a list of the active ones are the latents of the dictionary itself."""

import pytest
import torch

from autointerp.units import Dense, SaeLatents, SparseAutoencoder


def dictionary(architecture: str, threshold: torch.Tensor) -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(16, 64, generator=generator)
    zero = torch.zeros(16)
    return SparseAutoencoder(
        architecture,
        W / 4,
        torch.full((64,), -1.5 if architecture == "relu" else 0.0),
        zero,
        W.T.contiguous(),
        zero,
        k=4 if architecture in ("groupmax", "topk") else None,
        threshold=threshold if architecture == "jumprelu" else None,
        gate=(torch.full((64,), -2.0), torch.zeros(64), torch.zeros(64))
        if architecture == "gated"
        else None,
    )


@pytest.mark.parametrize("architecture", ["jumprelu", "relu", "gated", "groupmax", "topk"])
@pytest.mark.parametrize("units", [None, slice(8, 40)])
@pytest.mark.parametrize(
    "threshold", [torch.tensor(1.5), torch.full((64,), 1.7), torch.full((64,), -1.0)]
)
def test_active_latents_are_those_of_encode(architecture, units, threshold):
    """More tokens than go at a time, so that a mask is used again; one chunk is not full."""
    sae = dictionary(architecture, threshold)
    x = torch.randn(1300, 16, generator=torch.Generator().manual_seed(1))
    expected = sae.encode(x)[:, units or slice(None)]
    found = SaeLatents("latents", "subject", "place", sae).encode(x, units)
    if isinstance(found, Dense):
        values = found.values
    else:
        assert len(set(zip(found.tokens.tolist(), found.units.tolist(), strict=True))) == len(
            found.values
        )
        places = (found.tokens, found.units)
        values = torch.zeros_like(expected).index_put(places, found.values)
    assert torch.allclose(values, expected, atol=1e-6)
    assert ((values != 0) == (expected != 0)).all()
