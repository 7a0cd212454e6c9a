"""Reads the tokens of a subject with a simulator's own tokenizer, and brings answers back to them.

    P_t = sum_j w_tj p_j / sum_j w_tj,   w_tj = characters that token t shares with own token j

Where both have one tokenizer the ids are the subject's own and every w is 0 or 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

BROKEN = "\ufffd"
"""Stands in a token's text where it holds a part of a character."""

MAX_FOREIGN_SHARE = 0.05
"""More tokens than this that are not in the vocabulary: the text was cut by another tokenizer."""


@dataclass(frozen=True)
class Aligned:
    """One text in a simulator's own tokens."""

    ids: list[int]
    """[n_own]."""

    weights: npt.NDArray[np.float32] | None
    """[n_tokens, n_own], rows sum to 1 or 0; `None` where the tokens are the subject's own."""

    certain: npt.NDArray[np.bool_]
    """[n_tokens] whether a token's text is known whole."""

    def back(self, own: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What was found at the own tokens, [n_own, n], at the subject's tokens, [n_tokens, n]."""
        return own if self.weights is None else self.weights @ own


class Aligner:
    """Reads texts for one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """Prepare; `tokenizer` is a fast one of transformers."""
        self.tokenizer = tokenizer

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token text → id; of several with one text the first that is no special token."""
        from autointerp.recording.corpus import vocabulary

        special = set(self.tokenizer.all_special_ids)
        texts = list(enumerate(vocabulary(self.tokenizer)))
        # Later entries of a dictionary replace earlier ones: the first comes last.
        ordered = [*((i, t) for i, t in texts if i in special)]
        ordered += [(i, t) for i, t in reversed(texts) if i not in special]
        return {text: i for i, text in ordered}

    def is_own(self, tokens: Sequence[str]) -> bool:
        """Whether nearly all tokens of a text are in the vocabulary."""
        whole = [token for token in tokens if BROKEN not in token]
        foreign = sum(token not in self.ids for token in whole)
        return foreign <= MAX_FOREIGN_SHARE * len(whole)

    def read(self, tokens: Sequence[str]) -> Aligned:
        """One text's tokens, taken as they are where nearly all are known, else cut anew.

        Nothing but the text decides: what is read beside it changes nothing.
        """
        whole = np.array([BROKEN not in token for token in tokens], bool)
        if not self.is_own(tokens):
            return self._cut(tokens, whole)
        known = [self.ids.get(token) for token in tokens]
        ids = [self._unknown if i is None else i for i in known]
        return Aligned(ids, None, whole & np.array([i is not None for i in known], bool))

    @cached_property
    def _unknown(self) -> int:
        """Stands in for a token whose id is not known."""
        ids = self.tokenizer(BROKEN, add_special_tokens=False)["input_ids"]
        return int(ids[0]) if ids else 0

    def _cut(self, tokens: Sequence[str], whole: npt.NDArray[np.bool_]) -> Aligned:
        coded = self.tokenizer(
            "".join(tokens), add_special_tokens=False, split_special_tokens=True,
            return_offsets_mapping=True,
        )  # fmt: skip
        ids = list(coded["input_ids"])
        spans = np.array(coded["offset_mapping"], np.int64).reshape(-1, 2)
        ends = np.cumsum([len(token) for token in tokens])
        starts = np.concatenate([[0], ends[:-1]])
        shared = np.minimum(ends[:, None], spans[None, :, 1]) - np.maximum(
            starts[:, None], spans[None, :, 0]
        )
        weights = np.maximum(shared, 0).astype(np.float32)
        total = weights.sum(1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
        return Aligned(ids, weights, whole & (total[:, 0] > 0))
