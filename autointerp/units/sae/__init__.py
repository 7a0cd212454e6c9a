"""Sparse autoencoders: one module, one reader per checkpoint format."""

from autointerp.units.sae.latents import SaeLatents
from autointerp.units.sae.load import load_sae
from autointerp.units.sae.model import SparseAutoencoder

__all__ = ["SaeLatents", "SparseAutoencoder", "load_sae"]
