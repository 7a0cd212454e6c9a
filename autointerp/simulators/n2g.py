"""The patterns of N2G as a simulator (Foote et al. 2023, "Neuron to Graph")."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.base import Simulator
from autointerp.simulators.token_lookup import certain

ANY = None
"""In a pattern: any token."""

Pattern = tuple[str | None, ...]
"""Tokens from the left, the last of which is the one that activates; `None` is any token."""

MAX_PATTERNS = 10_000
MAX_LENGTH = 1_000


@dataclass
class _Node:
    """A place in the trie, whose path is a pattern's end read backwards."""

    children: "dict[str | None, _Node]"
    activation: float | None = None


class Trie:
    """Patterns by their last token, then the token before it, and so on; `None` is any token.

    A token's prediction is that of the longest pattern that ends at it; among equally long ones the
    one with the fewest wildcards, then the larger.
    """

    def __init__(self, patterns: Sequence[tuple[Pattern, float]]) -> None:
        """Build it from patterns with their activations."""
        self.root = _Node({})
        for pattern, activation in patterns:
            node = self.root
            for token in reversed(pattern):
                node = node.children.setdefault(token, _Node({}))
            node.activation = max(activation, node.activation or 0.0)

    def predict(self, tokens: Sequence[str], default: float = 0.0) -> np.ndarray:
        """[n_tokens] activations."""
        found = [self._at(tokens, place) for place in range(len(tokens))]
        values = [default if activation is None else activation for activation in found]
        return np.array(values, np.float32)

    def _at(self, tokens: Sequence[str], place: int) -> float | None:
        best: tuple[int, int, float] | None = None
        nodes = [(self.root, 0)]
        for depth in range(1, place + 2):
            token = tokens[place + 1 - depth]
            nodes = [
                (child, n_exact + exact)
                for node, n_exact in nodes
                for child, exact in (
                    (node.children.get(token), 1),
                    (node.children.get(ANY), 0),
                )
                if child is not None
            ]
            if not nodes:
                break
            for node, n_exact in nodes:
                if node.activation is not None:
                    best = max(best or (0, 0, 0.0), (depth, n_exact, node.activation))
        return None if best is None else best[2]


class N2G(Simulator):
    """Predicts every token by the patterns that end at it.

    The explanation is the patterns themselves, as JSON: `{"patterns": [{"tokens": [" of", null,
    " sea"], "activation": 8.5}], "default": 0.0}`; `null` is any token.
    """

    name = "n2g"
    n_levels = 11

    def __init__(self) -> None:
        """Patterns have no settings: everything is in the explanation."""
        self.fingerprint = content_key("simulator", name=self.name, version=1)

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Match every token; always known, level mass 1. See `Simulator`.

        Raises:
            AutointerpError: where the explanation holds no patterns.
        """
        patterns, default = parse_patterns(explanation)
        trie = Trie(patterns)
        return [certain(trie.predict(tokens, default)) for tokens in sequences]


def parse_patterns(explanation: str) -> tuple[list[tuple[Pattern, float]], float]:
    """Patterns with their activations, and what is predicted elsewhere.

    Raises:
        AutointerpError: where the text is of another form.
    """
    try:
        table = json.loads(explanation)
        entries = table["patterns"]
        if not isinstance(entries, list) or len(entries) > MAX_PATTERNS:
            raise ValueError(f"expected a list of at most {MAX_PATTERNS} patterns")
        patterns = [(_pattern(e["tokens"]), _activation(e["activation"])) for e in entries]
        return patterns, _activation(table["default"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        shown = explanation if len(explanation) <= 80 else explanation[:80] + "…"
        raise AutointerpError(
            f"{shown!r} holds no patterns ({error}): expected JSON such as "
            '{"patterns": [{"tokens": [" of", null, " sea"], "activation": 8.5}], "default": 0.0}; '
            "explanations in words need another simulator"
        ) from error


def _pattern(tokens: object) -> Pattern:
    if not isinstance(tokens, list) or not 0 < len(tokens) <= MAX_LENGTH:
        raise ValueError("a pattern is a list of tokens")
    if not all(token is None or isinstance(token, str) for token in tokens) or tokens[-1] is None:
        raise ValueError("a pattern's tokens are texts or null, its last one a text")
    return tuple(tokens)


def _activation(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
