"""Gemma Scope (Gemma 2): `layer_20/width_16k/average_l0_71/params.npz`.

W_enc [d_in, n_latents], W_dec [n_latents, d_in], b_enc, b_dec, threshold [n_latents]; `w_enc` and
`w_dec` in some folders. b_dec is not subtracted on the way in. Where the path holds the
repository's name, that says the place: `-res`, `-mlp`, `-att`, `-transcoders`. Dictionaries of
embeddings were trained on embeddings that were not yet multiplied by sqrt(d_in), as the model does.
"""

import re

import torch

from autointerp.units.sae.formats import places
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "a .npz file with W_enc, W_dec and threshold"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether it is a NumPy archive with the tensors of a JumpReLU dictionary."""
    names = {name.lower() for name in checkpoint.names}
    return checkpoint.file.suffix == ".npz" and {"w_enc", "w_dec", "threshold"} <= names


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    W_enc, W_dec = (
        upper if (upper := f"W_{part}") in checkpoint.names else f"w_{part}"
        for part in ("enc", "dec")
    )
    d_in, n_latents = checkpoint.sizes(W_enc)
    hook_in, hook_out = _hooks(checkpoint.words)
    sae = SparseAutoencoder(
        architecture="jumprelu",
        W_enc=checkpoint.tensor(W_enc, d_in, n_latents),
        b_enc=checkpoint.tensor("b_enc", n_latents),
        b_pre=torch.zeros(d_in),
        W_dec=checkpoint.tensor(W_dec, n_latents, d_in),
        b_dec=checkpoint.tensor("b_dec", d_in),
        threshold=checkpoint.tensor("threshold", n_latents),
        hook_in=hook_in,
        hook_out=hook_out,
        metadata=_said_l0(checkpoint.words),
    )
    if "embedding" in checkpoint.words:
        sae.W_enc, sae.W_dec = sae.W_enc / d_in**0.5, sae.W_dec * d_in**0.5
    return sae


def _said_l0(words: tuple[str, ...]) -> dict[str, float]:
    """Active latents per token by the folder's name."""
    said = (re.fullmatch(r"average_l0_(\d{1,6})", word) for word in reversed(words))
    return next(({"average_l0": float(match[1])} for match in said if match), {})


def _hooks(words: tuple[str, ...]) -> tuple[str | None, str | None]:
    layers = (re.fullmatch(r"layer_(\d{1,6})", word) for word in reversed(words))
    layer = next((match[1] for match in layers if match), None)
    repositories = (re.fullmatch(r"gemma-scope-.*-(\w+)", word) for word in reversed(words))
    site = next((match[1] for match in repositories if match), None)
    if layer is None:
        embedding = "hook_embed" if "embedding" in words else None
        return embedding, embedding
    if site == "transcoders":
        return places.in_block(layer, "ln2.hook_normalized"), places.in_block(layer, "hook_mlp_out")
    points = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
    hook = places.in_block(layer, points[site]) if site in points else None
    return hook, hook
