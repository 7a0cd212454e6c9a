"""Gated (Rajamanoharan et al. 2024a, "Improving dictionary learning with gated SAEs", eqs. 3-8).

    u = (x - b_pre) W_enc,   π = u + b_gate,   f = 1[π > 0] · relu(u · exp(r_mag) + b_mag)
    loss = mean ‖y - ŷ‖² + λ mean ‖relu(π)‖₁ + mean ‖y - (relu(π) W_dec* + b_dec*)‖²

* held fixed in the last term, which is there to train the gate, not the decoder. Unit-norm decoder.
"""

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
        gate = pre_activations(p, x, "b_gate")
        # exp(r) (π - b_gate) + b_mag, the two biases as one.
        scale = p["r_mag"].exp()
        magnitude = torch.addcmul(p["b_mag"] - p["b_gate"] * scale, gate, scale)
        f = (gate > 0) * magnitude.relu()
        opened = gate.relu()
        squared = (y - (f @ p["W_dec"] + p["b_dec"])).pow(2).sum()
        through_gate = opened @ p["W_dec"].detach() + p["b_dec"].detach()
        auxiliary = (y - through_gate).pow(2).sum() / len(x)
        penalty = opened.sum() / len(x)
        fires = f > 0
        return Loss(
            squared / len(x) + settings.l1 * warm * penalty + auxiliary,
            (squared / spread(y)).detach(),
            fires.any(0),
            fires.sum() / len(x),
            {"l1": penalty.detach(), "gate": auxiliary.detach()},
        )

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """See `Objective.finish`."""
        gate = (p["b_gate"], p["r_mag"], p["b_mag"])
        return module("gated", p | {"b_enc": torch.zeros_like(p["b_gate"])}, gate=gate)
