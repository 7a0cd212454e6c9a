"""JumpReLU (Rajamanoharan et al. 2024b, "Jumping ahead", eqs. 3-12), with a target for L0.

    f = z · 1[z > θ]
    loss = mean ‖y - ŷ‖² + c · (L0 / L0* - 1)² · mean ‖y - ȳ‖²,   L0 = mean Σ_i 1[z_i > θ_i]

The step has no gradient; θ learns by straight-through estimates with a rectangle K of width ε:

    ∂f/∂θ ≈ -(θ/ε) K((z - θ)/ε),   ∂1[z > θ]/∂θ ≈ -(1/ε) K((z - θ)/ε)
"""

from typing import Any

import torch
from torch import Tensor

from autointerp.units.sae.model import SparseAutoencoder
from autointerp.units.sae.objectives.base import (
    Buffers,
    Loss,
    Parameters,
    SaeSettings,
    module,
    pre_activations,
    spread,
    tied_start,
)

INITIAL_THRESHOLD = 0.01


class _Jump(torch.autograd.Function):
    """z · 1[z > θ] with the estimate of its derivative in θ."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(z, theta)
        ctx.width = width
        return z * (z > theta)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        z, theta = ctx.saved_tensors
        inside = ((z - theta).abs() < ctx.width / 2).to(z.dtype)
        by_theta = -(theta / ctx.width) * inside * gradients[0]
        return gradients[0] * (z > theta), by_theta.sum(0), None


class _Step(torch.autograd.Function):
    """1[z > θ] with the estimate of its derivative in θ."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(z, theta)
        ctx.width = width
        return (z > theta).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        z, theta = ctx.saved_tensors
        inside = ((z - theta).abs() < ctx.width / 2).to(z.dtype)
        return None, (-(1 / ctx.width) * inside * gradients[0]).sum(0), None


class JumpRelu:
    """A threshold of its own for every latent."""

    unit_norm_decoder = True

    def initial(self, settings: SaeSettings, x: Tensor, y: Tensor, seed: int) -> Parameters:
        """See `Objective.initial`."""
        p = tied_start(settings, x, y, seed)
        return p | {"threshold": torch.full_like(p["b_enc"], INITIAL_THRESHOLD)}

    def loss(
        self,
        settings: SaeSettings,
        p: Parameters,
        state: Buffers,
        x: Tensor,
        y: Tensor,
        warm: float,
    ) -> Loss:
        """See the module's equation."""
        z = pre_activations(p, x).relu()
        theta = p["threshold"].relu()
        f = _Jump.apply(z, theta, settings.bandwidth)
        active = _Step.apply(z, theta, settings.bandwidth)
        assert isinstance(f, Tensor) and isinstance(active, Tensor)
        squared = (y - (f @ p["W_dec"] + p["b_dec"])).pow(2).sum()
        l0 = active.sum(-1).mean()
        total_spread = spread(y)
        penalty = (l0 / settings.l0_target - 1).pow(2) * total_spread.detach() / len(x)
        return Loss(
            squared / len(x) + settings.l0_weight * warm * penalty,
            (squared / total_spread).detach(),
            (f > 0).any(0),
            l0.detach(),
            {"l0_penalty": penalty.detach()},
        )

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """See `Objective.finish`."""
        return module("jumprelu", p, threshold=p["threshold"].relu())
