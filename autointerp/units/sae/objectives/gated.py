"""Gated (Rajamanoharan et al. 2024a, "Improving dictionary learning with gated SAEs", eqs. 3-8).

    u = (x - b_pre) W_enc,   π = u + b_gate,   f = 1[π > 0] · relu(u · exp(r_mag) + b_mag)
    loss = mean ‖y - ŷ‖² + λ mean ‖relu(π)‖₁ + mean ‖y - (relu(π) W_dec* + b_dec*)‖²

* held fixed in the last term, which is there to train the gate, not the decoder. Unit-norm decoder.
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


class _Gate(torch.autograd.Function):
    """f = 1[π > 0] relu(π s + c) and relu(π); sums of both, and which latents fired, with them."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
        f, opened = torch.empty_like(gate), torch.empty_like(gate)
        counts, l1 = torch.zeros_like(scale), gate.new_zeros(())
        for rows in row_blocks(gate):
            torch.clamp_min(gate[rows], 0, out=opened[rows])
            l1 += opened[rows].sum()
            magnitude = torch.addcmul(shift, gate[rows], scale).relu_()
            torch.mul(magnitude, gate[rows] > 0, out=f[rows])
            counts += (f[rows] > 0).sum(0)
        ctx.save_for_backward(gate, scale, shift)
        ctx.mark_non_differentiable(counts)
        return f, opened, l1, counts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate, scale, shift = ctx.saved_tensors
        by_f, by_opened, by_l1, _ = gradients
        by_gate = torch.empty_like(gate)
        by_scale, by_shift = torch.zeros_like(scale), torch.zeros_like(shift)
        for rows in row_blocks(gate):
            is_open = gate[rows] > 0
            fires = torch.addcmul(shift, gate[rows], scale) > 0
            by_magnitude = by_f[rows] * fires.logical_and_(is_open)
            by_shift += by_magnitude.sum(0)
            by_scale += (by_magnitude * gate[rows]).sum(0)
            torch.mul(by_opened[rows] + by_l1, is_open, out=by_gate[rows])
            by_gate[rows].addcmul_(by_magnitude, scale)
        return by_gate, by_scale, by_shift


class Gated:
    """Which latents are active, and how strongly, by two heads that share their directions."""

    unit_norm_decoder = True

    def initial(self, settings: SaeSettings, x: Tensor, y: Tensor, seed: int) -> Parameters:
        """See `Objective.initial`."""
        p = tied_start(settings, x, y, seed)
        zeros = p.pop("b_enc")
        return p | {"b_gate": zeros, "r_mag": zeros.clone(), "b_mag": zeros.clone()}

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
        # exp(r) (π - b_gate) + b_mag, the two biases as one.
        scale = p["r_mag"].exp()
        gated: Any = _Gate.apply(
            pre_activations(p, x, "b_gate"), scale, p["b_mag"] - p["b_gate"] * scale
        )
        f, opened, l1, counts = gated
        squared = (y - (f @ p["W_dec"] + p["b_dec"])).pow(2).sum()
        through_gate = opened @ p["W_dec"].detach() + p["b_dec"].detach()
        auxiliary = (y - through_gate).pow(2).sum() / len(x)
        penalty = l1 / len(x)
        return Loss(
            squared / len(x) + settings.l1 * warm * penalty + auxiliary,
            (squared / spread(y)).detach(),
            counts > 0,
            counts.sum() / len(x),
            {"l1": penalty.detach(), "gate": auxiliary.detach()},
        )

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """See `Objective.finish`."""
        gate = (p["b_gate"], p["r_mag"], p["b_mag"])
        return module("gated", p | {"b_enc": torch.zeros_like(p["b_gate"])}, gate=gate)
