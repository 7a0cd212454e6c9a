"""The training loop of sparse autoencoders: one or several in one pass over the activations.

Every dictionary has its own Adam and sees the same batches. Inputs and targets are scaled by one
number each, so that the median norm is √d and penalties mean the same at every hook point; the
scale is folded into the weights at the end.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.sae.model import SparseAutoencoder
from autointerp.units.sae.objectives import (
    OBJECTIVES,
    Buffers,
    Loss,
    Objective,
    Parameters,
    SaeSettings,
    resample,
)

REPORT_STEPS = 50


@dataclass(frozen=True)
class Schedule:
    """What the dictionaries of one training share."""

    n_tokens: int
    """Tokens to train on; the data are repeated if they hold fewer."""

    batch_tokens: int = 1024
    warmup_steps: int = 100
    decay_share: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls linearly to zero."""

    ema: float = 0.0
    """Weight of the past in a running mean of the parameters, which is what is kept; 0 for none."""

    d_in: int | None = None
    """Transcoders: batches hold inputs of this width and then targets; else both are one."""

    max_norm: float | None = None
    """Tokens longer than this many times the median are left out: attention sinks, few but so long
    that they would be most of the variance."""

    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = False
    """Matrix products of factors rounded to bfloat16; weights, sums and top k stay float32."""

    checkpoint_seconds: float = 120.0

    @property
    def n_steps(self) -> int:
        """Number of batches."""
        return max(1, self.n_tokens // self.batch_tokens)

    def rate(self, step: int) -> float:
        """Share of the learning rate at a step: linear up, flat, linear down."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        return warm * min(1.0, (self.n_steps - step) / max(1, int(self.n_steps * self.decay_share)))


@dataclass(frozen=True)
class Progress:
    """How far one dictionary is."""

    name: str
    n_tokens: int
    loss: float
    explained_variance: float
    """1 - ‖y - ŷ‖² / ‖y - ȳ‖² on the last batch."""

    l0: float
    """Mean active latents per token of the last batch."""

    dead_share: float
    tokens_per_second: float
    parts: dict[str, float] = field(default_factory=dict[str, float])


@dataclass
class _Fit:
    """One dictionary in training."""

    settings: SaeSettings
    objective: Objective
    parameters: Parameters
    state: Buffers
    optimiser: torch.optim.Adam
    mean: Parameters
    """Running mean of the parameters; empty without one."""

    @property
    def learnt(self) -> Parameters:
        fixed = _fixed(self.settings)
        return {n: p for n, p in self.parameters.items() if n not in fixed}

    def moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Adam's moments by the parameter's name; empty before the first step."""
        return {
            name: (self.optimiser.state[p]["exp_avg"], self.optimiser.state[p]["exp_avg_sq"])
            for name, p in self.learnt.items()
            if p in self.optimiser.state
        }

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds, by name."""
        found = {f"p|{n}": p.detach() for n, p in self.parameters.items()}
        for name, (first, second) in self.moments().items():
            found |= {f"m|{name}": first, f"v|{name}": second}
        found |= {f"e|{n}": p for n, p in self.mean.items()}
        found |= {"silent": self.state.silent_tokens, "threshold": self.state.threshold}
        return found

    @classmethod
    def of(
        cls, settings: SaeSettings, stored: Mapping[str, Tensor], step: int, ema: bool
    ) -> "_Fit":
        """From a checkpoint's tensors, or from first parameters (`p|` alone)."""
        # By name, as files list them: the norm of all gradients is a sum in this order.
        parts = {kind: {n[2:]: t for n, t in sorted(stored.items()) if n[:2] == kind} for kind in
                 ("p|", "m|", "v|", "e|")}  # fmt: skip
        parameters = parts["p|"]
        fixed = _fixed(settings)
        learnt = {n: p.requires_grad_() for n, p in parameters.items() if n not in fixed}
        # eps of Gao et al.: gradients of normalised losses are tiny.
        optimiser = torch.optim.Adam(
            learnt.values(), lr=settings.learning_rate, eps=6.25e-10, fused=True
        )
        for name, p in learnt.items():
            if name in parts["m|"]:
                optimiser.state[p] = {
                    "step": torch.tensor(float(step), device=p.device),
                    "exp_avg": parts["m|"][name],
                    "exp_avg_sq": parts["v|"][name],
                }
        like = parameters["W_dec"]
        state = Buffers(
            stored.get("silent", torch.zeros(settings.n_latents, device=like.device)),
            stored.get("threshold", torch.tensor(-1.0, device=like.device)),
        )
        mean = parts["e|"] or ({n: p.detach().clone() for n, p in learnt.items()} if ema else {})
        return cls(settings, OBJECTIVES[settings.architecture], parameters, state, optimiser, mean)


def _fixed(settings: SaeSettings) -> tuple[str, ...]:
    """Parameters that are not learnt."""
    return ("b_pre", "W_dec") if settings.decoder == "frozen" else ("b_pre",)


def _initial(settings: SaeSettings, schedule: Schedule, x: Tensor, y: Tensor) -> Parameters:
    objective = OBJECTIVES[settings.architecture]
    return objective.initial(settings, x, y, _seed(settings, schedule))


def _seed(settings: SaeSettings, schedule: Schedule) -> int:
    return schedule.seed if settings.seed is None else settings.seed


def train_saes(
    settings: Mapping[str, SaeSettings],
    schedule: Schedule,
    batches: Callable[[int], Iterator[Tensor]],
    checkpoint: Path,
    report: Callable[[Progress], None] | None = None,
) -> dict[str, SparseAutoencoder]:
    """Train, continuing from `checkpoint` where there is one.

    Args:
        settings: by name.
        schedule: what they share.
        batches: given the number of batches already used, iterates [batch_tokens, width] float32
            tensors without end; must give the same batches every time it is asked.
        checkpoint: file written every `checkpoint_seconds`, atomically.
        report: called for every dictionary about every 50 steps.

    Returns:
        The dictionaries by name, on the CPU, in the units of the activations.

    Raises:
        AutointerpError: for an unknown architecture, or a loss that is no longer finite.
    """
    for name, each in settings.items():
        if each.architecture not in OBJECTIVES:
            raise AutointerpError(
                f"{name}: architecture {each.architecture!r} is none of {', '.join(OBJECTIVES)}"
            )
    stored = _read(checkpoint, schedule.device)
    step = int(stored["step"]) if stored else 0
    source = batches(step)
    if stored:
        scales = stored["scales"]
    else:
        first = next(source).to(schedule.device)
        source = _chain(first, source)
        scales = _scales(first, schedule)
        x, y = _kept(*_split(first, scales, schedule), schedule)
        stored = {
            f"{name}/p|{n}": p
            for name, each in settings.items()
            for n, p in _initial(each, schedule, x, y).items()
        }
    fits = {name: _Fit.of(each, _of(stored, name), step, schedule.ema > 0)
            for name, each in settings.items()}  # fmt: skip

    def save() -> None:
        tensors = {f"{n}/{k}": t for n, fit in fits.items() for k, t in fit.tensors().items()}
        tensors |= {"step": torch.tensor(step), "scales": scales}
        partial = checkpoint.with_suffix(".partial")
        save_file({k: t.contiguous() for k, t in tensors.items()}, partial)
        partial.replace(checkpoint)

    saved = reported = time.monotonic()
    reported_step = step
    while step < schedule.n_steps:
        x, y = _kept(*_split(next(source).to(schedule.device), scales, schedule), schedule)
        losses = {name: _step(fit, schedule, step, x, y) for name, fit in fits.items()}
        step += 1
        now = time.monotonic()
        if report is not None and (step % REPORT_STEPS == 0 or step == schedule.n_steps):
            rate = (step - reported_step) * schedule.batch_tokens / max(now - reported, 1e-9)
            for name, loss in losses.items():
                report(_progress(name, fits[name], loss, step * schedule.batch_tokens, rate))
            reported, reported_step = time.monotonic(), step
        if now - saved > schedule.checkpoint_seconds or step == schedule.n_steps:
            save()
            saved = now
    return {name: _finished(fit, scales) for name, fit in fits.items()}


def _step(fit: _Fit, schedule: Schedule, step: int, x: Tensor, y: Tensor) -> Loss:
    """One step of one dictionary."""
    settings = fit.settings
    for group in fit.optimiser.param_groups:
        group["lr"] = settings.learning_rate * schedule.rate(step)
    warm = min(1.0, (step + 1) / max(1.0, settings.sparsity_warmup * schedule.n_steps))
    with torch.autocast(x.device.type, torch.bfloat16, enabled=schedule.bfloat16):
        loss = fit.objective.loss(settings, fit.parameters, fit.state, x, y, warm)
    if not bool(torch.isfinite(loss.total)):
        raise AutointerpError(
            f"the loss of a {settings.architecture} dictionary is {float(loss.total)} at step "
            f"{step}: lower `learning_rate` (now {settings.learning_rate})"
        )
    fit.optimiser.zero_grad()
    loss.total.backward()
    W_dec = fit.parameters["W_dec"]
    keeps_norms = fit.objective.unit_norm_decoder and W_dec.requires_grad
    if keeps_norms:
        _project_gradient(W_dec)
    torch.nn.utils.clip_grad_norm_(fit.learnt.values(), 1.0)
    fit.optimiser.step()
    with torch.no_grad():
        if keeps_norms:
            W_dec /= W_dec.norm(dim=1, keepdim=True)
        fit.state.silent_tokens += len(x)
        fit.state.silent_tokens[loss.fired] = 0
        if step + 1 in settings.resample_at:
            generator = torch.Generator().manual_seed(_seed(settings, schedule) * 1_000_003 + step)
            # The batch without its graph: what is drawn anew does not learn from this step.
            with torch.no_grad():
                plain = {n: p.data for n, p in fit.parameters.items()}
                resample(settings, plain, fit.moments(), fit.state, x, y, generator)
        for name, mean in fit.mean.items():
            mean.lerp_(fit.parameters[name].detach(), 1 - schedule.ema)
    return loss


def _progress(name: str, fit: _Fit, loss: Loss, n_tokens: int, rate: float) -> Progress:
    dead = fit.state.silent_tokens > fit.settings.dead_after_tokens
    return Progress(
        name,
        n_tokens,
        float(loss.total.detach()),
        1 - float(loss.unexplained),
        float(loss.l0),
        float(dead.float().mean()),
        rate,
        {part: float(value) for part, value in loss.parts.items()},
    )


def _finished(fit: _Fit, scales: Tensor) -> SparseAutoencoder:
    """The dictionary in the units of the activations, on the CPU.

    With x' = s_x x and y' = s_y y: f = f' / s_y, so that decoder rows keep their norm.
    """
    parameters = {n: p.detach() for n, p in fit.parameters.items()} | fit.mean
    sae = fit.objective.finish(fit.settings, parameters, fit.state)
    s_x, s_y = (float(scale) for scale in scales)
    sae.W_enc = sae.W_enc * (s_x / s_y)
    sae.b_enc = sae.b_enc / s_y
    sae.b_pre, sae.b_dec = sae.b_pre / s_x, sae.b_dec / s_y
    if sae.threshold is not None:
        sae.threshold = sae.threshold / s_y
    if sae.gate is not None:
        b_gate, r_mag, b_mag = sae.gate
        sae.gate = (b_gate / s_y, r_mag, b_mag / s_y)
    return sae.to("cpu")


def _scales(batch: Tensor, schedule: Schedule) -> Tensor:
    """[2] what inputs and targets are multiplied by: √d / median norm."""
    parts = (batch, batch) if schedule.d_in is None else (
        batch[:, : schedule.d_in], batch[:, schedule.d_in :])  # fmt: skip
    norms = [part.shape[1] ** 0.5 / part.norm(dim=1).median().clamp_min(1e-8) for part in parts]
    return torch.stack(norms)


def _split(batch: Tensor, scales: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Scaled inputs and targets; the same tensor for an autoencoder."""
    if schedule.d_in is None:
        x = batch * scales[0]
        return x, x
    return batch[:, : schedule.d_in] * scales[0], batch[:, schedule.d_in :] * scales[1]


def _kept(x: Tensor, y: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """The tokens that are not too long; scaled, the median norm is √d."""
    if schedule.max_norm is None:
        return x, y
    kept = x.norm(dim=1) <= schedule.max_norm * x.shape[1] ** 0.5
    if y is not x:
        kept &= y.norm(dim=1) <= schedule.max_norm * y.shape[1] ** 0.5
    if bool(kept.all()):
        return x, y
    shorter = x[kept]
    return shorter, shorter if y is x else y[kept]


def _read(checkpoint: Path, device: str) -> dict[str, Tensor]:
    """A checkpoint's tensors; none where there is no file.

    Copied into memory of their own: rounding in a product can depend on where a tensor begins, and
    in a mapped file that is anywhere.
    """
    if not checkpoint.exists():
        return {}
    return {name: tensor.clone() for name, tensor in load_file(checkpoint, device=device).items()}


def _of(stored: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """A checkpoint's tensors of one dictionary."""
    return {k[len(name) + 1 :]: t for k, t in stored.items() if k.startswith(f"{name}/")}


def _chain(first: Tensor, rest: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest


def _project_gradient(W_dec: Tensor) -> None:
    """Remove the part of the gradient along each row: it would only change the fixed norm."""
    assert W_dec.grad is not None
    along = (W_dec.grad * W_dec.detach()).sum(dim=1, keepdim=True)
    W_dec.grad -= along * W_dec.detach()
