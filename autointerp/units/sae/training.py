"""Train a TopK sparse autoencoder (Gao et al. 2024, "Scaling and evaluating sparse autoencoders").

    z = W_enc (x - b) + b_enc,  f = relu(topk_k(z)),  x̂ = W_dec f + b
    loss = ‖x - x̂‖² / ‖x - x̄‖² + α · ‖(x - x̂) - ê‖² / ‖x - x̄‖²

ê reconstructs the error from the top `aux_k` of the latents that have not fired lately (AuxK): it
is what keeps latents alive. Decoder rows have unit norm.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.sae.model import SparseAutoencoder


@dataclass(frozen=True)
class TopKTraining:
    """What one training needs to know besides its data."""

    n_latents: int
    k: int
    n_tokens: int
    """Tokens to train on; the data are repeated if they hold fewer."""

    batch_tokens: int = 1024
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_share: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls linearly to zero."""

    aux_k: int = 256
    aux_weight: float = 1 / 32
    dead_after_tokens: int = 100_000
    """A latent that has not fired for this many tokens counts as dead for AuxK."""

    seed: int = 0
    checkpoint_seconds: float = 120.0


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    n_tokens: int
    loss: float
    explained_variance: float
    dead_share: float
    tokens_per_second: float


def train_topk(
    settings: TopKTraining,
    batches: Callable[[int], Iterator[Tensor]],
    checkpoint: Path,
    report: Callable[[Progress], None] | None = None,
) -> SparseAutoencoder:
    """Train, continuing from `checkpoint` where there is one.

    Args:
        batches: given the number of batches already used, iterates [batch_tokens, d_in] float32
            tensors without end; must give the same batches every time it is asked.
        checkpoint: file written every `checkpoint_seconds`, atomically.
        report: called about every 50 steps.

    Returns:
        The dictionary after `n_tokens`, on the CPU.
    """
    n_steps = max(1, settings.n_tokens // settings.batch_tokens)
    state = load_file(checkpoint) if checkpoint.exists() else None
    step = int(state["step"]) if state else 0
    source = batches(step)
    if state is None:
        first = next(source)
        source = _chain(first, source)
        state = _initial_state(settings, first)
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    parameters = {name: state[name].requires_grad_() for name in names}
    silent_tokens = state["silent_tokens"]
    optimiser = torch.optim.Adam(parameters.values(), lr=settings.learning_rate, eps=6.25e-10)
    if step:
        for name in names:
            optimiser.state[parameters[name]] = {
                "step": state["step"].float(),
                "exp_avg": state[f"{name}.m"],
                "exp_avg_sq": state[f"{name}.v"],
            }

    def save() -> None:
        tensors = {name: p.detach() for name, p in parameters.items()}
        for name in names:
            moments = optimiser.state[parameters[name]]
            tensors |= {f"{name}.m": moments["exp_avg"], f"{name}.v": moments["exp_avg_sq"]}
        tensors |= {"step": torch.tensor(step), "silent_tokens": silent_tokens}
        partial = checkpoint.with_suffix(".partial")
        save_file(tensors, partial)
        partial.replace(checkpoint)

    saved = reported = time.monotonic()
    reported_step = step
    while step < n_steps:
        x = next(source)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, n_steps, settings)
        loss, unexplained = _step(x, parameters, silent_tokens, settings)
        optimiser.zero_grad()
        loss.backward()
        _project_decoder_gradient(parameters["W_dec"])
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        with torch.no_grad():
            W_dec = parameters["W_dec"]
            W_dec /= W_dec.norm(dim=1, keepdim=True)
        step += 1
        now = time.monotonic()
        if report is not None and (step % 50 == 0 or step == n_steps):
            rate = (step - reported_step) * settings.batch_tokens / max(now - reported, 1e-9)
            dead = float((silent_tokens > settings.dead_after_tokens).float().mean())
            report(
                Progress(
                    step * settings.batch_tokens, float(loss.detach()), 1 - unexplained, dead, rate
                )
            )
            reported, reported_step = now, step
        if now - saved > settings.checkpoint_seconds or step == n_steps:
            save()
            saved = now
    W_enc, b_enc, W_dec, b_dec = (parameters[name].detach() for name in names)
    return SparseAutoencoder("topk", W_enc, b_enc, b_dec, W_dec, b_dec, k=settings.k)


def _chain(first: Tensor, rest: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest


def _initial_state(settings: TopKTraining, first: Tensor) -> dict[str, Tensor]:
    """Decoder rows are random unit vectors, the encoder its transpose, b the data's mean."""
    d_in = first.shape[1]
    generator = torch.Generator().manual_seed(settings.seed)
    W_dec = torch.randn(settings.n_latents, d_in, generator=generator)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    return {
        "step": torch.tensor(0),
        "W_dec": W_dec,
        "W_enc": W_dec.T.contiguous(),
        "b_enc": torch.zeros(settings.n_latents),
        "b_dec": first.mean(0),
        "silent_tokens": torch.zeros(settings.n_latents),
    }


def _step(
    x: Tensor, p: dict[str, Tensor], silent_tokens: Tensor, settings: TopKTraining
) -> tuple[Tensor, float]:
    """Loss of one batch [n_tokens, d_in] and its unexplained share of variance.

    `silent_tokens` [n_latents] is brought up to date in place.
    """
    z = (x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]
    values, indices = z.topk(settings.k, dim=-1, sorted=False)
    f = torch.zeros_like(z).scatter(-1, indices, values.relu())
    error = x - (f @ p["W_dec"] + p["b_dec"])
    variance = (x - x.mean(0)).pow(2).sum()
    reconstruction_loss = error.pow(2).sum() / variance
    loss = reconstruction_loss

    with torch.no_grad():
        fired = torch.zeros_like(silent_tokens, dtype=torch.bool)
        fired[indices[values > 0]] = True
        silent_tokens += len(x)
        silent_tokens[fired] = 0
        dead = silent_tokens > settings.dead_after_tokens
    n_aux = min(settings.aux_k, int(dead.sum()))
    if n_aux:
        dead_values, dead_indices = z.masked_fill(~dead, -torch.inf).topk(n_aux, sorted=False)
        f_dead = torch.zeros_like(z).scatter(-1, dead_indices, dead_values.relu())
        residual = error.detach() - f_dead @ p["W_dec"]
        loss = loss + settings.aux_weight * residual.pow(2).sum() / variance
    return loss, float(reconstruction_loss.detach())


def _project_decoder_gradient(W_dec: Tensor) -> None:
    """Remove the part of the gradient along each row: it would only change the fixed norm."""
    assert W_dec.grad is not None
    along = (W_dec.grad * W_dec.detach()).sum(dim=1, keepdim=True)
    W_dec.grad -= along * W_dec.detach()


def _schedule(step: int, n_steps: int, settings: TopKTraining) -> float:
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    decay_steps = max(1, int(n_steps * settings.decay_share))
    return warm * min(1.0, (n_steps - step) / decay_steps)


def shuffled_batches(
    activations: Callable[[int], Iterator[Tensor]],
    *,
    chunks_in_buffer: int,
    batch_tokens: int,
    seed: int,
) -> Callable[[int], Iterator[Tensor]]:
    """Batches of activations drawn at random from a buffer of `chunks_in_buffer` chunks.

    The buffer is filled, shuffled with a seed of its own number, and used up before the next: so
    the n-th batch is known without the ones before it, and a killed training goes on where it was.

    Args:
        activations: given the number of chunks to skip, iterates chunks [n, d_in] of one size
            without end.
    """

    def batches(n_used: int) -> Iterator[Tensor]:
        first = next(activations(0))
        per_buffer = len(first) * chunks_in_buffer // batch_tokens
        if not per_buffer:
            raise AutointerpError(
                f"batch_tokens {batch_tokens} is more than the buffer of "
                f"{len(first) * chunks_in_buffer} tokens; raise buffer_chunks"
            )
        number, offset = divmod(n_used, per_buffer)
        source = activations(number * chunks_in_buffer)
        while True:
            buffer = torch.cat([next(source) for _ in range(chunks_in_buffer)])
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            order = torch.randperm(len(buffer), generator=generator)
            for i in range(offset, per_buffer):
                yield buffer[order[i * batch_tokens : (i + 1) * batch_tokens]]
            number, offset = number + 1, 0

    return batches


def evaluate_reconstruction(sae: SparseAutoencoder, x: Tensor) -> dict[str, float]:
    """Explained variance, L0 and dead share on held-out hidden states [n_tokens, d_in].

    explained variance = 1 - E‖x - x̂‖² / E‖x - E x‖²
    """
    f = sae.encode(x)
    error = x - sae.decode(f, x)
    variance = (x - x.mean(0)).pow(2).sum(-1).mean()
    return {
        "explained_variance": float(1 - error.pow(2).sum(-1).mean() / variance),
        "l0": float((f > 0).sum(-1).float().mean()),
        "dead_share": float((f.amax(0) <= 0).float().mean()),
        "max_decoder_cosine_mean": float(_max_cosine(sae.W_dec).mean()),
        "n_tokens": len(x),
    }


def _max_cosine(W_dec: Tensor) -> Tensor:
    unit = W_dec / W_dec.norm(dim=1, keepdim=True)
    cosine = unit @ unit.T
    return cosine.fill_diagonal_(-1).amax(1)


def write_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Write metrics as JSON beside the dictionary."""
    path.write_text(json.dumps(metrics, indent=2) + "\n")
