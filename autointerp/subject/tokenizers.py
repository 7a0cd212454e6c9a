"""What a tokenizer is, by what it does to a text."""

import hashlib
import json
from typing import Any

from autointerp.records import content_key

_PASSING = ("padding", "truncation")
"""State that a call leaves behind: it says how a batch was put together, not how text is read."""


_KNOWN: dict[bytes, str] = {}
"""Fingerprints by a hash of the state they are of: subject, explainer and simulator often share a
tokenizer, and its canonical form takes half a second."""


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Hash of what a tokenizer does to a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        spelled: str = backend.to_str()
        place = hashlib.blake2b(spelled.encode(), digest_size=16).digest()
        if place not in _KNOWN:
            state = {k: v for k, v in json.loads(spelled).items() if k not in _PASSING}
            _KNOWN[place] = content_key("tokenizer", state=state)
        return _KNOWN[place]
    settings = {
        name: str(value)
        for name, value in tokenizer.init_kwargs.items()
        if not name.endswith(("_file", "_path"))
    }
    return content_key(
        "tokenizer",
        tokenizer=type(tokenizer).__qualname__,
        vocabulary=sorted(tokenizer.get_vocab().items()),
        settings=settings,
    )
