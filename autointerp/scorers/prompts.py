"""Prompts of the scorers that ask a language model: template, earlier turns, schema, fences.

A Jinja template in `prompts/` defines

    instructions    the system message
    question        a macro: the user's message
    examples        a list of {…, "answers": […]}: earlier turns, the same for all units, in which
                    everything but `answers` goes through `question`

An answer is always the JSON object {"answers": […]}, one value for every thing asked about.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.explainers.words import shown_token
from autointerp.llm import Message, Request, Response, ResponseStatus
from autointerp.llm.schemas import MalformedAnswerError, parse_answer
from autointerp.templates import guarded, read_template

_FENCE = re.compile(r"<(?=\s*/?\s*(?:text|pair|first|second)\b)", re.IGNORECASE)

_PROBLEM = "is no judge's prompt of this kind"
_REMEDY = (
    "it must define instructions, the macro question and examples (see autointerp/prompts for the "
    "type's own)"
)

BOOLEAN: Mapping[str, Any] = {"type": "boolean"}
"""What one answer of yes or no looks like."""


def choice(n: int) -> Mapping[str, Any]:
    """What one answer that names one of `n` things looks like."""
    return {"type": "integer", "minimum": 1, "maximum": n}


def answer_schema(n: int, one: Mapping[str, Any] = BOOLEAN) -> dict[str, Any]:
    """What an answer about `n` things looks like.

    Args:
        n: things asked about.
        one: schema of one value.
    """
    items = {"type": "array", "items": dict(one), "minItems": n, "maxItems": n}
    return {
        "type": "object",
        "properties": {"answers": items},
        "required": ["answers"],
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class JudgePrompt:
    """A prompt for a judge; see the module's docstring for its pieces."""

    name: str
    digest: str
    """Hash of the template's source."""

    instructions: str
    examples: tuple[tuple[str, str], ...]
    """The few-shot: questions as they are shown, and answers as JSON."""

    pieces: Any
    """The template's module."""

    def question(self, **shown: Any) -> str:
        """The user's message.

        Raises:
            AutointerpError: where the template cannot show that.
        """
        with guarded(self.name, _PROBLEM, _REMEDY):
            return str(self.pieces.question(**shown)).strip("\n")

    def request(
        self, shown: Mapping[str, Any], schema: Mapping[str, Any], **options: Any
    ) -> Request:
        """A question about something; all that requests have in common stands first.

        Args:
            shown: for the template's `question`.
            schema: that the answer follows.
            options: fields of the request: `max_tokens`, `purpose`, `top_logprobs`, …
        """
        messages = [Message("system", self.instructions)]
        for asked, answer in self.examples:
            messages += [Message("user", asked), Message("assistant", answer)]
        n_shared = len(messages)
        messages.append(Message("user", self.question(**shown)))
        return Request(tuple(messages), schema=dict(schema), shared=n_shared, **options)


def load_prompt(name: str) -> JudgePrompt:
    """Read a judge's prompt.

    Args:
        name: of a template in `prompts/`, or the path of a `.j2` file.

    Raises:
        AutointerpError: where there is no such template, or it lacks a piece.
    """
    with guarded(name, _PROBLEM, _REMEDY):
        template = read_template(name)
        pieces = template.pieces
        examples = [dict(example) for example in pieces.examples]
        return JudgePrompt(
            name=name,
            digest=template.digest,
            instructions=str(pieces.instructions).strip(),
            examples=tuple(
                (
                    str(pieces.question(**example)).strip("\n"),
                    json.dumps({"answers": list(answers)}),
                )
                for example in examples
                for answers in [example.pop("answers")]
            ),
            pieces=pieces,
        )


def read_answers(request: Request, response: Response) -> list[Any]:
    """The values of an answer, one for every thing asked about.

    Raises:
        MalformedAnswerError: where there is no answer, or it does not follow its schema.
    """
    if response.status is not ResponseStatus.OK or response.text is None or request.schema is None:
        reason = f": {response.reason}" if response.reason else ""
        raise MalformedAnswerError(f"the judge's answer is {response.status}{reason}")
    return parse_answer(response.text, request.schema)["answers"]


def shown_text(tokens: Sequence[str]) -> str:
    """Tokens as a judge sees them: on one line, and unable to end their own fence."""
    return fenced("".join(shown_token(token) for token in tokens))


def fenced(line: str) -> str:
    """A line in which nothing is a fence (`<text 1>`, `</text 1>`, `<pair 2>`) any more."""
    return _FENCE.sub("< ", line)
