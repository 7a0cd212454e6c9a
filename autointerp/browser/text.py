"""Texts as they are shown: nothing invisible, nothing that reorders others, nothing huge."""

import re
from typing import Any

from autointerp.viewer.tokens import plain

_NEEDS_CARE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    "\ud800-\uf8ff\U0001bca0-\U0010ffff]"
)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """A text with every control, direction mark and zero-width character written out.

    Joiners between letters stay, for scripts and emoji need them.
    """
    if not _NEEDS_CARE.search(text):
        return text
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", plain(text))


def cut(text: str, most: int) -> str:
    """At most so many characters, with an ellipsis where some are left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def shown(value: Any) -> Any:
    """Every value that enters a page through a template: texts are made visible, Markup stays."""
    return visible(value) if type(value) is str else value
