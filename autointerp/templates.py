"""Reads prompt templates: Jinja files that define their pieces by name."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from autointerp import resources
from autointerp.names import near_names
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
    file = Path(name) if name.endswith(".j2") else _shipped(name)
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutointerpError(f"prompt {name!r} cannot be read: {error}") from error
    # A template may come from somebody else: in a sandbox it can write text and nothing more.
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    digest = hashlib.blake2b(source.encode(), digest_size=16).hexdigest()
    return PromptTemplate(file.stem, digest, environment.from_string(source).module)


def _shipped(name: str) -> Path:
    folder = resources.path("prompts")
    known = sorted(path.stem for path in folder.glob("*.j2"))
    if name not in known:
        raise AutointerpError(
            f"there is no prompt {name!r}; some that are: {', '.join(near_names(name, known))}; "
            f"one of your own is a path that ends in .j2, and {str(folder)!r} holds examples"
        )
    return folder / f"{name}.j2"


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
