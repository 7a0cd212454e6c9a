"""Encoder and decoder that touch only the active latents, a list of (token, latent).

Where k of many latents are active on a token, decoding and the gradients of both weight matrices
are sums over those k alone: of the five matrix products of a dense step only z = (x - b_pre) W_enc
is left.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autointerp.units.sae.objectives.base import (
    Buffers,
    Parameters,
    SaeSettings,
    pre_bias,
    product,
    spread,
    uses_bfloat16,
)


@dataclass(frozen=True)
class Active:
    """Which latents are active on which token, token by token."""

    latents: Tensor
    """[n_active] int64."""

    tokens: Tensor
    """[n_active] int64, ascending."""

    n_tokens: int
    n_latents: int

    @classmethod
    def of_rows(cls, latents: Tensor, n_latents: int) -> "Active":
        """From the latents of each token, [n_tokens, k]."""
        n_tokens, k = latents.shape
        tokens = torch.arange(n_tokens, device=latents.device).repeat_interleave(k)
        return cls(latents.flatten(), tokens, n_tokens, n_latents)

    def where(self, chosen: Tensor) -> "Active":
        """Those for which `chosen` [n_active] is true."""
        return Active(self.latents[chosen], self.tokens[chosen], self.n_tokens, self.n_latents)

    @cached_property
    def token_starts(self) -> Tensor:
        """[n_tokens + 1]: where each token's entries begin, and the last end."""
        return _starts(self.tokens, self.n_tokens)

    @cached_property
    def by_latent(self) -> Tensor:
        """[n_active]: the entries in the order of their latents."""
        return torch.argsort(self.latents, stable=True)

    @cached_property
    def latent_starts(self) -> Tensor:
        """[n_latents + 1]: where each latent's entries begin in that order."""
        return _starts(self.latents, self.n_latents)

    def fired(self) -> Tensor:
        """[n_latents] bool."""
        found = torch.zeros(self.n_latents, dtype=torch.bool, device=self.latents.device)
        found[self.latents] = True
        return found

    def sum_by_token(self, values: Tensor, rows: Tensor) -> Tensor:
        """Σ over a token's entries of value · rows[latent]: [n_tokens, d]."""
        return _bags(self.latents, self.token_starts, values, rows)

    def sum_by_latent(self, values: Tensor, rows: Tensor) -> Tensor:
        """Σ over a latent's entries of value · rows[token]: [n_latents, d]."""
        order = self.by_latent
        return _bags(self.tokens[order], self.latent_starts, values[order], rows)

    def total_by_latent(self, values: Tensor) -> Tensor:
        """Σ over a latent's entries of their values: [n_latents]."""
        return values.new_zeros(self.n_latents).index_add_(0, self.latents, values)

    def products(self, rows: Tensor, columns: Tensor) -> Tensor:
        """rows[token] · columns[latent] for every entry: [n_active]."""
        if rows.device.type != "cpu":
            return (rows @ columns.T)[self.tokens, self.latents]
        zeros = rows.new_zeros(len(self.latents))
        shape = (self.n_tokens, self.n_latents)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch announces that this layout is young.
            pattern = torch.sparse_csr_tensor(
                self.token_starts, self.latents, zeros, shape, check_invariants=False
            )
            return torch.sparse.sampled_addmm(pattern, rows, columns.T).values()


def _starts(ascending: Tensor, n: int) -> Tensor:
    counts = torch.bincount(ascending, minlength=n)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _bags(indices: Tensor, starts: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """Weighted sums of rows, one per bag; a bag's entries lie side by side."""
    return torch.nn.functional.embedding_bag(
        indices, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


class _Encode(torch.autograd.Function):
    """z at the active entries, from all of z."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, b_pre: Tensor, W_enc: Tensor, b_enc: Tensor, z: Tensor, active: Active
    ) -> Tensor:
        ctx.save_for_backward(x, b_pre, W_enc)
        ctx.active = active
        return z[active.tokens, active.latents]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, b_pre, W_enc = ctx.saved_tensors
        (by_z,) = gradients
        by_bias = ctx.active.total_by_latent(by_z)
        by_weights = ctx.active.sum_by_latent(by_z, x - b_pre).T
        by_b_pre = -(W_enc @ by_bias) if ctx.needs_input_grad[1] else None
        return None, by_b_pre, by_weights, by_bias, None, None


class _Decode(torch.autograd.Function):
    """f W_dec."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, W_dec: Tensor, active: Active) -> Tensor:
        ctx.save_for_backward(f, W_dec)
        ctx.active = active
        return active.sum_by_token(f, W_dec)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        f, W_dec = ctx.saved_tensors
        by_output = gradients[0].contiguous()
        by_f = ctx.active.products(by_output, W_dec)
        is_learnt = ctx.needs_input_grad[1]
        return by_f, ctx.active.sum_by_latent(f, by_output) if is_learnt else None, None


@torch.no_grad()
def all_pre_activations(p: Parameters, x: Tensor) -> Tensor:
    """z = (x - b_pre) W_enc + b_enc, [n_tokens, n_latents] float32, without a gradient."""
    z = product(x - pre_bias(p), p["W_enc"], uses_bfloat16(x))
    return z.add_(p["b_enc"])


def encoded(p: Parameters, x: Tensor, z: Tensor, active: Active) -> Tensor:
    """z at the active entries, [n_active], with a gradient.

    Args:
        z: what `all_pre_activations` gave.
    """
    found = _Encode.apply(x, pre_bias(p), p["W_enc"], p["b_enc"], z, active)
    assert isinstance(found, Tensor)
    return found


def decoded(p: Parameters, f: Tensor, active: Active) -> Tensor:
    """f W_dec of the active entries f [n_active], without b_dec: [n_tokens, d_out]."""
    found = _Decode.apply(f, p["W_dec"], active)
    assert isinstance(found, Tensor)
    return found


def aux_k_loss(
    settings: SaeSettings, p: Parameters, state: Buffers, x: Tensor, z: Tensor, error: Tensor
) -> Tensor:
    """‖e - ê‖² / ‖e - ē‖² where ê is the best reconstruction of the error e by dead latents.

    Gao et al. 2024, appendix A.2: keeps latents alive. Zero where none is dead.
    """
    dead = torch.nonzero(state.silent_tokens > settings.dead_after_tokens).flatten()
    n_aux = min(settings.aux_k, len(dead))
    if not n_aux:
        return error.new_zeros(())
    chosen = z[:, dead].topk(n_aux, dim=-1, sorted=False).indices
    active = Active.of_rows(dead[chosen], settings.n_latents)
    residual = error.detach()
    missing = residual - decoded(p, encoded(p, x, z, active).relu(), active)
    return missing.pow(2).sum() / spread(residual).clamp_min(1e-12)
