"""Lists of active latents give what the dense products of the papers' equations give."""

import pytest
import torch
from torch import Tensor

from autointerp.units.sae.fitting import Schedule, train_saes
from autointerp.units.sae.objectives import OBJECTIVES, Buffers, SaeSettings
from autointerp.units.sae.objectives.base import spread, tied_start

D_IN, N_LATENTS, K, N_TOKENS = 10, 24, 3, 40


def data(seed: int = 0) -> Tensor:
    return torch.randn(N_TOKENS, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.5


def parameters(transcoder: bool = False) -> dict[str, Tensor]:
    settings = SaeSettings("topk", N_LATENTS, K)
    x = data()
    p = tied_start(settings, x, data(1) if transcoder else x, seed=3)
    generator = torch.Generator().manual_seed(5)
    p = {n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in p.items()}
    return {n: t.requires_grad_(n != "b_pre") for n, t in p.items()}


def dense(settings: SaeSettings, p: dict[str, Tensor], state: Buffers, x: Tensor, y: Tensor):
    """Loss by the equations, every product over all latents."""
    z = (x - p.get("b_pre", p["b_dec"])) @ p["W_enc"] + p["b_enc"]
    if settings.architecture == "topk":
        values, places = z.topk(settings.k, dim=-1)
        f = torch.zeros_like(z).scatter(-1, places, values.relu())
    else:
        values, places = z.relu().flatten().topk(settings.k * len(x))
        f = torch.zeros_like(z).flatten().scatter(0, places, values).view_as(z)
    shares = settings.groups if settings.architecture == "matryoshka" else (1.0,)
    losses = []
    for share in shares:
        width = round(share * settings.n_latents)
        error = y - (f[:, :width] @ p["W_dec"][:width] + p["b_dec"])
        losses.append(error.pow(2).sum() / spread(y))
    dead = state.silent_tokens > settings.dead_after_tokens
    values, places = z.masked_fill(~dead, -torch.inf).topk(settings.aux_k, dim=-1)
    f_dead = torch.zeros_like(z).scatter(-1, places, values.relu())
    residual = error.detach()
    aux = (residual - f_dead @ p["W_dec"]).pow(2).sum() / spread(residual)
    return torch.stack(losses).mean() + settings.aux_weight * aux


@pytest.mark.parametrize("transcoder", [False, True])
@pytest.mark.parametrize("name", ["topk", "batch_topk", "matryoshka"])
def test_loss_and_gradients_are_those_of_the_dense_equations(name, transcoder):
    settings = SaeSettings(
        name, N_LATENTS, K, groups=(0.25, 1.0), aux_k=4, dead_after_tokens=10, aux_weight=0.5
    )
    silent = torch.zeros(N_LATENTS)
    silent[::3] = 11
    x = data(2)
    y = data(3) if transcoder else x
    ours, theirs = parameters(transcoder), parameters(transcoder)
    loss = (
        OBJECTIVES[name].loss(settings, ours, Buffers(silent, torch.tensor(-1.0)), x, y, 1.0).total
    )
    expected = dense(settings, theirs, Buffers(silent, torch.tensor(-1.0)), x, y)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for part in ("W_enc", "b_enc", "W_dec", "b_dec"):
        torch.testing.assert_close(ours[part].grad, theirs[part].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("usual", [-1.0, 0.3, 5.0])
def test_the_largest_of_a_batch_do_not_depend_on_where_they_are_looked_for(usual):
    x = data(2)
    settings = SaeSettings("batch_topk", N_LATENTS, K, aux_k=0)
    found = [
        OBJECTIVES["batch_topk"].loss(
            settings, parameters(), Buffers(torch.zeros(N_LATENTS), torch.tensor(t)), x, x, 1.0
        )
        for t in (-1.0, usual)
    ]
    assert torch.equal(found[0].total, found[1].total)
    assert float(found[0].l0) == K


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_bfloat16_products_change_little_where_the_mean_is_large(name, tmp_path):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(32, 16, generator=generator)
    # The form of April begins at b_dec zero and takes long to reach a mean far away.
    mean = (3 if name == "relu_l1_april" else 30) * torch.randn(16, generator=generator)

    def batches(skip: int):
        while True:
            g = torch.Generator().manual_seed(100 + skip)
            active = torch.rand(512, 32, generator=g) < 2 / 32
            yield (active * torch.rand(512, 32, generator=g)) @ W + mean
            skip += 1

    settings = SaeSettings(name, 48, 3, l1=0.05, l0_target=3, bandwidth=0.1, learning_rate=3e-3)
    explained = []
    for low in (False, True):
        reports = []
        schedule = Schedule(n_tokens=200 * 512, batch_tokens=512, warmup_steps=20, bfloat16=low)
        train_saes({name: settings}, schedule, batches, tmp_path / f"{low}.st", reports.append)
        explained.append(reports[-1].explained_variance)
    assert explained[1] == pytest.approx(explained[0], abs=0.03)
    assert explained[0] > 0.5


def test_tokens_that_are_too_long_are_left_out(tmp_path):
    def batches(skip: int):
        while True:
            x = torch.randn(256, 8, generator=torch.Generator().manual_seed(skip))
            x[::50] = 1000.0
            yield x
            skip += 1

    def train(max_norm):
        reports = []
        schedule = Schedule(60 * 256, batch_tokens=256, warmup_steps=5, max_norm=max_norm)
        train_saes({"a": SaeSettings("topk", 32, 4, learning_rate=3e-3)}, schedule, batches,
                   tmp_path / f"{max_norm}.st", reports.append)  # fmt: skip
        return reports[-1]

    assert 0.4 < train(10.0).explained_variance < 0.9
    # The long ones alone are the variance: nearly all is explained by fitting those few.
    assert train(None).explained_variance > 0.9
