"""Names that nearly match or that a config accepts, and texts as a terminal may show them."""

import difflib
import re
from collections.abc import Iterable


def near_names(name: str, known: list[str], n: int = 5) -> list[str]:
    """Names from `known` that look like `name`, nearest first; some of them where none does."""
    return difflib.get_close_matches(name, known, n=n, cutoff=0.5) or known[:n]


def meant(word: str, known: Iterable[str]) -> str | None:
    """What was meant by a mistyped word, if it can be told."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about a word that is not known."""
    near = meant(word, known)
    return f"; did you mean {near}?" if near else "."


def printable(text: str) -> str:
    """Text of others for a terminal: what would move its cursor, colour or turn it is escaped."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def as_name(text: str) -> str:
    """A name that a config accepts, as like `text` as can be."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    return name if re.match(r"[A-Za-z]", name) else f"run_{name}"
