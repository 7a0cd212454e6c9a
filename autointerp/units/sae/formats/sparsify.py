"""sparsify layout: `{hookpoint}/cfg.json` and `{hookpoint}/sae.safetensors`.

encoder.weight [n_latents, d_in] is transposed, W_dec [n_latents, d_in] is not; W_skip is
[d_out, d_in]. `num_latents: 0` stands for d_in · expansion_factor. b_dec is subtracted on the way
in, whatever `normalize_decoder` says, unless it is a transcoder.
"""

from typing import Any

import torch

from autointerp.units.sae.formats import places
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "cfg.json beside sae.safetensors"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the two files lie side by side."""
    return checkpoint.file.name == WEIGHTS_FILE and checkpoint.has(CONFIG_FILE)


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    config = checkpoint.config(CONFIG_FILE)
    if config.get("num_latents", 0) == 0:
        d_in, factor = checkpoint.sizes_said(CONFIG_FILE, config, "d_in", "expansion_factor")
        n_latents = d_in * factor
    else:
        d_in, n_latents = checkpoint.sizes_said(CONFIG_FILE, config, "d_in", "num_latents")
    activation = config.get("activation", "topk")
    if activation not in ("topk", "groupmax"):
        raise checkpoint.refuse(
            f"{CONFIG_FILE}: activation {str(activation)[:80]!r} is not one of topk, groupmax"
        )
    k = checkpoint.count(CONFIG_FILE, config, "k", n_latents)
    if activation == "groupmax" and n_latents % k:
        raise checkpoint.refuse(f"{n_latents} latents are not {k} groups of one size")
    is_transcoder = bool(config.get("transcode", False))
    b_dec = checkpoint.tensor("b_dec", d_in)
    model = _model(checkpoint)
    hookpoint = checkpoint.folder.name
    hook_out = places.of_submodule(hookpoint, model)
    return SparseAutoencoder(
        architecture=activation,
        W_enc=checkpoint.tensor("encoder.weight", n_latents, d_in).T.contiguous(),
        b_enc=checkpoint.tensor("encoder.bias", n_latents),
        b_pre=torch.zeros(d_in) if is_transcoder else b_dec.clone(),
        # A dictionary that was saved without its decoder still has latents.
        W_dec=checkpoint.tensor("W_dec", n_latents, d_in)
        if "W_dec" in checkpoint.names
        else torch.zeros(0, d_in),
        b_dec=b_dec,
        k=k,
        W_skip=checkpoint.tensor("W_skip", d_in, d_in).T.contiguous()
        if config.get("skip_connection", False)
        else None,
        hook_in=places.of_submodule(hookpoint, model, "input") if is_transcoder else hook_out,
        hook_out=hook_out,
        metadata={"model_name": model, "hookpoint": hookpoint},
    )


def _model(checkpoint: Checkpoint) -> str | None:
    """The model's name in the run's config, one folder up, if there is one."""
    folder = checkpoint.folder.parent
    if not (folder / "config.json").is_file():
        return None
    config: dict[str, Any] = checkpoint.config("config.json", folder)
    name = config.get("model")
    return name if isinstance(name, str) else None
