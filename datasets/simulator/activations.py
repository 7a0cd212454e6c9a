"""Activations of recorded units on training windows: latents of a dictionary, and neurons.

Windows are read in sequences of `N_JOINED` that follow each other in one document, so that a unit
sees more of the text than a row will show, as in a run. Documents are in two halves: one tells what
a unit is about, rows are made of the other, so that no description is built from what it is tried
on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

N_JOINED = 4
"""Windows of a sequence."""

BATCH = 16
"""Sequences."""

L0 = 32
"""Neurons kept on every token; raw ones are active on half of all tokens."""


@dataclass(frozen=True)
class Recorded:
    """What units do on a sample of the windows; positions are windows' tokens, one after another."""

    numbers: np.ndarray
    """[n_windows] which windows, in sequences of `N_JOINED`."""

    ids: np.ndarray
    """[n_positions] token ids."""

    tells: np.ndarray
    """[n_positions] bool: in the half that descriptions are made from."""

    known: np.ndarray
    """[n_positions] bool: not the start of a sequence, where models do other things."""

    values: Any
    """[n_positions, n_units] sparse columns, activations above 0."""

    @property
    def n_tokens(self) -> int:
        """Of a window."""
        return len(self.ids) // len(self.numbers)


def sequences(
    rng: np.random.Generator, documents: np.ndarray, pool: np.ndarray, n: int
) -> np.ndarray:
    """Windows of `n` sequences (fewer where there are not so many), [n_sequences, `N_JOINED`].

    Args:
        rng: draws them.
        documents: [n_windows] the document of every window; its windows stand together.
        pool: numbers of the windows to draw from, ascending.
    """
    own = documents[pool]
    first = np.r_[True, own[1:] != own[:-1]]
    place = np.arange(len(pool)) - np.maximum.accumulate(np.where(first, np.arange(len(pool)), 0))
    starts = np.flatnonzero(place[: len(pool) - N_JOINED + 1] % N_JOINED == 0)
    whole = starts[own[starts] == own[starts + N_JOINED - 1]]
    drawn = np.sort(rng.permutation(whole)[:n])
    return pool[drawn[:, None] + np.arange(N_JOINED)]


def record(
    subject: Any,
    sources: Sequence[Any],
    ids: Sequence[np.ndarray],
    chosen: np.ndarray,
    documents: np.ndarray,
) -> list[Recorded]:
    """Run a subject over sequences, and note where the units of each source are active.

    Args:
        subject: an `autointerp.subject.Subject`.
        sources: unit sources of it; the two sides of a signed one are units of their own.
        ids: token ids of every window.
        chosen: [n_sequences, `N_JOINED`] numbers of windows.
        documents: the document of every window.
    """
    import torch

    from autointerp.units import Sparsified

    numbers = chosen.ravel()
    tokens = np.stack([ids[n] for n in numbers]).astype(np.int64)
    n_tokens = tokens.shape[1]
    tokens = tokens.reshape(len(chosen), -1)
    kept = [s if s.polarities == (1,) else Sparsified.of(s, min(L0, s.n_units)) for s in sources]
    parts: list[list[Any]] = [[] for _ in kept]
    with torch.inference_mode():
        for first in range(0, len(tokens), BATCH):
            own = torch.from_numpy(tokens[first : first + BATCH])
            found = subject.run(own, [source.read_at for source in kept])
            for part, source in zip(parts, kept, strict=True):
                part.append(_columns(source, found[source.read_at].flatten(0, 1).float()))
    positions = np.arange(tokens.size)
    halves = np.unique(documents[numbers])[1::2]
    tells = np.isin(documents[numbers], halves).repeat(n_tokens)
    known = positions % tokens.shape[1] > 0
    return [
        Recorded(numbers, tokens.ravel(), tells, known, sparse.vstack(part).tocsc())
        for part in parts
    ]


def _columns(source: Any, hidden: Any) -> Any:
    """[n_tokens, n_units · polarities] sparse, what is above 0."""
    from autointerp.units import Dense

    encoded = source.encode(hidden)
    if isinstance(encoded, Dense):
        values = encoded.values.cpu().numpy()
        rows, columns = values.nonzero()
        values = values[rows, columns]
    else:
        rows, columns, values = (
            part.cpu().numpy() for part in (encoded.tokens, encoded.units, encoded.values)
        )
    below = values < 0
    columns = columns + below * source.n_units
    shape = (len(hidden), source.n_units * len(source.polarities))
    found = sparse.coo_array((np.abs(values).astype(np.float32), (rows, columns)), shape)
    found.eliminate_zeros()
    return found.tocsr()
