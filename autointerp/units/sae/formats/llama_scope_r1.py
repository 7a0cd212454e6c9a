"""Llama Scope R1-Distill: `config.json` and `sae_weights.safetensors`; see `llama_scope`."""

from autointerp.units.sae.formats import llama_scope
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "config.json beside a .safetensors file with log_jumprelu_threshold"
CONFIG_FILE = "config.json"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the file holds the logarithm that only this release stores."""
    return "log_jumprelu_threshold" in checkpoint.names


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    config = checkpoint.config(CONFIG_FILE)
    d_in, factor = checkpoint.sizes_said(CONFIG_FILE, config, "d_model", "expansion_factor")
    logarithm = checkpoint.tensor("log_jumprelu_threshold", d_in * factor)
    threshold = checkpoint.finite("exp(log_jumprelu_threshold)", logarithm.exp())
    scale = llama_scope.input_scale(checkpoint, CONFIG_FILE, config, d_in)
    return llama_scope.read_linear(checkpoint, CONFIG_FILE, config, d_in * factor, scale, threshold)
