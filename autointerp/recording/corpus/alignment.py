"""Where tokens lie in their text, also for tokenizers that do not say.

Tokenizers of the `tokenizers` library give character offsets, and tokens that are parts of one
character all get its span. Others only decode: then tokens are matched to the text in order.
"""

from typing import Any

import numpy as np

_MAX_TOKENS_OF_CHARACTER = 8
"""A character is at most four bytes; some tokenizers add a marker or two."""

_SEARCH = 64
"""Characters looked ahead for a token that is not where the last one ended."""


def encode(tokenizer: Any, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids [n] int32 and character spans [n, 2] int32 of texts, nothing added."""
    if getattr(tokenizer, "is_fast", False):
        found = tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return [
            (np.asarray(ids, np.int32), np.asarray(spans, np.int32).reshape(-1, 2))
            for ids, spans in zip(found["input_ids"], found["offset_mapping"], strict=True)
        ]
    found = tokenizer(texts, add_special_tokens=False, verbose=False)
    return [
        (np.asarray(ids, np.int32), character_spans(tokenizer, text, ids))
        for ids, text in zip(found["input_ids"], texts, strict=True)
    ]


def character_spans(tokenizer: Any, text: str, ids: list[int]) -> np.ndarray:
    """[n, 2] first character and one past the last of every token, found by decoding.

    Tokens are taken together until what they decode to is whole and stands in the text: they share
    its span. A token that stands nowhere near (its tokenizer changed the text) gets an empty span.
    """
    cache: dict[tuple[int, ...], str] = {}

    def decoded(part: tuple[int, ...]) -> str:
        if part not in cache:
            cache[part] = tokenizer.decode(
                list(part), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        return cache[part]

    spans = np.zeros((len(ids), 2), np.int32)
    first = position = 0
    while first < len(ids):
        last, start, stop = first + 1, position, position
        for end in range(first + 1, min(first + _MAX_TOKENS_OF_CHARACTER, len(ids)) + 1):
            piece = decoded(tuple(ids[first:end]))
            place = _find(text, piece, position)
            if place is not None:
                last, (start, stop) = end, place
                break
        spans[first:last] = start, stop
        first, position = last, stop
    return spans


def _find(text: str, piece: str, position: int) -> tuple[int, int] | None:
    """Where a decoded piece stands at or soon after a position; case and outer space may differ."""
    bare = piece.strip()
    if not piece or "\ufffd" in piece:
        return None
    if text.startswith(piece, position):
        return position, position + len(piece)
    if not bare:
        return None
    ahead = text[position : position + _SEARCH + len(bare)]
    place = ahead.find(bare)
    if place < 0 and len(ahead.lower()) == len(ahead):
        place = ahead.lower().find(bare.lower())
    if place < 0:
        return None
    return position + place, position + place + len(bare)
