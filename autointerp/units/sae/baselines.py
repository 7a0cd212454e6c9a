"""What a dictionary has to beat: principal components, and a decoder of random directions."""

import torch
from torch import Tensor

from autointerp.records import AutointerpError, derived_seed
from autointerp.units.sae.model import SparseAutoencoder

BASELINES = ("pca", "random")


def pca_dictionary(x: Tensor, k: int) -> SparseAutoencoder:
    """The best reconstruction by k fixed directions, as a dictionary of 2 k latents.

    Each principal component is two latents, one for each sign, of which one is active: L0 is k.

    Args:
        x: [n_tokens, d] to fit.
        k: components.

    Raises:
        AutointerpError: where there are not more tokens than components.
    """
    if len(x) <= k or k > x.shape[1]:
        raise AutointerpError(f"{k} principal components of {len(x)} tokens of width {x.shape[1]}")
    x = x.double()
    mean = x.mean(0)
    centred = x - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    top = vectors[:, -k:].T.float()
    both = torch.cat([top, -top])
    zeros = torch.zeros(2 * k)
    return SparseAutoencoder(
        "relu", both.T.contiguous(), zeros, mean.float(), both, mean.float(), metadata={"pca": k}
    )


def random_dictionary(x: Tensor, n_latents: int, k: int, seed: int = 0) -> SparseAutoencoder:
    """TopK over random unit directions, the encoder their transpose, its scale fitted to x.

    Args:
        x: [n_tokens, d] to which the mean and one scale of all decoder rows are fitted.
        n_latents: directions.
        k: latents per token.
        seed: of the directions.
    """
    # Not the seed itself: a dictionary trained with it started at those very directions.
    generator = torch.Generator().manual_seed(derived_seed(seed, "random_dictionary"))
    rows = torch.randn(n_latents, x.shape[1], generator=generator)
    rows = rows / rows.norm(dim=1, keepdim=True)
    mean = x.mean(0)
    sae = SparseAutoencoder(
        "topk", rows.T.contiguous(), torch.zeros(n_latents), mean, rows, torch.zeros_like(mean), k=k
    )
    found = sae.decode(sae.encode(x))
    scale = ((x - mean) * found).sum() / found.pow(2).sum().clamp_min(1e-12)
    sae.W_dec, sae.b_dec = rows * scale, mean
    return sae
