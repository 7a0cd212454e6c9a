"""What every simulator offers: predicted activations under an explanation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from autointerp.records import Simulation


@dataclass(frozen=True)
class SimulationRequest:
    """What a scorer asks of a simulator: one explanation, and the texts to read under it."""

    explanation: str
    sequences: tuple[tuple[str, ...], ...]
    """Per sequence the token texts, [n_tokens] each."""


class IncompleteSimulations(list[Simulation]):
    """Simulations some of whose requests failed: what is missing may be there another time."""

    def __init__(self, found: Iterable[Simulation], reason: str) -> None:
        """Take what there is.

        Args:
            found: a simulation per sequence; those without an answer know nothing.
            reason: why a request failed, in a sentence.
        """
        super().__init__(found)
        self.reason = reason


class Simulator(Protocol):
    """Predicts how strongly a unit responds to every token, knowing only an explanation.

    Subclasses implement `simulate`; those that gain from batching override `simulate_many` too.
    """

    name: str
    """How it is called in configs and scores: `all_at_once`, `token_lookup`, …"""

    n_levels: int
    """Predictions on the level scale run from 0 to `n_levels` - 1."""

    fingerprint: str
    """Hash of everything a prediction depends on besides its inputs: model, prompt, settings."""

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Predict every token of every sequence under one explanation.

        Args:
            explanation: what the unit is said to respond to.
            sequences: per sequence the token texts, [n_tokens] each.

        Returns:
            One simulation per sequence, its arrays as long as the sequence.

        Raises:
            AutointerpError: where the simulator cannot use the explanation.
        """
        ...

    def simulate_many(
        self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> list[list[Simulation]]:
        """Simulate several explanations, each on its own sequences; batched where that helps.

        Args:
            jobs: pairs of an explanation and its sequences, as for `simulate`.

        Returns:
            Per job what `simulate` returns.
        """
        return [self.simulate(explanation, sequences) for explanation, sequences in jobs]
