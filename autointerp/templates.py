"""Reads prompt templates: Jinja files that define their pieces by name."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from autointerp import resources
from autointerp.records import AutointerpError


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt template."""

    name: str
    """The file's name without its ending."""

    digest: str
    """Hash of its source."""

    pieces: Any
    """Its module: what it sets, and its macros."""


def read_template(name: str) -> PromptTemplate:
    """Read a template.

    Args:
        name: of a template in `prompts/`, or the path of a `.j2` file.

    Raises:
        AutointerpError: where there is no such file.
        jinja2.TemplateError: where it is no template; see `guarded`.
    """
    file = Path(name) if name.endswith(".j2") else resources.path(f"prompts/{name}.j2")
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutointerpError(f"prompt {name!r} cannot be read: {error}") from error
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    digest = hashlib.blake2b(source.encode(), digest_size=16).hexdigest()
    return PromptTemplate(file.stem, digest, environment.from_string(source).module)


@contextmanager
def guarded(name: str, problem: str, remedy: str) -> Generator[None]:
    """While a template is read or used: whatever is wrong with it becomes an error for its author.

    Args:
        name: of the template.
        problem: what is then said of it: `is not an explanation prompt`.
        remedy: what such a template must define.

    Raises:
        AutointerpError: where the template lacks a piece, or has another kind of it.
    """
    try:
        yield
    except (jinja2.TemplateError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise AutointerpError(f"prompt {name!r} {problem}: {error}; {remedy}") from error
