"""BatchTopK (Bussmann et al. 2024) and Matryoshka BatchTopK (Bussmann et al. 2025).

    f = z where z is among the k · n_tokens largest of the whole batch and positive, else 0
    loss = Σ_g ‖y - ŷ_g‖² / (n_groups · ‖y - ȳ‖²) + α · AuxK

ŷ_g decodes the first latents up to the g-th nested width; BatchTopK has one group, all latents.
At inference a latent is kept where z > θ: θ is a running mean of the smallest kept value, so that
a token's latents do not depend on the tokens beside it.
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

THRESHOLD_MEMORY = 0.99
"""Weight of the running mean's past in each step."""


class BatchTopK:
    """k latents per token on average."""

    unit_norm_decoder = True
    nested = False

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
        positive = z.relu()
        n_kept = min(settings.k * len(x), positive.numel())
        values, places = positive.flatten().topk(n_kept, sorted=False)
        f = torch.zeros_like(positive).flatten().scatter(0, places, values).view_as(positive)
        _follow(state, values.detach())

        total_spread = spread(y)
        unexplained = y.new_zeros(())
        reconstruction = p["b_dec"].expand_as(y)
        terms: list[Tensor] = []
        last = 0
        for width in self._widths(settings):
            reconstruction = reconstruction + f[:, last:width] @ p["W_dec"][last:width]
            unexplained = (y - reconstruction).pow(2).sum() / total_spread
            terms.append(unexplained)
            last = width
        aux = aux_k_loss(settings, p, state, z, y - reconstruction)
        return Loss(
            torch.stack(terms).mean() + settings.aux_weight * aux,
            unexplained.detach(),
            (f > 0).any(0),
            (f > 0).sum(-1).float().mean(),
            {"aux_k": aux.detach()},
        )

    def _widths(self, settings: SaeSettings) -> list[int]:
        if not self.nested:
            return [settings.n_latents]
        return [max(1, round(share * settings.n_latents)) for share in settings.groups]

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """See `Objective.finish`."""
        return module("jumprelu", p, threshold=state.threshold.clamp_min(0.0).clone())


class Matryoshka(BatchTopK):
    """Nested dictionaries: every prefix of the latents reconstructs on its own."""

    nested = True


def _follow(state: Buffers, kept: Tensor) -> None:
    """Bring the running mean of the smallest kept value up to date."""
    positive = kept[kept > 0]
    if not len(positive):
        return
    smallest = positive.min()
    if float(state.threshold) < 0:
        state.threshold.copy_(smallest)
    else:
        state.threshold.mul_(THRESHOLD_MEMORY).add_(smallest * (1 - THRESHOLD_MEMORY))
