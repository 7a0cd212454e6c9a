"""Attention heads: how much each of them writes on a token."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autointerp.records import AutointerpError, content_key
from autointerp.subject import Subject
from autointerp.subject.hooks import hook_names
from autointerp.units.base import Dense, range_of
from autointerp.units.projections import projection_rows


@dataclass
class AttentionHeads:
    """The norm of what each head writes: ‖z_h W_O^h‖, z_h its mixed values [d_head].

    W_O^h = rows h·d_head to (h+1)·d_head of the output projection [n_heads · d_head, d_model]; its
    bias is no head's. Heads are query heads: where several share keys and values, each has its own
    z_h. With W_O^hᵀ = Q R (QR), ‖z_h W_O^h‖ = ‖R z_h‖, which needs d_head² instead of
    d_head · d_model products and nothing of width d_model. Where a norm follows the projection
    (Gemma 2 and 3), this is the write before that norm.

    Never negative, and hardly ever zero: heads are active on nearly every token.
    """

    name: str
    subject: str
    read_at: str
    factors: Tensor
    """[n_heads, min(d_head, d_model), d_head] float32: R of every head."""

    polarities: tuple[int, ...] = (1,)
    write_at: str | None = None
    """`None`: what a head writes has another direction on every token."""

    @classmethod
    def of(
        cls, name: str, subject_name: str, subject: Subject, hook_point: str
    ) -> "AttentionHeads":
        """The heads of one block.

        Args:
            hook_point: `blocks.L.attn`, or the place their values enter the output projection:
                `blocks.L.attn.hook_z`, `model.layers.L.self_attn.o_proj:input`.

        Raises:
            AutointerpError: where no output projection is there, or its width is no multiple of
                the number of heads.
        """
        read_at = f"{hook_point}.hook_z" if hook_point.endswith(".attn") else hook_point
        hook = subject.hook(read_at)
        is_there = hook.side == "input" and _mixes_heads(subject, hook.module)
        rows = projection_rows(hook.module) if is_there else None
        n_heads = int(subject.model.config.get_text_config().num_attention_heads)
        if rows is None:
            raise AutointerpError(
                f"unit source {name!r}: {read_at} is not the input of an output projection; write "
                "blocks.L.attn, or MODULE:input with the projection that mixes the heads"
            )
        width, d_model = rows.shape
        if width % n_heads or d_model != subject.d_model:
            raise AutointerpError(
                f"unit source {name!r}: the projection at {read_at} has shape [{width}, {d_model}];"
                f" expected {n_heads} heads of equal width writing {subject.d_model} channels"
            )
        blocks = rows.detach().float().reshape(n_heads, width // n_heads, d_model)
        # On the CPU: not every device can decompose.
        factors = torch.linalg.qr(blocks.cpu().transpose(1, 2), mode="r").R
        return cls(name, subject_name, read_at, factors.to(subject.device))

    @property
    def n_units(self) -> int:
        """Number of (query) heads."""
        return len(self.factors)

    def encode(self, hidden: Tensor, units: slice | None = None) -> Dense:
        """Norms from the heads' values [n_tokens, n_heads · d_head]."""
        values = hidden.float().reshape(len(hidden), self.n_units, -1)
        wanted = slice(*range_of(units, self.n_units))
        written = torch.einsum("thd,hrd->thr", values[:, wanted], self.factors[wanted])
        return Dense(torch.linalg.vector_norm(written, dim=2))

    def write_directions(self, indices: list[int]) -> Tensor | None:
        """`None`; see `write_at`."""
        return None

    def fingerprint(self) -> str:
        """Depends on the place alone: the weights are the subject's."""
        return content_key("attention heads", read_at=self.read_at, n_heads=self.n_units)


def _mixes_heads(subject: Subject, module: nn.Module) -> bool:
    """Whether it is a block's output projection; taken on trust in models without hook names."""
    places = [name for name in hook_names(subject.model) if name.endswith(".attn.hook_z")]
    return not places or any(subject.hook(place).module is module for place in places)
