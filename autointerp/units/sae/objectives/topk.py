"""TopK (Gao et al. 2024, "Scaling and evaluating sparse autoencoders", §2.3 and appendix A).

f = relu(topk_k(z))
loss = ‖y - ŷ‖² / ‖y - ȳ‖² + α · AuxK
"""

from torch import Tensor

from autointerp.units.sae.model import SparseAutoencoder
from autointerp.units.sae.objectives.base import (
    Buffers,
    Loss,
    Parameters,
    SaeSettings,
    module,
    spread,
    tied_start,
)
from autointerp.units.sae.objectives.sparse import (
    Active,
    all_pre_activations,
    aux_k_loss,
    decoded,
    encoded,
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
        z = all_pre_activations(p, x)
        values, latents = z.topk(settings.k, dim=-1, sorted=False)
        active = Active.of_rows(latents, settings.n_latents)
        f = encoded(p, x, z, active).relu()
        error = y - (decoded(p, f, active) + p["b_dec"])
        unexplained = error.pow(2).sum() / spread(y)
        aux = aux_k_loss(settings, p, state, x, z, error)
        positive = values.flatten() > 0
        return Loss(
            unexplained + settings.aux_weight * aux,
            unexplained.detach(),
            active.where(positive).fired(),
            positive.sum() / len(x),
            {"aux_k": aux.detach()},
        )

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """See `Objective.finish`."""
        return module("topk", p, k=settings.k)
