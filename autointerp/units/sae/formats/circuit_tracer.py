"""Transcoders of circuit-tracer: `layer_{n}.safetensors` and `config.yaml`.

W_enc [n_latents, d] is transposed, W_dec [n_latents, d] is not; ReLU; nothing is subtracted on the
way in. The config names the places within a block: `feature_input_hook`, `feature_output_hook`.
"""

import re
from typing import Any

import torch

from autointerp.units.sae.formats import places
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "config.yaml with feature_input_hook beside layer_{n}.safetensors"
CONFIG_FILE = "config.yaml"
SIZES_FILE = "wandb-config.yaml"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the file is called so, lies beside the config, and holds both matrices."""
    return (
        re.fullmatch(r"layer_\d{1,6}\.safetensors", checkpoint.file.name) is not None
        and checkpoint.has(CONFIG_FILE)
        and {"W_enc", "W_dec"} <= checkpoint.names
    )


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the transcoder."""
    config = checkpoint.config(CONFIG_FILE)
    n_latents, d_in = _sizes(checkpoint)
    d_out = checkpoint.shape("W_dec", 2)[1]
    layer = checkpoint.file.stem.removeprefix("layer_")
    hooks = [hook(checkpoint, config, layer, side) for side in ("input", "output")]
    has_skip = "W_skip" in checkpoint.names
    return SparseAutoencoder(
        architecture="relu",
        W_enc=checkpoint.tensor("W_enc", n_latents, d_in).T.contiguous(),
        b_enc=checkpoint.tensor("b_enc", n_latents),
        b_pre=torch.zeros(d_in),
        W_dec=checkpoint.tensor("W_dec", n_latents, d_out),
        b_dec=checkpoint.tensor("b_dec", d_out),
        W_skip=checkpoint.tensor("W_skip", d_out, d_in).T.contiguous() if has_skip else None,
        hook_in=hooks[0],
        hook_out=hooks[1],
        metadata={"model_name": checkpoint.text(CONFIG_FILE, config, "model_name")},
    )


def hook(checkpoint: Checkpoint, config: dict[str, Any], layer: str | int, side: str) -> str | None:
    """The config's place at one side of a layer; `None` where it does not say."""
    point = checkpoint.text(CONFIG_FILE, config, f"feature_{side}_hook")
    return places.in_block(layer, point) if point else None


def _sizes(checkpoint: Checkpoint) -> tuple[int, int]:
    """As the file beside it says; as W_enc has them where there is none."""
    if not checkpoint.has(SIZES_FILE):
        return checkpoint.sizes("W_enc")
    said = checkpoint.config(SIZES_FILE)
    sizes = {
        key: said[key].get("value") if isinstance(said.get(key), dict) else None
        for key in ("d_feature", "d_model")
    }
    n_latents, d_in = checkpoint.sizes_said(SIZES_FILE, sizes, "d_feature", "d_model")
    return n_latents, d_in
