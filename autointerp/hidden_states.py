"""What a subject computes on the documents of a corpus, as rows of numbers: for dictionaries.

Needs several rooms (corpus, subject), so it stands beside `runner.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autointerp.config import CorpusConfig
from autointerp.recording.corpus import sequences_of
from autointerp.records import Document, Split
from autointerp.subject import Subject


@dataclass(frozen=True)
class TokenRows:
    """Full sequences of some documents."""

    ids: np.ndarray
    """[n_sequences, length] int32."""

    masked: np.ndarray
    """[n_sequences, length] bool: starts of sequences and special tokens."""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, which: slice | np.ndarray) -> "TokenRows":
        return TokenRows(self.ids[which], self.masked[which])

    def split(self, n_rows: int) -> Iterator["TokenRows"]:
        """Parts of at most `n_rows` sequences."""
        for start in range(0, len(self), n_rows):
            yield self[start : start + n_rows]


def token_rows(
    documents: Iterable[Document],
    subject: Subject,
    corpus: CorpusConfig,
    *,
    at_most: int | None = None,
) -> TokenRows:
    """The full sequences of some documents, in their order.

    Args:
        documents: what to cut.
        subject: whose tokenizer cuts.
        corpus: lengths and masks.
        at_most: no more than so many sequences.
    """
    length = corpus.sequence_length
    ids: list[np.ndarray] = []
    masked: list[np.ndarray] = []
    for document in documents:
        for sequence in sequences_of(
            document,
            Split.EXPLAIN,
            subject.tokenizer,
            length=length,
            n_masked_start=corpus.n_masked_start,
            min_length=length,
            max_tokens=corpus.max_tokens_per_document,
            bos=corpus.bos,
        ):
            ids.append(sequence.token_ids)
            masked.append(sequence.masked)
        if at_most is not None and len(ids) >= at_most:
            break
    if not ids:
        return TokenRows(np.zeros((0, length), np.int32), np.zeros((0, length), bool))
    return TokenRows(np.stack(ids), np.stack(masked))[slice(0, at_most)]


def hidden_states(subject: Subject, hook_points: list[str], ids: np.ndarray) -> Tensor:
    """[n_sequences, length, Σ widths] hidden states at some places, side by side.

    In the subject's dtype, on its device.
    """
    found = subject.run(torch.from_numpy(ids), hook_points)
    return torch.cat([found[name] for name in hook_points], dim=-1)
