from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.sae.batches import KeptActivations, shuffled_batches


def chunk(number: int) -> Tensor:
    return torch.randn(512, 4, generator=torch.Generator().manual_seed(number))


def chunks(skip: int) -> Iterator[Tensor]:
    while True:
        yield chunk(skip)
        skip += 1


def batches(batch_tokens: int = 256):
    return shuffled_batches(
        chunks, chunks_in_buffer=2, batch_tokens=batch_tokens, chunk_tokens=512, seed=4
    )


def test_any_batch_is_known_without_the_ones_before_it():
    stream = batches()(0)
    for number in range(9):
        assert torch.equal(next(stream), next(batches()(number)))


def test_a_buffer_is_used_up_before_the_next():
    stream = batches()(0)
    drawn = torch.cat([next(stream) for _ in range(4)])
    buffer = torch.cat([chunk(0), chunk(1)])
    assert not torch.equal(drawn, buffer)
    assert torch.equal(drawn.sort(0).values, buffer.sort(0).values)


def test_a_buffer_smaller_than_a_batch_is_refused():
    with pytest.raises(AutointerpError, match="batch_tokens 1025 is more than the buffer of 1024"):
        batches(1025)


@pytest.fixture
def kept(tmp_path):
    """A store of three chunks that says which were made."""
    made: list[int] = []

    def make(number: int) -> Tensor:
        made.append(number)
        return chunk(number)

    return lambda: KeptActivations(tmp_path / "kept.bin", make, 3), made, tmp_path / "kept.bin"


def test_kept_activations_are_made_once(kept):
    open_store, made, _ = kept
    stream = open_store().from_chunk(0)
    first, second = [[next(stream) for _ in range(3)] for _ in range(2)]
    assert made == [0, 1, 2]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(first[1], chunk(1).bfloat16())
    # Another process finds them, too, from any place on.
    assert torch.equal(next(open_store().from_chunk(5)), first[2])
    assert made == [0, 1, 2]


@pytest.mark.parametrize("n_bytes", [0, 1, 512 * 4 * 2 - 1, 512 * 4 * 2 + 7])
def test_a_chunk_that_a_kill_cut_off_is_made_again(kept, n_bytes):
    open_store, made, file = kept
    stream = open_store().from_chunk(0)
    before = [next(stream) for _ in range(3)]
    with file.open("r+b") as opened:
        opened.truncate(n_bytes)
    made.clear()
    stream = open_store().from_chunk(0)
    after = [next(stream) for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert made == list(range(n_bytes // (512 * 4 * 2), 3))


def test_a_jump_ahead_leaves_no_hole(kept):
    open_store, made, file = kept
    next(open_store().from_chunk(2))
    assert not file.exists() or file.stat().st_size == 0
    stream = open_store().from_chunk(0)
    assert torch.equal(next(stream), chunk(0).bfloat16())
    assert made == [2, 0]
