"""Goodfire: one `.pt` or `.pth` with two linear maps; the layer is in its name (`…-SAE-l19.pth`).

Also the DeepSeek-R1 dictionaries of qresearch, whose maps are called `encoder` and `decoder`.
weight [n_latents, d_in] and [d_in, n_latents]; ReLU; nothing is subtracted on the way in; they read
the residual stream after the layer.
"""

import re

import torch

from autointerp.units.sae.formats import places
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "a .pt or .pth file with encoder_linear and decoder_linear"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether a pickle holds the two maps."""
    names = {"encoder_linear.weight", "decoder_linear.weight"}
    return checkpoint.file.suffix in (".pt", ".pth") and names <= checkpoint.names


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    return read_two_maps(checkpoint, "encoder_linear", "decoder_linear")


def read_two_maps(checkpoint: Checkpoint, encoder: str, decoder: str) -> SparseAutoencoder:
    """A ReLU dictionary of two linear maps with these names."""
    n_latents, d_in = checkpoint.sizes(f"{encoder}.weight")
    layer = re.search(r"-l(\d{1,6})$", checkpoint.file.stem)
    hook = places.in_block(layer[1], "hook_resid_post") if layer else None
    return SparseAutoencoder(
        architecture="relu",
        W_enc=checkpoint.tensor(f"{encoder}.weight", n_latents, d_in).T.contiguous(),
        b_enc=checkpoint.tensor(f"{encoder}.bias", n_latents),
        b_pre=torch.zeros(d_in),
        W_dec=checkpoint.tensor(f"{decoder}.weight", d_in, n_latents).T.contiguous(),
        b_dec=checkpoint.tensor(f"{decoder}.bias", d_in),
        hook_in=hook,
        hook_out=hook,
    )
