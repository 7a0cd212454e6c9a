"""Unit sources: what has units, and how a hidden state becomes their activations."""

from autointerp.units.attention_heads import AttentionHeads
from autointerp.units.base import Dense, Sparse, UnitSource
from autointerp.units.direction_files import read_directions
from autointerp.units.directions import Directions, DirectionSet, random_directions
from autointerp.units.interventions import Intervention
from autointerp.units.neurons import Neurons
from autointerp.units.sae import SaeLatents, SparseAutoencoder, load_sae
from autointerp.units.sparsified import Sparsified

__all__ = [
    "AttentionHeads",
    "Dense",
    "DirectionSet",
    "Directions",
    "Intervention",
    "Neurons",
    "SaeLatents",
    "Sparse",
    "SparseAutoencoder",
    "Sparsified",
    "UnitSource",
    "load_sae",
    "random_directions",
    "read_directions",
]
