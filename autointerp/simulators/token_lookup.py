"""The token look-up table: each token predicts its own mean activation (Bills et al. 2023)."""

import json
import math
from collections.abc import Sequence

import numpy as np

from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.base import Simulator


class TokenLookup(Simulator):
    """Predicts s_t = mean[token_t], or `default` for tokens that the table does not hold.

    The explanation is the table itself, as JSON: `{"token_means": {" the": 3.2}, "default": 0.1}`.
    """

    name = "token_lookup"
    n_levels = 11

    def __init__(self) -> None:
        """A table has no settings: everything is in the explanation."""
        self.fingerprint = content_key("simulator", name=self.name)

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Look every token up; always known, level mass 1. See `Simulator`.

        Raises:
            AutointerpError: where the explanation is not such a table.
        """
        means, default = _parse(explanation)
        return [certain([means.get(token, default) for token in tokens]) for tokens in sequences]


def certain(expected: Sequence[float] | np.ndarray) -> Simulation:
    """A simulation [n_tokens] that is known everywhere, with level mass 1."""
    values = np.asarray(expected, dtype=np.float32)
    return Simulation(values, np.ones(values.shape, bool), np.ones(values.shape, np.float32))


def _parse(explanation: str) -> tuple[dict[str, float], float]:
    try:
        table = json.loads(explanation)
        means = {str(token): _finite(mean) for token, mean in table["token_means"].items()}
        return means, _finite(table["default"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        shown = explanation if len(explanation) <= 80 else explanation[:80] + "…"
        raise AutointerpError(
            f"{shown!r} is not a token look-up table ({error}): expected JSON such as "
            '{"token_means": {" the": 3.2}, "default": 0.1}; explanations in words need another '
            "simulator"
        ) from error


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
