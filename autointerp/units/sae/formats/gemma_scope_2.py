"""Gemma Scope 2 (Gemma 3): `…/params.safetensors` and `config.json`.

w_enc [d_in, n_latents], w_dec [n_latents, d_out], b_enc, b_dec, threshold [n_latents], and
affine_skip_connection [d_in, d_out] for a skip transcoder. b_dec is not subtracted on the way in.
The places are the ones of the config, by module; other libraries' translation of a transcoder's
input names a place before the norm instead of after it.
"""

from typing import Any

import torch

from autointerp.units.sae.formats import places
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "a .safetensors file with w_enc, w_dec and threshold"
CONFIG_FILE = "config.json"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the tensors have the small names of this format."""
    return (
        checkpoint.file.suffix == ".safetensors"
        and {"w_enc", "w_dec", "threshold"} <= checkpoint.names
    )


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    config: dict[str, Any] = checkpoint.config(CONFIG_FILE) if checkpoint.has(CONFIG_FILE) else {}
    architecture = config.get("architecture", "jump_relu")
    if architecture != "jump_relu":
        raise checkpoint.refuse(
            f"{CONFIG_FILE}: architecture {str(architecture)[:80]!r} is not jump_relu"
        )
    if checkpoint.n_dimensions("w_dec") == 3:
        raise checkpoint.refuse(
            "a cross-layer transcoder: its latents write at several places, and which they are is "
            "not in its files"
        )
    d_in, n_latents = checkpoint.sizes("w_enc")
    has_skip = "affine_skip_connection" in checkpoint.names
    if config.get("affine_connection", has_skip) != has_skip:
        raise checkpoint.refuse(
            f"{CONFIG_FILE} says affine_connection {str(config['affine_connection'])[:80]}, but "
            f"tensor affine_skip_connection is {'there' if has_skip else 'absent'}"
        )
    hook_in = places.of_gemma_module(checkpoint.text(CONFIG_FILE, config, "hf_hook_point_in"))
    hook_out = places.of_gemma_module(checkpoint.text(CONFIG_FILE, config, "hf_hook_point_out"))
    d_out = checkpoint.shape("w_dec", 2)[1]
    return SparseAutoencoder(
        architecture="jumprelu",
        W_enc=checkpoint.tensor("w_enc", d_in, n_latents),
        b_enc=checkpoint.tensor("b_enc", n_latents),
        b_pre=torch.zeros(d_in),
        W_dec=checkpoint.tensor("w_dec", n_latents, d_out),
        b_dec=checkpoint.tensor("b_dec", d_out),
        threshold=checkpoint.tensor("threshold", n_latents),
        W_skip=checkpoint.tensor("affine_skip_connection", d_in, d_out) if has_skip else None,
        hook_in=hook_in,
        hook_out=hook_out or hook_in,
        metadata={
            "model_name": checkpoint.text(CONFIG_FILE, config, "model_name"),
            "l0": config.get("l0"),
        },
    )
