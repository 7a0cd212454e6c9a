"""A small model with planted units: what every unit does is computed, not measured.

`autointerp plant FOLDER` writes it with a dictionary, texts, explanations and a config. In Python:

    planted = build()                        # subject, directions, dictionary
    planted.activations(token_ids)           # [n_tokens, n_units], in closed form
    planted.logits(residual)                 # what the model makes of a residual stream

Everything that touches a model can be checked against it: hooks, recording, encoding, steering,
ablation, and whether explanations of known units score.
"""

from autointerp.planted.folder import write_folder
from autointerp.planted.model import PLACE, PlantedModel, build
from autointerp.planted.oracle import oracle_for
from autointerp.planted.units import UNITS, PlantedUnit
from autointerp.planted.words import planted_texts, word_tokenizer

__all__ = [
    "PLACE",
    "UNITS",
    "PlantedModel",
    "PlantedUnit",
    "build",
    "oracle_for",
    "planted_texts",
    "word_tokenizer",
    "write_folder",
]
