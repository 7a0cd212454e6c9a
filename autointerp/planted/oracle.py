"""An oracle for recorded units of the planted model: it knows what their explanations mean.

What an explanation means is computed from the text's token ids by the model's equations, never
taken from what was recorded; so a wrong recording scores less than 1.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from autointerp.planted.model import PlantedModel, explanations_of_latents
from autointerp.records import AutointerpError, UnitRecord
from autointerp.simulators import Oracle
from autointerp.simulators.oracle import Rule


def oracle_for(
    planted: PlantedModel,
    records: Sequence[UnitRecord],
    sequences: Mapping[str, Sequence[int]],
) -> Oracle:
    """A simulator for the windows of recorded units of the planted dictionary.

    Args:
        planted: the model.
        records: units whose windows are to be simulated.
        sequences: sequence id → its token ids.
    """
    texts = explanations_of_latents()
    tables: dict[str, dict[tuple[str, ...], np.ndarray]] = defaultdict(dict)
    for window, tokens in {(w.window, w.tokens) for r in records for w in r.records}:
        values = planted.latents(sequences[window.sequence_id])[window.start : window.stop]
        for place, text in enumerate(texts):
            tables[text][tokens] = values[:, place]
    return Oracle({text: _rule(text, table) for text, table in tables.items()})


def _rule(text: str, table: Mapping[tuple[str, ...], np.ndarray]) -> Rule:
    def look_up(tokens: Sequence[str]) -> np.ndarray:
        found = table.get(tuple(tokens))
        if found is None:
            raise AutointerpError(f"the oracle was not told what {text!r} means on this text")
        return found

    return look_up
