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
    row_blocks,
    spread,
    tied_start,
)

INITIAL_THRESHOLD = 0.01


class _Jump(torch.autograd.Function):
    """f, L0 and which latents fired, of z ≥ 0, with the estimates of their derivatives in θ."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, width: float) -> tuple[Tensor, Tensor, Tensor]:
        f, counts = torch.empty_like(z), torch.zeros_like(theta)
        for rows in row_blocks(z):
            active = z[rows].relu() > theta
            torch.mul(z[rows], active, out=f[rows])
            counts += active.sum(0)
        fired = counts > 0
        ctx.save_for_backward(z, theta)
        ctx.mark_non_differentiable(fired)
        ctx.width = width
        return f, counts.sum() / len(z), fired

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        z, theta = ctx.saved_tensors
        by_f, by_l0, _ = gradients
        by_z = torch.empty_like(z)
        by_theta, n_inside = torch.zeros_like(theta), torch.zeros_like(theta)
        for rows in row_blocks(z):
            positive = z[rows].relu()
            inside = (positive - theta).abs_() < ctx.width / 2
            by_theta += (by_f[rows] * inside).sum(0)
            n_inside += inside.sum(0)
            torch.mul(by_f[rows], positive > theta, out=by_z[rows])
        return by_z, -(theta * by_theta + by_l0 / len(z) * n_inside) / ctx.width, None


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
        jumped: Any = _Jump.apply(pre_activations(p, x), p["threshold"].relu(), settings.bandwidth)
        f, l0, fired = jumped
        squared = (y - (f @ p["W_dec"] + p["b_dec"])).pow(2).sum()
        total_spread = spread(y)
        penalty = (l0 / settings.l0_target - 1).pow(2) * total_spread.detach() / len(x)
        return Loss(
            squared / len(x) + settings.l0_weight * warm * penalty,
            (squared / total_spread).detach(),
            fired,
            l0.detach(),
            {"l0_penalty": penalty.detach()},
        )

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """See `Objective.finish`."""
        return module("jumprelu", p, threshold=p["threshold"].relu())
