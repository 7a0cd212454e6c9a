"""Dictionaries that learned nothing: what they score, no dictionary earns by its training.

Heap et al. 2025 ("Sparse autoencoders can interpret randomly initialized transformers") and later
sanity checks find that random dictionaries score close to trained ones. So a comparison with them
belongs beside every claim about a dictionary.
"""

from dataclasses import replace

import torch

from autointerp.records import AutointerpError, derived_seed
from autointerp.units.sae.model import SparseAutoencoder


def control_dictionary(sae: SparseAutoencoder, kind: str, seed: int) -> SparseAutoencoder:
    """A dictionary of the same shape, norms, biases and activation function, that learned nothing.

    `random_decoder`: every latent has a direction u drawn uniformly from the sphere; it reads
    |W_enc[:, i]| u and writes |W_dec[i]| u. `permuted_decoder`: one random exchange of channels is
    applied to encoder and decoder alike: all cosines among latents stay, their relation to the
    subject's channels is lost. The mean that is subtracted first (`b_pre`) stays in both.

    Args:
        sae: a trained dictionary; left as it is.
        kind: `random_decoder` or `permuted_decoder`.
        seed: of the draw.

    Raises:
        AutointerpError: where it reads one place and writes another of another width.
    """
    if sae.has_decoder and sae.d_in != sae.d_out:
        raise AutointerpError(
            f"control {kind!r} is for dictionaries that read as many channels as they write, not "
            f"{sae.d_in} and {sae.d_out}"
        )
    # Not the seed itself: a dictionary trained with it started at those very directions.
    generator = torch.Generator().manual_seed(derived_seed(seed, "control", kind))
    metadata = {**sae.metadata, "control": kind, "control_seed": seed}
    if kind == "permuted_decoder":
        order = torch.randperm(sae.d_in, generator=generator)
        decoder = sae.W_dec[:, order] if sae.has_decoder else sae.W_dec
        return replace(
            sae, W_enc=sae.W_enc[order].contiguous(), W_dec=decoder.contiguous(), metadata=metadata
        )
    if kind != "random_decoder":
        raise AutointerpError(f"there is no control {kind!r}: random_decoder or permuted_decoder")
    drawn = torch.randn(sae.n_latents, sae.d_in, generator=generator)
    directions = drawn / drawn.norm(dim=1, keepdim=True)
    decoder = sae.W_dec
    if sae.has_decoder:
        decoder = directions * sae.W_dec.norm(dim=1, keepdim=True)
    encoder = (directions * sae.W_enc.norm(dim=0)[:, None]).T.contiguous()
    return replace(sae, W_enc=encoder, W_dec=decoder, metadata=metadata)
