from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.sae.training import (
    Progress,
    TopKTraining,
    evaluate_reconstruction,
    shuffled_batches,
    train_topk,
)

D_IN, N_FEATURES = 16, 32


def directions() -> Tensor:
    """[N_FEATURES, D_IN] unit vectors: twice as many as there are dimensions."""
    W = torch.randn(N_FEATURES, D_IN, generator=torch.Generator().manual_seed(0))
    return W / W.norm(dim=1, keepdim=True)


def superposition(chunk: int, n: int = 512) -> Tensor:
    """[n, D_IN]: each token is a sum of about two of the directions."""
    generator = torch.Generator().manual_seed(1000 + chunk)
    active = torch.rand(n, N_FEATURES, generator=generator) < 2 / N_FEATURES
    strength = 0.5 + torch.rand(n, N_FEATURES, generator=generator)
    return (active * strength) @ directions() + 0.3


def chunks(skip: int) -> Iterator[Tensor]:
    while True:
        yield superposition(skip)
        skip += 1


def batches() -> Callable[[int], Iterator[Tensor]]:
    return shuffled_batches(chunks, chunks_in_buffer=2, batch_tokens=256, seed=4)


SHORT = TopKTraining(
    n_latents=24, k=3, n_tokens=40_000, batch_tokens=256, aux_k=8, dead_after_tokens=2000, seed=1
)


def test_training_recovers_directions_in_superposition(tmp_path):
    settings = TopKTraining(
        n_latents=48,
        k=3,
        n_tokens=900_000,
        batch_tokens=512,
        learning_rate=3e-3,
        aux_k=16,
        dead_after_tokens=20_000,
    )
    whole = shuffled_batches(chunks, chunks_in_buffer=4, batch_tokens=512, seed=0)
    reports: list[Progress] = []
    sae = train_topk(settings, whole, tmp_path / "checkpoint.safetensors", reports.append)
    nearest = (directions() @ sae.W_dec.T).amax(1)
    assert nearest.mean() > 0.9
    assert (nearest > 0.9).float().mean() > 0.75
    metrics = evaluate_reconstruction(sae, superposition(10**6, 4000))
    assert metrics["explained_variance"] > 0.85
    assert metrics["l0"] <= 3
    assert reports[-1].n_tokens == settings.n_tokens // 512 * 512
    assert reports[-1].explained_variance > reports[0].explained_variance


def test_decoder_rows_have_unit_norm(tmp_path):
    sae = train_topk(SHORT, batches(), tmp_path / "checkpoint.safetensors")
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(24))
    assert sae.architecture == "topk" and sae.k == 3
    assert torch.equal(sae.b_pre, sae.b_dec)


class Killed(Exception):
    pass


@pytest.mark.parametrize("at_step", [50, 100])
def test_a_killed_training_continued_is_the_uninterrupted_one(tmp_path, at_step):
    whole = train_topk(SHORT, batches(), tmp_path / "whole.safetensors")
    checkpoint = tmp_path / "checkpoint.safetensors"
    settings = replace(SHORT, checkpoint_seconds=0)

    def kill(progress: Progress) -> None:
        if progress.n_tokens >= at_step * 256:
            raise Killed

    with pytest.raises(Killed):
        train_topk(settings, batches(), checkpoint, kill)
    assert checkpoint.exists()
    asked: list[int] = []
    again = batches()

    def counted(n_used: int) -> Iterator[Tensor]:
        asked.append(n_used)
        return again(n_used)

    continued = train_topk(settings, counted, checkpoint)
    assert asked == [at_step - 1]  # it went on, and did not begin again
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        torch.testing.assert_close(
            getattr(continued, name), getattr(whole, name), rtol=1e-5, atol=1e-6
        )
    assert not list(tmp_path.glob("*.partial"))


def test_a_finished_training_is_not_done_again(tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    first = train_topk(SHORT, batches(), checkpoint)
    steps: list[Progress] = []
    second = train_topk(SHORT, batches(), checkpoint, steps.append)
    assert torch.equal(first.W_dec, second.W_dec) and not steps


def test_any_batch_is_known_without_the_ones_before_it():
    stream = batches()(0)
    for number in range(9):
        assert torch.equal(next(stream), next(batches()(number)))


def test_a_buffer_is_used_up_before_the_next():
    stream = batches()(0)
    drawn = torch.cat([next(stream) for _ in range(4)])
    buffer = torch.cat([superposition(0), superposition(1)])
    assert not torch.equal(drawn, buffer)
    assert torch.equal(drawn.sort(0).values, buffer.sort(0).values)


def test_a_buffer_smaller_than_a_batch_is_refused():
    stream = shuffled_batches(chunks, chunks_in_buffer=1, batch_tokens=513, seed=0)
    with pytest.raises(AutointerpError, match="batch_tokens 513 is more than the buffer of 512"):
        next(stream(0))


def test_explained_variance_by_hand(tmp_path):
    sae = train_topk(replace(SHORT, n_tokens=2560), batches(), tmp_path / "c.safetensors")
    x = superposition(7)
    recon = sae.decode(sae.encode(x))
    expected = 1 - ((x - recon) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    found = evaluate_reconstruction(sae, x)
    assert found["explained_variance"] == pytest.approx(float(expected), rel=1e-4)
    assert found["l0"] == float((sae.encode(x) > 0).sum() / len(x))
