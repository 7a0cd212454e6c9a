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
        z = all_pre_activations(p, x)
        places = _largest(z.flatten(), settings.k * len(x), float(state.threshold))
        tokens = places // settings.n_latents
        active = Active(places % settings.n_latents, tokens, len(x), settings.n_latents)
        f = encoded(p, x, z, active)
        _follow(state, f.detach())

        total_spread = spread(y)
        unexplained = y.new_zeros(())
        reconstruction = p["b_dec"].expand_as(y)
        terms: list[Tensor] = []
        last = 0
        for width in self._widths(settings):
            inside = (active.latents >= last) & (active.latents < width)
            reconstruction = reconstruction + decoded(p, f[inside], active.where(inside))
            unexplained = (y - reconstruction).pow(2).sum() / total_spread
            terms.append(unexplained)
            last = width
        aux = aux_k_loss(settings, p, state, x, z, y - reconstruction)
        return Loss(
            torch.stack(terms).mean() + settings.aux_weight * aux,
            unexplained.detach(),
            active.fired(),
            torch.tensor(len(f) / len(x)),
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


def _largest(z: Tensor, n: int, usual: float) -> Tensor:
    """Places of the `n` largest positive values of z [n_values], ascending; fewer if there are not.

    Args:
        usual: about the smallest value that is kept; saves looking at most of the others.
    """
    places = (z > max(0.9 * usual, 0.0)).nonzero().flatten()
    if len(places) < n and usual > 0:
        places = (z > 0).nonzero().flatten()
    if len(places) > n:
        places = places[z[places].topk(n, sorted=False).indices].sort().values
    return places


def _follow(state: Buffers, kept: Tensor) -> None:
    """Bring the running mean of the smallest kept value, all positive, up to date."""
    if not len(kept):
        return
    if float(state.threshold) < 0:
        state.threshold.copy_(kept.min())
    else:
        state.threshold.mul_(THRESHOLD_MEMORY).add_(kept.min() * (1 - THRESHOLD_MEMORY))
