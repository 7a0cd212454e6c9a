"""Prompts of the simulators that ask: Jinja templates that define their pieces by name."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from autointerp import resources
from autointerp.records import AutointerpError


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
    file = Path(name) if name.endswith(".j2") else resources.path(f"prompts/{name}.j2")
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutointerpError(f"prompt {name!r} cannot be read: {error}") from error
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    try:
        pieces: Any = environment.from_string(source).module
        return ChatPrompt(
            name=file.stem,
            digest=hashlib.blake2b(source.encode(), digest_size=16).hexdigest(),
            instructions=str(pieces.instructions).strip(),
            question=lambda *shown: str(pieces.question(*shown)).rstrip("\n"),
            examples=tuple(dict(example) for example in pieces.examples),
        )
    except (jinja2.TemplateError, AttributeError, TypeError, ValueError) as error:
        raise AutointerpError(
            f"prompt {name!r} cannot be used by this simulator: {error}; it must define "
            "instructions, question and examples"
        ) from error
