"""What every simulator offers: predicted activations under an explanation."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from numbers import Real
from typing import Any, Protocol

from autointerp.records import AutointerpError, Simulation, refuse_text

Job = tuple[str, Sequence[Sequence[str]]]
"""An explanation and the sequences to read under it: per sequence its token texts."""


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

    def __init_subclass__(cls) -> None:
        """See to it that no simulator reads a string letter by letter: all are asked this way."""
        super().__init_subclass__()
        for name, checking in (("simulate", _checking_job), ("simulate_many", _checking_jobs)):
            if name in vars(cls):
                setattr(cls, name, checking(vars(cls)[name]))

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Predict every token of every sequence under one explanation.

        Args:
            explanation: what the unit is said to respond to.
            sequences: per sequence the token texts, [n_tokens] each.

        Returns:
            One simulation per sequence, its arrays as long as the sequence.

        Raises:
            AutointerpError: where the simulator cannot use the explanation, or a string stands for
                a list of tokens.
        """
        ...

    def simulate_many(self, jobs: Sequence[Job]) -> list[list[Simulation]]:
        """Simulate several explanations, each on its own sequences; batched where that helps.

        Args:
            jobs: pairs of an explanation and its sequences, as for `simulate`.

        Returns:
            Per job what `simulate` returns.
        """
        return [self.simulate(explanation, sequences) for explanation, sequences in jobs]


def within(value: float, name: str, lowest: float, highest: float) -> float:
    """A setting as it is; an `AutointerpError` where it is no number from `lowest` to `highest`."""
    if not isinstance(value, Real) or not lowest <= value <= highest:
        raise AutointerpError(
            f"{name} must lie between {lowest:g} and {highest:g}, not {value!r:.80}"
        )
    return value


def _checking_job(simulate: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(simulate)
    def checked(self: Any, explanation: str, sequences: Sequence[Sequence[str]]) -> Any:
        return simulate(self, *_readable(explanation, sequences))

    return checked


def _checking_jobs(simulate_many: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(simulate_many)
    def checked(self: Any, jobs: Sequence[Job]) -> Any:
        return simulate_many(self, [_readable(*job) for job in jobs])

    return checked


def _readable(explanation: str, sequences: Sequence[Sequence[str]]) -> Job:
    """A job as it is, but iterators as lists; jobs may share their sequences, so no copies."""
    if not isinstance(explanation, str):
        kind = type(explanation).__name__
        raise AutointerpError(f"an explanation must be a string, not {kind}: give its text")
    wanted = "texts as a list, each a list of its tokens, such as [['We', ' fed'], ['It', ' ran']]"
    refuse_text(sequences, wanted)
    texts = sequences if isinstance(sequences, Sequence) else list(sequences)
    for text in texts:
        refuse_text(text, wanted)
    if all(isinstance(text, Sequence) for text in texts):
        return explanation, texts
    return explanation, [list(text) for text in texts]
