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
    """f, L0 and which latents fired, of z ≥ 0, with the estimates of their derivatives in θ.

    In one function: each pass over all of z costs a good part of a matrix product.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, width: float) -> tuple[Tensor, Tensor, Tensor]:
        z = z.relu()
        active = z > theta
        fired = active.any(0)
        ctx.save_for_backward(z, theta, active)
        ctx.mark_non_differentiable(fired)
        ctx.width = width
        return z * active, active.sum().to(z.dtype) / len(z), fired

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        z, theta, active = ctx.saved_tensors
        by_f, by_l0, _ = gradients
        inside = (z - theta).abs_() < ctx.width / 2
        by_theta = theta * (inside * by_f).sum(0) + by_l0 / len(z) * inside.sum(0)
        return by_f * active, -by_theta / ctx.width, None


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
