"""What every kind of sparse autoencoder shares while it is trained.

    z = (x - b_pre) W_enc + b_enc,   f = activation(z),   ŷ = f W_dec + b_dec

For an autoencoder y is x and b_pre is tied to b_dec; for a transcoder y is another place of the
model and b_pre is zero. Inputs and targets are scaled before they come here.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from autointerp.records import derived_seed
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

    decoder: str = "trained"
    """`frozen`: W_dec stays at its random start; a control."""

    seed: int | None = None
    """Of the start; `None` for the training's."""

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


def uses_bfloat16(x: Tensor) -> bool:
    """Whether matrix products beside `x` are to be taken in bfloat16."""
    return torch.is_autocast_enabled(x.device.type)


def product(a: Tensor, b: Tensor, in_bfloat16: bool) -> Tensor:
    """a @ b in float32, from factors rounded to bfloat16 where asked for."""
    if in_bfloat16:
        return (a.bfloat16() @ b.bfloat16()).float()
    return a @ b


class _PreActivations(torch.autograd.Function):
    """Centred before the product, whose rounding then does not grow with the mean.

    The gradient of b_pre is a vector times a matrix, not the sum over a matrix times a matrix.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, b_pre: Tensor, W_enc: Tensor, b_enc: Tensor) -> Tensor:
        ctx.save_for_backward(x, b_pre, W_enc)
        ctx.in_bfloat16 = uses_bfloat16(x)
        return product(x - b_pre, W_enc, ctx.in_bfloat16).add_(b_enc)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, b_pre, W_enc = ctx.saved_tensors
        (by_z,) = gradients
        by_bias = by_z.sum(0)
        by_weights = product((x - b_pre).T, by_z, ctx.in_bfloat16)
        return None, -(W_enc @ by_bias), by_weights, by_bias


def pre_activations(p: Parameters, x: Tensor, bias: str = "b_enc") -> Tensor:
    """z = (x - b_pre) W_enc + b_enc, [n_tokens, n_latents]; `bias` names another than b_enc."""
    found = _PreActivations.apply(x, pre_bias(p), p["W_enc"], p[bias])
    assert isinstance(found, Tensor)
    return found


CACHED_NUMBERS = 2**17
"""Of a matrix at a time that several passes go over: half a megabyte."""


def row_blocks(matrix: Tensor) -> list[slice]:
    """Rows of a large matrix that stay in a CPU's cache while several operations go over them.

    A pass over all of `[n_tokens, n_latents]` waits for memory and costs a good part of a matrix
    product. Elsewhere than on a CPU all rows are one block.
    """
    n_rows, width = matrix.shape
    size = max(1, CACHED_NUMBERS // width) if matrix.device.type == "cpu" else n_rows
    return [slice(start, start + size) for start in range(0, n_rows, max(1, size))]


def tied_start(
    settings: SaeSettings, x: Tensor, y: Tensor, seed: int, *, decoder_norm: float = 1.0
) -> Parameters:
    """Random decoder rows of one norm, the encoder their transpose, b_dec the targets' median.

    The coordinate-wise median, not the mean: a few tokens of huge norm do not move it. Where `y` is
    not `x` (a transcoder) the encoder is random too, and `b_pre` is a fixed zero.
    """
    if settings.decoder == "frozen":
        # A control beside a trained dictionary must not have the directions that it started from.
        seed = derived_seed(seed, "frozen_decoder")
    generator = torch.Generator().manual_seed(seed)
    W_dec = torch.randn(settings.n_latents, y.shape[1], generator=generator).to(y)
    W_dec = W_dec / W_dec.norm(dim=1, keepdim=True) * decoder_norm
    # Contiguous, as a checkpoint reads it back: sums go the same way before a kill and after it.
    W_enc = W_dec.T.clone(memory_format=torch.contiguous_format)
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
