"""Batches of activations in random order, of which any can be had without the ones before it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from autointerp.records import AutointerpError


def shuffled_batches(
    activations: Callable[[int], Iterator[Tensor]],
    *,
    chunks_in_buffer: int,
    batch_tokens: int,
    chunk_tokens: int,
    seed: int,
) -> Callable[[int], Iterator[Tensor]]:
    """Batches of activations drawn at random from a buffer of `chunks_in_buffer` chunks.

    The buffer is filled, shuffled with a seed of its own number, and used up before the next: so
    the n-th batch is known without the ones before it, and a killed training goes on where it was.

    Args:
        activations: given the number of chunks to skip, iterates chunks [chunk_tokens, d_in]
            without end.
        chunks_in_buffer: chunks that are mixed with each other.
        batch_tokens: tokens of a batch.
        chunk_tokens: tokens of a chunk.
        seed: of the order.

    Raises:
        AutointerpError: where a batch is larger than the buffer.
    """
    per_buffer = chunk_tokens * chunks_in_buffer // batch_tokens
    if not per_buffer:
        raise AutointerpError(
            f"batch_tokens {batch_tokens} is more than the buffer of "
            f"{chunk_tokens * chunks_in_buffer} tokens; raise buffer_chunks"
        )

    def batches(n_used: int) -> Iterator[Tensor]:
        number, offset = divmod(n_used, per_buffer)
        source = activations(number * chunks_in_buffer)
        while True:
            buffer = torch.cat([next(source) for _ in range(chunks_in_buffer)])
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            order = torch.randperm(len(buffer), generator=generator)
            for i in range(offset, per_buffer):
                yield buffer[order[i * batch_tokens : (i + 1) * batch_tokens]].float()
            number, offset = number + 1, 0

    return batches


class KeptActivations:
    """Chunks on disk in bfloat16, written once each and in order: later passes need no subject.

    A chunk counts as written when the file is long enough to hold it whole, so that a kill leaves
    at most a part of one, which is written again.
    """

    def __init__(self, file: Path, make: Callable[[int], Tensor], n_chunks: int) -> None:
        """Keep what `make` gives for chunk numbers 0 to `n_chunks` - 1, all of one shape."""
        self._file = file
        self._make = make
        self._n_chunks = n_chunks
        self._shape: tuple[int, int] | None = None
        self._description = file.with_suffix(".shape")
        if file.exists() and self._description.exists():
            n, width = self._description.read_text().split()
            self._shape = (int(n), int(width))

    def from_chunk(self, skip: int) -> Iterator[Tensor]:
        """Chunks from number `skip` on, round and round, in bfloat16."""
        number = skip
        while True:
            yield self._chunk(number % self._n_chunks)
            number += 1

    def _chunk(self, number: int) -> Tensor:
        if number < self._n_written():
            assert self._shape is not None
            with self._file.open("rb") as opened:
                opened.seek(number * self._bytes())
                found = bytearray(opened.read(self._bytes()))
            return torch.frombuffer(found, dtype=torch.bfloat16).view(self._shape)
        made = self._make(number).bfloat16()
        # Only the next one is appended: after a jump the file would have a hole.
        if number == self._n_written():
            self._append(made, number)
        return made

    def _append(self, chunk: Tensor, number: int) -> None:
        if self._shape is None:
            self._shape = (chunk.shape[0], chunk.shape[1])
            self._description.write_text(f"{chunk.shape[0]} {chunk.shape[1]}\n")
        with self._file.open("r+b" if self._file.exists() else "wb") as opened:
            opened.seek(number * self._bytes())
            opened.write(chunk.contiguous().view(torch.uint8).numpy().tobytes())

    def _n_written(self) -> int:
        if self._shape is None or not self._file.exists():
            return 0
        return self._file.stat().st_size // self._bytes()

    def _bytes(self) -> int:
        assert self._shape is not None
        return self._shape[0] * self._shape[1] * 2
