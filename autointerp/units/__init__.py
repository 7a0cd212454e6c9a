"""Unit sources: what has units, and how a hidden state becomes their activations."""

from autointerp.units.base import Dense, Sparse, UnitSource
from autointerp.units.neurons import Neurons
from autointerp.units.sae import SaeLatents, SparseAutoencoder, load_sae

__all__ = [
    "Dense",
    "Neurons",
    "SaeLatents",
    "Sparse",
    "SparseAutoencoder",
    "UnitSource",
    "load_sae",
]
