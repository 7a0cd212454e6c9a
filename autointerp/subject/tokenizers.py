"""What a tokenizer is, by what it does to a text."""

import json
from typing import Any

from autointerp.records import content_key

_PASSING = ("padding", "truncation")
"""State that a call leaves behind: it says how a batch was put together, not how text is read."""


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Hash of what a tokenizer does to a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = {k: v for k, v in json.loads(backend.to_str()).items() if k not in _PASSING}
        return content_key("tokenizer", state=state)
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
