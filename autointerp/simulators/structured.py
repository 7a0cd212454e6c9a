"""Simulation by a structured answer: the tokens that respond, by number, in several texts a call.

For models without log-probabilities. A token is named by its number, never by its text, so nothing
in a text can shift a level; what is not named has level 0. An answer that names a token that is not
there, or one twice, is not trusted for that text: its tokens are missing.
"""

import json
from collections.abc import Sequence
from typing import Any

from autointerp.llm import LlmClient, Request, Response, ResponseStatus
from autointerp.llm.capabilities import Needs
from autointerp.llm.schemas import MalformedAnswerError, parse_answer
from autointerp.records import AutointerpError, Simulation, content_key
from autointerp.simulators.asked import (
    AskedSimulator,
    Readings,
    Steps,
    conversation,
    missing,
    quoted,
)
from autointerp.simulators.chat_prompt import load_chat_prompt

DEFAULT_PROMPT = "simulate_by_index"

_VERSION = 1
"""Raise when the same answers give other predictions, or the same texts other questions."""

_TOKENS_PER_ENTRY = 14
"""Of an answer: `{"token": 12, "level": 7}, ` in the tokenizers that cut it the finest."""


class Structured(AskedSimulator):
    """Predicts levels 0 to 10 by naming the tokens that respond."""

    name = "structured"
    n_levels = 11
    needs = Needs(json_schema=True)

    def __init__(
        self, client: LlmClient, *, prompt: str = DEFAULT_PROMPT, sequences_per_call: int = 4
    ) -> None:
        """Prepare a simulator.

        Args:
            client: the language model that is asked.
            prompt: name of a template in `prompts/`, or path of a `.j2` file.
            sequences_per_call: texts in one question, all under one explanation.

        Raises:
            UsageError: where the model's answers cannot be made to follow a schema.
            AutointerpError: where the prompt or a setting cannot be used.
        """
        super().__init__(client)
        if sequences_per_call < 1:
            raise AutointerpError(f"sequences_per_call must be positive, not {sequences_per_call}")
        self.prompt = load_chat_prompt(prompt)
        self.sequences_per_call = sequences_per_call
        self._turns = [_turn(self.prompt.question, example) for example in self.prompt.examples]
        self.fingerprint = content_key(
            "simulator",
            name=self.name,
            version=_VERSION,
            llm=client.fingerprint,
            prompt=self.prompt.digest,
            sequences_per_call=sequences_per_call,
        )

    def steps(self, explanation: str, sequences: Sequence[Sequence[str]]) -> Steps:
        """See `AskedSimulator`."""
        filled = [place for place, tokens in enumerate(sequences) if len(tokens)]
        n = self.sequences_per_call
        groups = [filled[start : start + n] for start in range(0, len(filled), n)]
        shown = [[sequences[place] for place in group] for group in groups]
        answers = yield [self.request(explanation, texts) for texts in shown]
        found = [missing(len(tokens)) for tokens in sequences]
        for group, texts, answer in zip(groups, shown, answers, strict=True):
            for place, simulation in zip(group, read_answer(texts, answer), strict=True):
                found[place] = simulation
        return found

    def request(self, explanation: str, texts: Sequence[Sequence[str]]) -> Request:
        """The question about some texts."""
        tokens = [[quoted(token) for token in text] for text in texts]
        n_tokens = sum(map(len, texts))
        return Request(
            **conversation(
                self.prompt.instructions, self._turns, self.prompt.question(explanation, tokens)
            ),
            max_tokens=32 + 16 * len(texts) + _TOKENS_PER_ENTRY * n_tokens,
            purpose="simulate",
            schema=answer_schema([len(text) for text in texts]),
        )


def answer_schema(lengths: Sequence[int]) -> dict[str, Any]:
    """What an answer about texts of so many tokens looks like."""
    longest = max(lengths)
    entry = {
        "type": "object",
        "properties": {
            "token": {"type": "integer", "minimum": 1, "maximum": longest},
            "level": {"type": "integer", "minimum": 1, "maximum": 10},
        },
        "required": ["token", "level"],
        "additionalProperties": False,
    }
    text = {
        "type": "object",
        "properties": {
            "text": {"type": "integer", "minimum": 1, "maximum": len(lengths)},
            "active": {"type": "array", "items": entry, "maxItems": longest},
        },
        "required": ["text", "active"],
        "additionalProperties": False,
    }
    n = len(lengths)
    return {
        "type": "object",
        "properties": {"texts": {"type": "array", "items": text, "minItems": n, "maxItems": n}},
        "required": ["texts"],
        "additionalProperties": False,
    }


def read_answer(texts: Sequence[Sequence[str]], answer: Response) -> list[Simulation]:
    """The simulations in an answer about `texts`; a text without a usable one is missing."""
    found = [missing(len(text)) for text in texts]
    if answer.status is not ResponseStatus.OK or answer.text is None:
        return found
    try:
        value = parse_answer(answer.text, answer_schema([len(text) for text in texts]))
    except MalformedAnswerError:
        return found
    numbers = [entry["text"] for entry in value["texts"]]
    for entry in value["texts"]:
        place = entry["text"] - 1
        # A text that is answered twice has no answer.
        if numbers.count(entry["text"]) == 1:
            found[place] = _simulation(len(texts[place]), entry["active"])
    return found


def _simulation(n_tokens: int, active: Sequence[dict[str, int]]) -> Simulation:
    places = [entry["token"] - 1 for entry in active]
    if any(place >= n_tokens for place in places) or len(set(places)) < len(places):
        return missing(n_tokens)
    readings = Readings(n_tokens)
    for place in range(n_tokens):
        readings.set(place, 0.0, 1.0)
    for place, entry in zip(places, active, strict=True):
        readings.set(place, float(entry["level"]), 1.0)
    return readings.simulation(0.0)


def _turn(question: Any, example: Any) -> tuple[str, str]:
    """One example of the few-shot: `explanation` and `texts`, each of (token, level) pairs."""
    texts: list[list[tuple[str, int]]] = example["texts"]
    shown = [[quoted(token) for token, _ in text] for text in texts]
    entries = [
        {
            "text": number,
            "active": [
                {"token": place, "level": level}
                for place, (_, level) in enumerate(text, 1)
                if level
            ],
        }
        for number, text in enumerate(texts, 1)
    ]
    return question(example["explanation"], shown), json.dumps({"texts": entries})
