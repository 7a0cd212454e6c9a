"""Simulators that ask a language model, and hold none: they are generators of requests.

As explainers and scorers do, they yield requests and are sent responses (`autointerp.llm.driver`).
So the cache, the limits, the ledger and the budget of a run see every one of them, and a prediction
that was paid for once is not asked for again.
"""

import json
import math
from collections.abc import Generator, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from autointerp.llm import LlmClient, Message, Request, Response, ResponseStatus
from autointerp.llm.capabilities import Needs, check_needs
from autointerp.records import AutointerpError, Simulation
from autointerp.simulators.base import Simulator

Steps = Generator[Sequence[Request], Sequence[Response], list[Simulation]]
"""Yields requests, is sent their responses, returns a simulation per sequence."""

_BATCH = 64
"""Requests that a local model is handed at once; it cuts batches to its memory itself."""


class AskedSimulator(Simulator):
    """Simulates by asking a language model; a subclass says what is asked, in `steps`."""

    needs: ClassVar[Needs] = Needs()
    """What the language model must be able to do."""

    def __init__(self, client: LlmClient) -> None:
        """Take the language model that is asked.

        Args:
            client: the model, mostly behind its cache (`CachedClient`).

        Raises:
            UsageError: where the model lacks what this simulator needs.
        """
        self.client = client
        self.unanswered: dict[int, str] = {}
        """Jobs of the last `simulate_many` some of whose requests got no answer at all, and why not
        of the last of them: what is missing there may be there another time."""
        check_needs(f"simulator {self.name!r}", self.needs, client)

    def steps(self, explanation: str, sequences: Sequence[Sequence[str]]) -> Steps:
        """The requests that predict `sequences` under `explanation`, and what comes of them."""
        raise NotImplementedError

    def typical_answer(self, request: Request, otherwise: str) -> str:
        """An answer of the usual length, for estimates; `otherwise` is made of the schema."""
        return otherwise

    def simulate(self, explanation: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        """Predict every token of every sequence under one explanation; see `Simulator`."""
        return self.simulate_many([(explanation, sequences)])[0]

    def simulate_many(
        self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
    ) -> list[list[Simulation]]:
        """Simulate several explanations, their requests side by side; see `Simulator`.

        Raises:
            AutointerpError: where the model cannot be reached or the budget is spent; what was
                answered before is kept.
        """
        from autointerp.llm import drive

        found: dict[int, list[Simulation]] = {}
        self.unanswered = {}

        def failed(_: int, error: AutointerpError) -> None:
            raise error

        drive(
            {place: self._watched(place, self.steps(*job)) for place, job in enumerate(jobs)},
            {Request: getattr(self.client, "handler", self.client.complete)},
            found.__setitem__,
            failed,
            batch_size=_BATCH,
        )
        return [found[place] for place in range(len(jobs))]

    def _watched(self, place: int, steps: Steps) -> Steps:
        """Pass everything through, and note which job got no answer."""
        answers: Sequence[Response] | None = None
        try:
            while True:
                requests = next(steps) if answers is None else steps.send(answers)
                answers = yield requests
                for answer in answers:
                    if answer.status is ResponseStatus.FAILED:
                        self.unanswered[place] = answer.reason
        except StopIteration as end:
            return end.value

    def count_tokens(self, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> int:
        """Characters of the first questions over four: what `jobs` will roughly cost to read."""
        total = 0
        for job in jobs:
            steps = self.steps(*job)
            for request in _first(steps):
                total += sum(len(message.content) for message in request.messages)
            steps.close()
        return total // 4


def _first(steps: Steps) -> Sequence[Request]:
    try:
        return next(steps)
    except StopIteration:
        return ()


def quoted(text: str) -> str:
    """A token or text as a JSON string: one line, whatever is in it."""
    # U+2028 and its like end a line for some readers.
    plain = json.dumps(text, ensure_ascii=False)
    return "".join(c if c == " " or c.isprintable() else json.dumps(c)[1:-1] for c in plain)


def conversation(instructions: str, turns: Iterable[tuple[str, str]], asked: str) -> dict[str, Any]:
    """`messages` of a request and how many of them all requests share.

    Args:
        instructions: of the system message.
        turns: the few-shot, questions with their answers.
        asked: the question.
    """
    messages = [Message("system", instructions)]
    for question, answer in turns:
        messages += [Message("user", question), Message("assistant", answer)]
    return {"messages": (*messages, Message("user", asked)), "shared": len(messages)}


def level_distribution(top: Sequence[tuple[str, float]], n_levels: int) -> tuple[float, float]:
    """Expected level and mass on levels of one place of an answer (Bills et al. 2023).

    E = sum_k k p_k / sum_k p_k and mass = sum_k p_k over the alternatives that are levels, with or
    without white space around the digits. What is not among the alternatives counts as no mass.

    Args:
        top: alternatives with their log-probabilities.
        n_levels: levels run from 0 to `n_levels` - 1.

    Returns:
        (E, mass); (0, 0) where no alternative is a level.
    """
    levels = {str(level): level for level in range(n_levels)}
    weights = [(levels[t.strip()], math.exp(p)) for t, p in top if t.strip() in levels]
    mass = sum(weight for _, weight in weights)
    if mass <= 0:
        return 0.0, 0.0
    return sum(level * weight for level, weight in weights) / mass, min(mass, 1.0)


class Readings:
    """A simulation being filled in, token by token; what is not filled in stays missing."""

    def __init__(self, n_tokens: int) -> None:
        """Nothing is known yet."""
        self._expected = np.zeros(n_tokens, np.float32)
        self._mass = np.zeros(n_tokens, np.float32)

    def set(self, place: int, expected: float, mass: float) -> None:
        """Note the expected level of one token and the mass it was read from."""
        self._expected[place], self._mass[place] = expected, mass

    def forget(self, place: int) -> None:
        """Take a token back: it is missing."""
        self.set(place, 0.0, 0.0)

    def simulation(self, mass_floor: float) -> Simulation:
        """What is known; tokens with less mass than the floor, or none, are missing."""
        known = (self._mass >= mass_floor) & (self._mass > 0)
        return Simulation(self._expected, known, self._mass)


def missing(n_tokens: int) -> Simulation:
    """A simulation that knows nothing."""
    return Readings(n_tokens).simulation(0.0)
