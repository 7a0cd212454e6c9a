"""Attention dictionaries of Kissane and Krzyzanowski: `{name}.pt` and `{name}_cfg.json`.

W_enc [act_size, dict_size], W_dec [dict_size, act_size], b_enc, b_dec; ReLU; b_dec is subtracted on
the way in. They read `hook_z` with its heads side by side, [n_tokens, n_heads * d_head].
"""

from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "{name}_cfg.json with act_size beside {name}.pt"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether a config of the same name lies beside the pickle."""
    return checkpoint.file.suffix == ".pt" and checkpoint.has(_config_file(checkpoint))


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    config_file = _config_file(checkpoint)
    config = checkpoint.config(config_file)
    d_in, n_latents = checkpoint.sizes_said(config_file, config, "act_size", "dict_size")
    b_dec = checkpoint.tensor("b_dec", d_in)
    hook = checkpoint.text(config_file, config, "act_name")
    return SparseAutoencoder(
        architecture="relu",
        W_enc=checkpoint.tensor("W_enc", d_in, n_latents),
        b_enc=checkpoint.tensor("b_enc", n_latents),
        b_pre=b_dec.clone(),
        W_dec=checkpoint.tensor("W_dec", n_latents, d_in),
        b_dec=b_dec,
        hook_in=hook,
        hook_out=hook,
    )


def _config_file(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.file.stem}_cfg.json"
