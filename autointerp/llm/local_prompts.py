"""Conversations as token ids: the model's chat template, and text that stays text."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Any

import jinja2

from autointerp.llm.base import Message

_TEMPLATE_FACTS = {"date_string": "26 Jul 2024", "enable_thinking": False}
"""Given to chat templates that ask: today's date would make every day's prompts differ, and an
answer of a few dozen tokens has no room for thoughts."""


class ChatPrompts:
    """Conversations as token ids; what looks like a special token in a message stays text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._template: str | None = tokenizer.chat_template
        marks = self._marks()
        pattern = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
        # A lookahead finds overlapping ones too.
        self._mark = re.compile(f"(?=({pattern}))") if marks else None
        start = tokenizer("", add_special_tokens=True)["input_ids"]
        self._start = [i for i in start if i == tokenizer.bos_token_id]
        backend = getattr(tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab())
        facts = repr((self._template, sorted(marks), vocabulary))
        self.digest = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def _marks(self) -> set[str]:
        """Texts that the tokenizer would read as control tokens."""
        added = self._tokenizer.added_tokens_decoder.values()
        marks = {token.content for token in added if token.special}
        marks |= set(self._tokenizer.all_special_tokens)
        if self._template:
            marks |= {token.content for token in added if token.content in self._template}
        return {mark for mark in marks if len(mark.strip()) > 1}

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids up to where the answer starts.

        Look-alikes of control tokens within a message are cut in two after their first character,
        and the parts of the prompt are tokenised one by one. A prompt without any is one part.
        """
        text, spans = self._rendered(messages)
        cuts = [0, *self._cuts(text, spans), len(text)]
        ids = [] if self._template else list(self._start)
        for start, stop in itertools.pairwise(cuts):
            ids += self._tokenizer(text[start:stop], add_special_tokens=False)["input_ids"]
        return ids

    def plain_ids(self, text: str) -> list[int]:
        """Token ids of a text that is no conversation, after the mark that begins texts, if any."""
        if not text:
            return []
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return [*self._start, *encoded["input_ids"]]

    def _cuts(self, text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
        if self._mark is None:
            return []
        starts = [match.start() for match in self._mark.finditer(text)]
        return [
            start + 1 for start in starts if any(first <= start < last for first, last in spans)
        ]

    def _rendered(self, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
        """The prompt's text, and where the messages' contents lie in it."""
        if not self._template:
            contents = [message.content for message in messages]
            return _joined(["", *["\n\n"] * (len(contents) - 1), ""], contents)
        # The template sees stand-ins, so contents can neither steer it nor be mistaken for it.
        stand_ins = [f"STANDIN{number}CONTENT" for number in range(len(messages))]
        turns = [
            {"role": message.role, "content": stand_in}
            for message, stand_in in zip(messages, stand_ins, strict=True)
        ]
        rendered = self._apply(turns)
        pieces = re.split(r"STANDIN(\d+)CONTENT", rendered)
        contents = [messages[int(number)].content for number in pieces[1::2]]
        return _joined(pieces[::2], contents)

    def _apply(self, turns: list[dict[str, str]]) -> str:
        def apply(turns: list[dict[str, str]]) -> str:
            return self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, **_TEMPLATE_FACTS
            )

        try:
            return apply(turns)
        except jinja2.TemplateError:
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise
            # Some templates (Gemma's) know no system message: it opens the first turn instead.
            first = {**turns[1], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
            return apply([first, *turns[2:]])


def _joined(frame: Sequence[str], contents: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """frame[0] contents[0] frame[1] … as one text, and the spans of the contents."""
    text, spans = frame[0], []
    for content, after in zip(contents, frame[1:], strict=True):
        spans.append((len(text), len(text) + len(content)))
        text += content + after
    return text, spans
