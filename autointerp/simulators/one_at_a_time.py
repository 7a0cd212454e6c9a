"""Simulation one token at a time (Bills et al. 2023): the slow way that audits the fast ones.

Every token is a question of its own, which shows the text up to it, as the subject sees it; the
level is read from the alternatives for the answer's first token. No prediction sees another, and
no token sees what comes after it. It costs as many calls as there are tokens.
"""

from collections.abc import Sequence

from autointerp.llm import LlmClient, Request, Response
from autointerp.llm.capabilities import Needs
from autointerp.records import content_key
from autointerp.simulators.asked import (
    AskedSimulator,
    Readings,
    Steps,
    conversation,
    level_distribution,
    quoted,
)
from autointerp.simulators.base import within
from autointerp.simulators.chat_prompt import load_chat_prompt
from autointerp.simulators.generated import MIN_LOGPROBS, checked_top

DEFAULT_PROMPT = "simulate_one_token"

_VERSION = 1
"""Raise when the same answers give other predictions, or the same texts other questions."""


class OneAtATime(AskedSimulator):
    """Predicts levels 0 to 9, one digit so that every tokenizer has it as one token."""

    name = "one_at_a_time"
    n_levels = 10
    needs = Needs(logprobs=MIN_LOGPROBS)

    def __init__(
        self,
        client: LlmClient,
        *,
        prompt: str = DEFAULT_PROMPT,
        mass_floor: float = 0.01,
        top_logprobs: int = 20,
    ) -> None:
        """Prepare a simulator.

        Args:
            client: the language model that is asked.
            prompt: name of a template in `prompts/`, or path of a `.j2` file.
            mass_floor: below this probability on levels a token's prediction is not `known`.
            top_logprobs: alternatives read at every token; fewer where the model gives fewer.

        Raises:
            UsageError: where the model gives fewer than `MIN_LOGPROBS` alternatives.
            AutointerpError: where the prompt or a setting cannot be used.
        """
        super().__init__(client)
        self.mass_floor = within(mass_floor, "mass_floor", 0, 1)
        self.top_logprobs = checked_top(top_logprobs, client)
        self.prompt = load_chat_prompt(prompt)
        self._turns = [
            (
                self.prompt.question(e["explanation"], quoted(e["text"]), quoted(e["token"])),
                str(e["level"]),
            )
            for e in self.prompt.examples
        ]
        self.fingerprint = content_key(
            "simulator",
            name=self.name,
            version=_VERSION,
            llm=client.fingerprint,
            prompt=self.prompt.digest,
            mass_floor=mass_floor,
            top_logprobs=self.top_logprobs,
        )

    def steps(self, explanation: str, sequences: Sequence[Sequence[str]]) -> Steps:
        """See `AskedSimulator`."""
        places = [(s, t) for s, tokens in enumerate(sequences) for t in range(len(tokens))]
        answers = yield [self.request(explanation, sequences[s], t) for s, t in places]
        readings = [Readings(len(tokens)) for tokens in sequences]
        for (sequence, token), answer in zip(places, answers, strict=True):
            readings[sequence].set(token, *self._level(answer))
        return [reading.simulation(self.mass_floor) for reading in readings]

    def typical_answer(self, request: Request, otherwise: str) -> str:
        """See `AskedSimulator`."""
        return "0"

    def request(self, explanation: str, tokens: Sequence[str], place: int) -> Request:
        """The question about one token of a text."""
        asked = self.prompt.question(
            explanation, quoted("".join(tokens[: place + 1])), quoted(tokens[place])
        )
        return Request(
            **conversation(self.prompt.instructions, self._turns, asked),
            max_tokens=1,
            purpose="simulate",
            top_logprobs=self.top_logprobs,
        )

    def _level(self, answer: Response) -> tuple[float, float]:
        """Expected level and mass, whatever would have come next; no mass without an answer."""
        if not answer.logprobs:
            return 0.0, 0.0
        return level_distribution(answer.logprobs[0].top, self.n_levels)
