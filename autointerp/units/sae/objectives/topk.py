"""TopK (Gao et al. 2024, "Scaling and evaluating sparse autoencoders", §2.3 and appendix A).

f = relu(topk_k(z))
loss = ‖y - ŷ‖² / ‖y - ȳ‖² + α · AuxK
"""

import torch
from torch import Tensor

from autointerp.units.sae.model import SparseAutoencoder
from autointerp.units.sae.objectives.base import (
    Buffers,
    Loss,
    Parameters,
    SaeSettings,
    aux_k_loss,
    module,
    pre_activations,
    spread,
    tied_start,
)


class TopK:
    """k latents per token, exactly."""

    unit_norm_decoder = True

    def initial(self, settings: SaeSettings, x: Tensor, y: Tensor, seed: int) -> Parameters:
        """See `Objective.initial`."""
        return tied_start(settings, x, y, seed)

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
        z = pre_activations(p, x)
        values, indices = z.topk(settings.k, dim=-1, sorted=False)
        f = torch.zeros_like(z).scatter(-1, indices, values.relu())
        error = y - (f @ p["W_dec"] + p["b_dec"])
        unexplained = error.pow(2).sum() / spread(y)
        aux = aux_k_loss(settings, p, state, z, error)
        fired = torch.zeros_like(state.silent_tokens, dtype=torch.bool)
        fired[indices[values > 0]] = True
        return Loss(
            unexplained + settings.aux_weight * aux,
            unexplained.detach(),
            fired,
            (values > 0).sum(-1).float().mean(),
            {"aux_k": aux.detach()},
        )

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """See `Objective.finish`."""
        return module("topk", p, k=settings.k)
