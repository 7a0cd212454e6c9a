"""Simulation by generated values: a line a token, its level read from the log-probabilities.

For hosted models that give `top_logprobs` of what they say, though not of prompts. Each line of the
answer is a token's number, a tab and a digit; where the digit stands, the expected level is read
from the alternatives (as Bills et al. 2023 read it from the prompt). A prediction has seen the ones
before it, unlike all at once. Lines are found by number, never by the token's text.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from autointerp.llm import LlmClient, Request, Response
from autointerp.llm.base import TokenLogprobs
from autointerp.llm.capabilities import Needs
from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.asked import (
    AskedSimulator,
    Readings,
    Steps,
    conversation,
    level_distribution,
    missing,
    quoted,
)
from autointerp.simulators.base import within
from autointerp.simulators.chat_prompt import load_chat_prompt

DEFAULT_PROMPT = "simulate_generated"

MIN_LOGPROBS = 5
"""With fewer alternatives an expected level says little more than the digit itself."""

_VERSION = 1
"""Raise when the same answers give other predictions, or the same texts other questions."""

_TOKENS_PER_LINE = 7
"""Of an answer: up to four digits, a tab, a digit and a line break."""

_LINE = re.compile(r"^[ ]*(\d{1,5})[ ]*\t[ ]*(\d)[ ]*\r?$", re.MULTILINE)


class Generated(AskedSimulator):
    """Predicts levels 0 to 9, one digit so that every tokenizer has it as one token."""

    name = "generated"
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
        self._turns = [_turn(self.prompt.question, example) for example in self.prompt.examples]
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
        filled = [place for place, tokens in enumerate(sequences) if len(tokens)]
        answers = yield [self.request(explanation, sequences[place]) for place in filled]
        found = [missing(len(tokens)) for tokens in sequences]
        for place, answer in zip(filled, answers, strict=True):
            found[place] = read_answer(len(sequences[place]), answer, self.mass_floor)
        return found

    def typical_answer(self, request: Request, otherwise: str) -> str:
        """See `AskedSimulator`."""
        n_lines = request.messages[-1].content.count("\n") - 1
        return "\n".join(f"{number}\t0" for number in range(1, n_lines + 1))

    def request(self, explanation: str, tokens: Sequence[str]) -> Request:
        """The question about one text."""
        asked = self.prompt.question(explanation, [quoted(token) for token in tokens])
        return Request(
            **conversation(self.prompt.instructions, self._turns, asked),
            max_tokens=16 + _TOKENS_PER_LINE * len(tokens),
            purpose="simulate",
            top_logprobs=self.top_logprobs,
        )


def read_answer(n_tokens: int, answer: Response, mass_floor: float) -> Simulation:
    """The simulation in an answer about a text of `n_tokens`.

    A token whose line is not there, is there twice or has another form is missing. So is all of
    the text where a line names a token that is not there: its other numbers cannot be trusted.
    """
    if not answer.logprobs:
        return missing(n_tokens)
    text = "".join(token.token for token in answer.logprobs)
    # What max_tokens cut off may have gone on: the last line counts only where it was ended.
    whole = text if answer.status == "ok" else text[: text.rfind("\n") + 1]
    lines = {match.start(2): int(match[1]) for match in _LINE.finditer(whole)}
    times = Counter(lines.values())
    if any(not 1 <= number <= n_tokens for number in times):
        return missing(n_tokens)
    readings = Readings(n_tokens)
    for offset, token in _starts(answer.logprobs, text):
        number = lines.get(offset)
        if number is not None and times[number] == 1:
            readings.set(number - 1, *level_distribution(token.top, Generated.n_levels))
    return readings.simulation(mass_floor)


def _starts(logprobs: Sequence[TokenLogprobs], text: str) -> list[tuple[int, TokenLogprobs]]:
    """Where every token's first character that is not white space stands in the answer."""
    found: list[tuple[int, TokenLogprobs]] = []
    place = 0
    for token in logprobs:
        lead = len(token.token) - len(token.token.lstrip())
        found.append((place + lead, token))
        place += len(token.token)
    return found


def checked_top(top_logprobs: int, client: LlmClient) -> int:
    """How many alternatives to ask for; an `AutointerpError` where too few are wanted."""
    if top_logprobs < MIN_LOGPROBS:
        raise AutointerpError(
            f"top_logprobs must be at least {MIN_LOGPROBS}, not {top_logprobs}: an expected level "
            "is read from the alternatives"
        )
    return min(top_logprobs, client.capabilities.logprobs)


def _turn(question: Any, example: Any) -> tuple[str, str]:
    """One example of the few-shot: `explanation` and `tokens`, pairs of a token and its level."""
    pairs: list[tuple[str, int]] = example["tokens"]
    lines = [f"{number}\t{level}" for number, (_, level) in enumerate(pairs, 1)]
    return question(example["explanation"], [quoted(t) for t, _ in pairs]), "\n".join(lines)
