"""Ways of saying which tokens a recorded unit responds to."""

from collections.abc import Sequence
from dataclasses import dataclass

import concepts as c
import numpy as np

STRONG_SHARE = 0.6
"""Of the strongest token's mean: tokens below it are said to be weak, where that is said."""


@dataclass(frozen=True)
class Name:
    """A token as descriptions name it."""

    text: str
    share: float
    """Its mean activation as a share of the strongest's."""

    bare: bool = True
    """Whether the blanks around it are left out."""

    @property
    def quoted(self) -> str:
        """On one line, between quotation marks."""
        shown = (self.bare and self.text.strip()) or self.text
        shown = shown.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
        return '"' + shown.replace("\r", "\\r").replace('"', '\\"') + '"'

    @property
    def is_word(self) -> bool:
        """Whether it may be named without quotation marks."""
        return len(self.text.strip()) > 1 and c.WORD.fullmatch(self.text.strip()) is not None


def listed(items: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def of_tokens(rng: np.random.Generator, names: Sequence[Name]) -> str:
    """The tokens a unit responds to, the strongest first."""
    quoted = [name.quoted for name in names]
    words = [name.text.strip() for name in names] if all(n.is_word for n in names) else []
    if len(names) == 1:
        texts = [f"the token {quoted[0]}", quoted[0], f"occurrences of {quoted[0]}"]
        texts += [f"the word {quoted[0]}", f"the word {words[0]}", words[0]] if words else []
        return str(c.pick(rng, c.said(rng, texts)))
    every = ", ".join(quoted)
    texts = [f"the tokens {every}", f"the tokens {every}", every, f"the tokens {listed(quoted)}"]
    texts += [f"tokens such as {listed(quoted)}", f"tokens like {listed(quoted, 'or')}"]
    if words:
        texts += [", ".join(words), f"words such as {listed(words)}", f"the words {listed(words)}"]
        texts += [f"words like {listed(words, 'or')}", f"mentions of {listed(words, 'or')}"]
    strong = [n.quoted for n in names if n.share >= STRONG_SHARE]
    weak = quoted[len(strong) :]
    if weak and rng.random() < 0.4:
        texts = [
            f"strongly on {listed(strong)}, weakly on {listed(weak)}",
            f"above all {listed(strong)}; less so {listed(weak)}",
            f"mostly {listed(strong)}, sometimes {listed(weak, 'or')}",
            f"strong on {listed(strong)} and weak on {listed(weak)}",
            "levels of tokens: " + ", ".join(f"{n.quoted} {round(9 * n.share)}" for n in names),
        ]
        return str(c.pick(rng, texts))
    return str(c.pick(rng, c.said(rng, texts)))


def of_followed(rng: np.random.Generator, names: Sequence[Name]) -> str:
    """The tokens after which a unit is active."""
    quoted = listed([name.quoted for name in names], "or")
    texts = [
        f"what comes right after {quoted}",
        f"the token after {quoted}",
        f"whatever follows {quoted}",
        f"tokens that come right after {quoted}",
        f"the next token after {quoted}",
    ]
    return str(c.pick(rng, c.said(rng, texts)))


def of_pairs(rng: np.random.Generator, pairs: Sequence[tuple[Name, Name]]) -> str:
    """The tokens a unit responds to, each after the one before it: (before, token)."""
    way = str(
        c.pick(rng, ["{token} right after {before}", "{token} after {before}", "{token} in {both}"])
    )
    parts = []
    for before, token in pairs:
        both = Name(before.text + token.text, 1.0)
        parts.append(way.format(token=token.quoted, before=before.quoted, both=both.quoted))
    texts = [listed(parts, "or"), ", ".join(parts), f"the token {listed(parts, 'or')}"]
    return str(c.pick(rng, c.said(rng, texts)))


def of_concept(rng: np.random.Generator, text: str, names: Sequence[Name]) -> str:
    """A concept, at times with the tokens of it that are strongest."""
    if rng.random() < 0.7 or not names:
        return text
    text, few = text.rstrip("."), [name.quoted for name in names[:3]]
    texts = [f"{text}, above all {listed(few)}", f"{text} (mostly {listed(few)})"]
    return str(c.pick(rng, [*texts, f"{text}, such as {listed(few, 'or')}"]))
