"""Llama Scope: `hyperparams.json` and `checkpoints/final.safetensors`.

encoder.weight [n_latents, d], encoder.bias, decoder.weight [d, n_latents], decoder.bias and one
`jump_relu_threshold`. The weights are for s·x with s = sqrt(d) / mean norm of the training data,
which is folded: W_enc·s, W_dec/s, b_dec/s. Latents are therefore in the units of the normalised
input, as SAELens gives them, and so is the threshold, which the file has in units of x. The
R1-Distill release (`config.json`, `sae_weights.safetensors`) has one threshold a latent, stored as
its logarithm and in the units of the normalised input.
"""

from typing import Any

import torch
from torch import Tensor

from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.formats.folding import fold_input_scale, input_scale_of
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "hyperparams.json beside checkpoints/final.safetensors"
CONFIG_FILE = "hyperparams.json"
NORMS = "dataset_average_activation_norm"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the weights lie one folder below their config."""
    return (
        checkpoint.file.suffix == ".safetensors"
        and (checkpoint.folder.parent / CONFIG_FILE).is_file()
        and "encoder.weight" in checkpoint.names
    )


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    config = checkpoint.config(CONFIG_FILE, checkpoint.folder.parent)
    keys = ("d_model", "d_sae") if "d_sae" in config else ("d_model", "expansion_factor")
    d_in, n_latents = checkpoint.sizes_said(CONFIG_FILE, config, *keys)
    if "d_sae" not in config:
        n_latents *= d_in
    value = config.get("jump_relu_threshold")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise checkpoint.refuse(
            f"{CONFIG_FILE}: jump_relu_threshold is {str(value)[:80]!r}, not a number"
        )
    scale = input_scale(checkpoint, CONFIG_FILE, config, d_in)
    return read_linear(
        checkpoint, CONFIG_FILE, config, n_latents, scale, torch.tensor(float(value) * scale)
    )


def input_scale(
    checkpoint: Checkpoint, config_file: str, config: dict[str, Any], d_in: int
) -> float:
    """s = sqrt(d_in) / mean norm of the training data, as the config gives the norm."""
    if checkpoint.options.input_scale is not None:
        return input_scale_of(checkpoint.options.input_scale, "input_scale")
    normalisation = config.get("norm_activation", "dataset-wise")
    if normalisation in ("none", "inference"):
        return 1.0
    if normalisation != "dataset-wise":
        raise checkpoint.refuse(
            f"{config_file}: norm_activation {str(normalisation)[:80]!r} is not one of "
            "dataset-wise, inference, none"
        )
    norms: Any = config.get(NORMS)
    norm = norms.get("in") if isinstance(norms, dict) else None
    if norm is None:
        raise checkpoint.refuse(
            f"{config_file} does not say {NORMS}.in: give `input_scale`, which is sqrt(d_in) "
            "divided by the mean norm of the hidden states it was trained on"
        )
    return d_in**0.5 / input_scale_of(norm, f"{config_file}, {NORMS}.in")


def read_linear(
    checkpoint: Checkpoint,
    config_file: str,
    config: dict[str, Any],
    n_latents: int,
    scale: float,
    threshold: Tensor,
) -> SparseAutoencoder:
    """The dictionary of two linear maps; `threshold` is in units of the normalised input."""
    activation = config.get("act_fn", "jumprelu")
    if activation != "jumprelu":
        raise checkpoint.refuse(f"{config_file}: act_fn {str(activation)[:80]!r} is not jumprelu")
    d_in = config["d_model"]
    W_dec = checkpoint.tensor("decoder.weight", d_in, n_latents).T.contiguous()
    if config.get("sparsity_include_decoder_norm", False):
        # z·n > θ, where n is the norm of a latent's row: the same as z > θ / n.
        norms = W_dec.norm(dim=1)
        threshold = threshold / torch.where(norms > 0, norms, 1.0)
    hook_in = checkpoint.text(config_file, config, "hook_point_in")
    sae = SparseAutoencoder(
        architecture="jumprelu",
        W_enc=checkpoint.tensor("encoder.weight", n_latents, d_in).T.contiguous(),
        b_enc=checkpoint.tensor("encoder.bias", n_latents),
        b_pre=torch.zeros(d_in),
        W_dec=W_dec,
        b_dec=checkpoint.tensor("decoder.bias", d_in)
        if config.get("use_decoder_bias", True)
        else torch.zeros(d_in),
        threshold=threshold,
        hook_in=hook_in,
        hook_out=checkpoint.text(config_file, config, "hook_point_out") or hook_in,
        metadata={"input_scale": scale, "latents_are_in_units_of": "the normalised input"},
    )
    fold_input_scale(sae, scale)
    return sae
