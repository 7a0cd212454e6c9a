"""The windows of a corpus and the shards it is recorded in."""

import hashlib
from dataclasses import dataclass

import numpy as np

from autointerp.records import Sequence, Window

PILOT_SHARE = 0.1
"""Share of the corpus that is recorded first: what it shows is known to the rest of the pass."""

PILOT_TOKENS = 65_536
"""The pilot is no longer than this, however long the corpus."""


@dataclass(frozen=True)
class WindowTable:
    """All windows of the corpus, numbered in corpus order."""

    sequences: tuple[Sequence, ...]
    sequence: np.ndarray
    """[n_windows] int32 number of the sequence."""
    start: np.ndarray
    """[n_windows] int32 first token within it."""
    length: int
    hashes: np.ndarray
    """[n_windows] uint64: sequence id and start."""
    n_pilot: int = 0
    """The first sequences, whole documents: the pilot, which is recorded before the others."""

    @classmethod
    def of(cls, sequences: list[Sequence], length: int, n_masked_start: int) -> "WindowTable":
        """Tile every sequence from its first unmasked token; a remainder shorter is left out."""
        rows, starts, hashes = [], [], []
        for number, sequence in enumerate(sequences):
            for start in range(n_masked_start, len(sequence.token_ids) - length + 1, length):
                rows.append(number)
                starts.append(start)
                name = f"{sequence.sequence_id}:{start}".encode()
                hashes.append(hash64(name))
        return cls(
            tuple(sequences),
            np.asarray(rows, np.int32),
            np.asarray(starts, np.int32),
            length,
            np.asarray(hashes, np.uint64),
            pilot_of(sequences),
        )

    def window(self, number: int) -> Window:
        """Where window `number` lies."""
        start = int(self.start[number])
        sequence = self.sequences[self.sequence[number]]
        return Window(sequence.sequence_id, start, start + self.length)


@dataclass(frozen=True)
class Shard:
    """A work item: sequences `first` to `last` (exclusive), whole documents."""

    number: int
    first: int
    last: int


def pilot_of(sequences: list[Sequence]) -> int:
    """How many sequences are the pilot: the documents that begin in the first of the tokens."""
    total = sum(len(sequence.token_ids) for sequence in sequences)
    wanted = min(PILOT_SHARE * total, PILOT_TOKENS)
    n_tokens = 0
    for number, sequence in enumerate(sequences):
        is_new = number > 0 and sequence.document_id != sequences[number - 1].document_id
        if is_new and n_tokens >= wanted:
            return number
        n_tokens += len(sequence.token_ids)
    return len(sequences)


def shards_of(sequences: tuple[Sequence, ...], shard_tokens: int, n_pilot: int = 0) -> list[Shard]:
    """Cut a corpus into shards of about `shard_tokens` tokens at document boundaries.

    Args:
        n_pilot: the first sequences, which share no shard with others.
    """
    shards: list[Shard] = []
    first = n_tokens = 0
    for number, sequence in enumerate(sequences):
        is_new = number > first and sequence.document_id != sequences[number - 1].document_id
        if is_new and (n_tokens >= shard_tokens or number == n_pilot):
            shards.append(Shard(len(shards), first, number))
            first, n_tokens = number, 0
        n_tokens += len(sequence.token_ids)
    if first < len(sequences):
        shards.append(Shard(len(shards), first, len(sequences)))
    return shards


def hash64(name: bytes) -> int:
    """64 bits of BLAKE2b: where a window or unit stands in the seeded order of draws."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
