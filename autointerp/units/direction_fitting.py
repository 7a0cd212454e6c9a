"""Directions that follow from the corpus: its mean and its principal components."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from autointerp.records import AutointerpError, Sequence, Split
from autointerp.subject import Subject
from autointerp.units.directions import StreamingMoments


def sequences_to_fit(
    sequences: Iterable[Sequence], vocabulary_size: int, max_tokens: int | None
) -> list[Sequence]:
    """Sequences of `explain` documents until the next would pass `max_tokens` unmasked tokens.

    They come in the order of their ids, which are hashes: a sample of the corpus whatever its
    order. Those with ids beyond the vocabulary were recorded elsewhere and are left out.
    """
    own = [
        sequence
        for sequence in sequences
        if sequence.split == Split.EXPLAIN and int(sequence.token_ids.max()) < vocabulary_size
    ]
    chosen: list[Sequence] = []
    n_tokens = 0
    for sequence in sorted(own, key=lambda s: s.sequence_id):
        n_tokens += int((~sequence.masked).sum())
        if max_tokens is not None and n_tokens > max_tokens and chosen:
            break
        chosen.append(sequence)
    return chosen


def hidden_rows(
    subject: Subject, sequences: list[Sequence], hook_point: str, batch_tokens: int
) -> Iterator[Tensor]:
    """[n_tokens, width] hidden states of unmasked tokens, batch by batch."""
    # Alike in length: next to no padding.
    ordered = sorted(sequences, key=lambda s: (len(s.token_ids), s.sequence_id))
    while ordered:
        n_rows = max(1, batch_tokens // len(ordered[0].token_ids))
        while n_rows > 1 and n_rows * len(ordered[:n_rows][-1].token_ids) > batch_tokens:
            n_rows -= 1
        batch, ordered = ordered[:n_rows], ordered[n_rows:]
        longest = len(batch[-1].token_ids)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        given = torch.zeros((len(batch), longest), dtype=torch.long)
        wanted = torch.zeros((len(batch), longest), dtype=torch.bool)
        for row, sequence in enumerate(batch):
            length = len(sequence.token_ids)
            ids[row, :length] = torch.from_numpy(sequence.token_ids).long()
            given[row, :length] = 1
            wanted[row, :length] = torch.from_numpy(~sequence.masked)
        mask = None if bool(given.all()) else given
        yield subject.run(ids, [hook_point], mask)[hook_point][wanted.to(subject.device)]


def fit_moments(
    batches: Iterable[Tensor], width: int, *, covariance: bool, needed: int, place: str
) -> StreamingMoments:
    """Mean, and covariance if wanted, of all rows of `batches`.

    Args:
        needed: rows without which there is nothing to fit.
        place: where the rows come from, for errors.

    Raises:
        AutointerpError: where there are fewer rows, or one is not finite.
    """
    moments = StreamingMoments(width, covariance=covariance)
    for rows in batches:
        moments.add(rows)
    if moments.n < needed:
        raise AutointerpError(
            f"{place}: {moments.n} tokens of `explain` documents to fit directions to; at least "
            f"{needed} are needed: lower `n`, raise `fit_tokens`, or add documents"
        )
    if not bool(moments.mean.isfinite().all()):
        raise AutointerpError(
            f"{place}: the subject gives NaN or infinity: load it with `dtype: float32` or "
            "`bfloat16`, and check the weights"
        )
    return moments
