"""Prompts of the simulators that ask: Jinja templates that define their pieces by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.templates import guarded, read_template


@dataclass(frozen=True)
class ChatPrompt:
    """The pieces of one prompt."""

    name: str
    digest: str
    """Hash of the template's source."""

    instructions: str
    """The system message."""

    question: Callable[..., str]
    """Shows an explanation and what it is to be applied to."""

    examples: Sequence[Mapping[str, Any]]
    """The few-shot, as the simulator that reads it describes."""


def load_chat_prompt(name: str) -> ChatPrompt:
    """Read a prompt.

    Args:
        name: of a template in `prompts/`, or the path of a `.j2` file.

    Raises:
        AutointerpError: where there is no such template, or it lacks a piece.
    """
    with guarded(
        name,
        "cannot be used by this simulator",
        "it must define instructions, question and examples",
    ):
        template = read_template(name)
        pieces = template.pieces
        return ChatPrompt(
            name=template.name,
            digest=template.digest,
            instructions=str(pieces.instructions).strip(),
            question=lambda *shown: str(pieces.question(*shown)).rstrip("\n"),
            examples=tuple(dict(example) for example in pieces.examples),
        )
