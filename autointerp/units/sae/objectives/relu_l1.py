"""ReLU with an L1 penalty, in two forms.

Towards Monosemanticity (Bricken et al. 2023), "Sparse Autoencoders", decoder rows of norm 1:

    f = relu(z),   loss = mean ‖y - ŷ‖² + λ mean Σ_i f_i

Its April 2024 form (Conerly et al., Circuits Updates), decoder free, so that shrinking f and
growing W_dec gains nothing:

    loss = mean ‖y - ŷ‖² + λ mean Σ_i f_i ‖W_dec,i‖
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

RESAMPLED_ENCODER_NORM = 0.2
"""Norm of a resampled latent's encoder, as a share of the mean norm of those alive."""


class ReluL1:
    """Unit-norm decoder, dead latents resampled at set steps."""

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
        """See the module's equations."""
        f = pre_activations(p, x).relu()
        squared = (y - (f @ p["W_dec"] + p["b_dec"])).pow(2).sum()
        penalty = (f * self._weights(p)).sum() / len(x)
        fires = f > 0
        return Loss(
            squared / len(x) + settings.l1 * warm * penalty,
            (squared / spread(y)).detach(),
            fires.any(0),
            fires.sum() / len(x),
            {"l1": penalty.detach()},
        )

    def _weights(self, p: Parameters) -> Tensor | float:
        return 1.0

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """See `Objective.finish`."""
        return module("relu", p)


class ReluL1April(ReluL1):
    """Free decoder; the penalty takes its norm into account."""

    unit_norm_decoder = False

    def initial(self, settings: SaeSettings, x: Tensor, y: Tensor, seed: int) -> Parameters:
        """See `Objective.initial`; decoder rows of norm 0.1, b_dec zero."""
        p = tied_start(settings, x, y, seed, decoder_norm=0.1)
        return p | {"b_dec": torch.zeros_like(p["b_dec"])}

    def _weights(self, p: Parameters) -> Tensor | float:
        return p["W_dec"].norm(dim=1)

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """The same function with decoder rows of norm 1, so that activations can be compared."""
        norm = p["W_dec"].norm(dim=1).clamp_min(1e-8)
        scaled = {"W_enc": p["W_enc"] * norm, "b_enc": p["b_enc"] * norm}
        return module("relu", p | scaled | {"W_dec": p["W_dec"] / norm[:, None]})


@torch.no_grad()
def resample(
    settings: SaeSettings,
    p: Parameters,
    moments: dict[str, tuple[Tensor, Tensor]],
    state: Buffers,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
) -> int:
    """Draw dead latents anew from tokens that are reconstructed badly (Bricken et al. 2023).

    A token is drawn with a probability in proportion to its squared loss. The latent's decoder row
    becomes the token's direction, its encoder the same at a fifth of the mean encoder norm of the
    living, its bias zero; its moments in the optimiser are forgotten.

    Args:
        moments: parameter's name → Adam's first and second moment.
        x: [n_tokens, d_in] the tokens to draw from, `y` their targets.

    Returns:
        How many latents were drawn.
    """
    dead = torch.nonzero(state.silent_tokens > settings.dead_after_tokens).flatten()
    f = pre_activations(p, x).relu()
    error = (y - (f @ p["W_dec"] + p["b_dec"])).pow(2).sum(-1)
    chances = error.pow(2)
    n = min(len(dead), int((chances > 0).sum()))
    if not n:
        return 0
    drawn = torch.multinomial((chances / chances.sum()).double().cpu(), n, generator=generator)
    dead, drawn = dead[:n], drawn.to(x.device)
    alive = state.silent_tokens <= settings.dead_after_tokens
    norm = p["W_enc"][:, alive].norm(dim=0).mean() if bool(alive.any()) else x.new_ones(())
    target = y[drawn] - p["b_dec"]
    p["W_dec"][dead] = target / target.norm(dim=1, keepdim=True).clamp_min(1e-8)
    source = x[drawn] - (p["b_pre"] if "b_pre" in p else p["b_dec"])
    direction = source / source.norm(dim=1, keepdim=True).clamp_min(1e-8)
    p["W_enc"][:, dead] = (direction * norm * RESAMPLED_ENCODER_NORM).T
    p["b_enc"][dead] = 0.0
    for first, second in (moments["W_dec"], moments["b_enc"]):
        first[dead], second[dead] = 0.0, 0.0
    for first, second in (moments["W_enc"],):
        first[:, dead], second[:, dead] = 0.0, 0.0
    state.silent_tokens[dead] = 0
    return n
