"""What every kind of sparse autoencoder shares while it is trained.

    z = (x - b_pre) W_enc + b_enc,   f = activation(z),   ŷ = f W_dec + b_dec

For an autoencoder y is x and b_pre is tied to b_dec; for a transcoder y is another place of the
model and b_pre is zero. Inputs and targets are scaled before they come here.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from autointerp.units.sae.model import SparseAutoencoder

Parameters = dict[str, Tensor]
"""What is learnt, by name: `W_enc`, `b_enc`, `W_dec`, `b_dec` and what an architecture adds."""


@dataclass(frozen=True)
class SaeSettings:
    """One dictionary to be trained."""

    architecture: str
    """One of `OBJECTIVES`."""

    n_latents: int
    k: int = 32
    """Latents per token: `topk`; their mean: `batch_topk`, `matryoshka`."""

    l1: float = 1.0
    """λ of `relu_l1`, `relu_l1_april` and `gated`, for inputs of mean square norm d_in."""

    l0_target: float = 32.0
    """Mean active latents that `jumprelu` is driven to."""

    l0_weight: float = 1.0
    """Weight of the squared relative distance from `l0_target`."""

    bandwidth: float = 0.02
    """ε of the straight-through estimate of `jumprelu`, in units of scaled pre-activations."""

    groups: tuple[float, ...] = (1 / 16, 3 / 16, 1 / 2, 1.0)
    """Nested shares of the latents of `matryoshka`, ascending to 1."""

    aux_k: int = 256
    """Dead latents that reconstruct the error: `topk`, `batch_topk`, `matryoshka`."""

    aux_weight: float = 1 / 32
    dead_after_tokens: int = 100_000
    """A latent that has not fired for this many tokens counts as dead."""

    sparsity_warmup: float = 0.05
    """Share of the steps over which `l1` or `l0_weight` rises from zero."""

    resample_at: tuple[int, ...] = ()
    """Steps at which dead latents of `relu_l1` are drawn anew."""

    learning_rate: float = 1e-3


@dataclass
class Buffers:
    """What is kept beside the parameters and not learnt by gradient."""

    silent_tokens: Tensor
    """[n_latents] tokens since each fired."""

    threshold: Tensor
    """[] running inference threshold (`batch_topk`, `matryoshka`); negative before the first."""


@dataclass
class Loss:
    """One batch's loss and what is reported of it."""

    total: Tensor
    """[] what is minimised."""

    unexplained: Tensor
    """[] ‖y - ŷ‖² / ‖y - ȳ‖², sums over the batch."""

    fired: Tensor
    """[n_latents] bool: active on any token of the batch."""

    l0: Tensor
    """[] mean active latents per token."""

    parts: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Terms of the loss by name."""


class Objective(Protocol):
    """One architecture: its loss, what it does after a step, and the module that comes out."""

    unit_norm_decoder: bool
    """Whether decoder rows are kept at norm 1."""

    def initial(self, settings: SaeSettings, x: Tensor, y: Tensor, seed: int) -> Parameters:
        """Parameters before the first step, from the first batch."""
        ...

    def loss(
        self,
        settings: SaeSettings,
        p: Parameters,
        state: Buffers,
        x: Tensor,
        y: Tensor,
        warm: float,
    ) -> Loss:
        """Loss of one batch x [n_tokens, d_in], y [n_tokens, d_out].

        `warm` rises from 0 to 1 over the sparsity warm-up. May bring `state.threshold` up to date.
        """
        ...

    def finish(self, settings: SaeSettings, p: Parameters, state: Buffers) -> SparseAutoencoder:
        """The trained dictionary, in scaled units."""
        ...


def pre_bias(p: Parameters) -> Tensor:
    """b_pre: tied to b_dec, or zero where `tied` says that the target is another place."""
    return p["b_dec"] if "b_pre" not in p else p["b_pre"]


def pre_activations(p: Parameters, x: Tensor) -> Tensor:
    """z = (x - b_pre) W_enc + b_enc, [n_tokens, n_latents].

    Multiplied out, so that the gradient of b_pre costs a vector times a matrix, not a matrix times
    a matrix.
    """
    return x @ p["W_enc"] + (p["b_enc"] - pre_bias(p) @ p["W_enc"])


def tied_start(
    settings: SaeSettings, x: Tensor, y: Tensor, seed: int, *, decoder_norm: float = 1.0
) -> Parameters:
    """Random decoder rows of one norm, the encoder their transpose, b_dec the targets' median.

    The coordinate-wise median, not the mean: a few tokens of huge norm do not move it. Where `y` is
    not `x` (a transcoder) the encoder is random too, and `b_pre` is a fixed zero.
    """
    generator = torch.Generator().manual_seed(seed)
    W_dec = torch.randn(settings.n_latents, y.shape[1], generator=generator).to(y)
    W_dec = W_dec / W_dec.norm(dim=1, keepdim=True) * decoder_norm
    W_enc = W_dec.T.clone()
    more: Parameters = {}
    if x is not y:
        more = {"b_pre": torch.zeros_like(x[0])}
        W_enc = torch.randn(settings.n_latents, x.shape[1], generator=generator).to(x)
        W_enc = (W_enc / W_enc.norm(dim=1, keepdim=True) * decoder_norm).T.contiguous()
    return {
        "W_enc": W_enc,
        "b_enc": torch.zeros(settings.n_latents).to(x),
        "W_dec": W_dec,
        "b_dec": y.median(0).values.clone(),
        **more,
    }


def spread(y: Tensor) -> Tensor:
    """‖y - ȳ‖² summed over the batch."""
    return (y - y.mean(0)).pow(2).sum()


def aux_k_loss(
    settings: SaeSettings, p: Parameters, state: Buffers, z: Tensor, error: Tensor
) -> Tensor:
    """‖e - ê‖² / ‖e - ē‖² where ê is the best reconstruction of the error e by dead latents.

    Gao et al. 2024, appendix A.2: keeps latents alive. Zero where none is dead.
    """
    dead = state.silent_tokens > settings.dead_after_tokens
    n_aux = min(settings.aux_k, int(dead.sum()))
    if not n_aux:
        return error.new_zeros(())
    values, indices = z.masked_fill(~dead, -torch.inf).topk(n_aux, dim=-1, sorted=False)
    f = torch.zeros_like(z).scatter(-1, indices, values.relu())
    residual = error.detach()
    return (residual - f @ p["W_dec"]).pow(2).sum() / spread(residual).clamp_min(1e-12)


def module(architecture: str, p: Parameters, **more: object) -> SparseAutoencoder:
    """The canonical module of plain parameters."""
    return SparseAutoencoder(
        architecture,
        W_enc=p["W_enc"],
        b_enc=p["b_enc"],
        b_pre=pre_bias(p).clone() if "b_pre" not in p else p["b_pre"],
        W_dec=p["W_dec"],
        b_dec=p["b_dec"],
        **more,  # type: ignore[arg-type]
    )
