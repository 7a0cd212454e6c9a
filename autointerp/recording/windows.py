"""The windows of a corpus and the shards it is recorded in."""

import hashlib
from dataclasses import dataclass

import numpy as np

from autointerp.records import Sequence, Window


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


def shards_of(sequences: tuple[Sequence, ...], shard_tokens: int) -> list[Shard]:
    """Cut a corpus into shards of about `shard_tokens` tokens at document boundaries."""
    shards: list[Shard] = []
    first = n_tokens = 0
    for number, sequence in enumerate(sequences):
        is_new = number > first and sequence.document_id != sequences[number - 1].document_id
        if is_new and n_tokens >= shard_tokens:
            shards.append(Shard(len(shards), first, number))
            first, n_tokens = number, 0
        n_tokens += len(sequence.token_ids)
    if first < len(sequences):
        shards.append(Shard(len(shards), first, len(sequences)))
    return shards


def hash64(name: bytes) -> int:
    """64 bits of BLAKE2b: where a window or unit stands in the seeded order of draws."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
