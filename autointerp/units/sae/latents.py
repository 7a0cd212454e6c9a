"""The latents of a sparse autoencoder as a unit source."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject import Subject
from autointerp.units.base import Dense, Sparse, range_of
from autointerp.units.sae.model import SparseAutoencoder

_TOKEN_CHUNK = 512

_SPARSE_SHARE = 0.1
"""Share of active latents up to which a list of them is smaller and faster than all values."""


@dataclass
class SaeLatents:
    """Latents of one dictionary, read at one hook point. Never negative, so one polarity."""

    name: str
    subject: str
    read_at: str
    sae: SparseAutoencoder
    polarities: tuple[int, ...] = (1,)

    @classmethod
    def of(
        cls,
        name: str,
        subject_name: str,
        subject: Subject,
        sae: SparseAutoencoder,
        hook_point: str | None = None,
    ) -> "SaeLatents":
        """Attach a dictionary to a loaded subject.

        Args:
            hook_point: overrides the one its files name.

        Raises:
            AutointerpError: where no hook point is known, or `d_in` does not fit its width.
        """
        read_at = hook_point or sae.hook_in
        if read_at is None:
            raise AutointerpError(
                f"unit source {name!r}: the dictionary's files name no hook point; set "
                f"`hook_point:`, such as blocks.{subject.n_blocks // 2}.hook_resid_post"
            )
        width = subject.width_at(read_at)
        if width != sae.d_in:
            raise AutointerpError(
                f"unit source {name!r}: the dictionary reads d_in = {sae.d_in} channels, but "
                f"{read_at} of {subject.name} has {width}; it belongs to another model or place"
            )
        return cls(name, subject_name, read_at, sae.to(subject.device))

    @property
    def n_units(self) -> int:
        """Number of latents."""
        return self.sae.n_latents

    @property
    def write_at(self) -> str | None:
        """Where the reconstruction belongs: the output place of a transcoder, else `read_at`."""
        is_transcoder = self.sae.hook_out not in (None, self.sae.hook_in)
        return self.sae.hook_out if is_transcoder else self.read_at

    def encode(self, hidden: Tensor, units: slice | None = None) -> Dense | Sparse:
        """Latents of hidden states [n_tokens, d_in]; sparse where at most a tenth is active."""
        first, last = range_of(units, self.n_units)
        if self.sae.architecture != "topk":
            return self._encode_in_chunks(hidden, first, last)
        values, indices = self.sae.encode_topk(hidden)
        tokens = torch.arange(len(hidden), device=hidden.device)[:, None].expand_as(indices)
        fired = (values > 0) & (indices >= first) & (indices < last)
        return Sparse(tokens[fired], indices[fired] - first, values[fired])

    def _encode_in_chunks(self, hidden: Tensor, first: int, last: int) -> Dense | Sparse:
        """A few hundred tokens at a time: all values are not held where few are active."""
        parts = hidden.split(_TOKEN_CHUNK)
        found: list[Sparse] = []
        start = n_active = 0
        for part in parts:
            values = self._latents(part)[:, first:last]
            tokens, indices = _places(values > 0)
            found.append(Sparse(tokens + start, indices, values[tokens, indices]))
            start += len(part)
            n_active += len(tokens)
            if n_active > _SPARSE_SHARE * start * (last - first):
                return Dense(torch.cat([self._latents(part)[:, first:last] for part in parts]))
        if not found:
            return Dense(self.sae.encode(hidden)[:, first:last])
        return Sparse(
            torch.cat([part.tokens for part in found]),
            torch.cat([part.units for part in found]),
            torch.cat([part.values for part in found]),
        )

    def _latents(self, hidden: Tensor) -> Tensor:
        """The latents, [n_tokens, n_latents], in as few steps over them as there can be."""
        if self.sae.architecture != "jumprelu" or self.sae.threshold is None:
            return self.sae.encode(hidden)
        # z where z > max(threshold, 0), else 0: the same values as relu(z) where z > threshold.
        z = self.sae.pre_activations(hidden)
        return z.masked_fill_(z <= self.sae.threshold.clamp_min(0), 0)

    def write_directions(self, indices: list[int]) -> Tensor | None:
        """Decoder rows, [len(indices), d_out]; `None` where its files hold no decoder."""
        return self.sae.W_dec[indices] if self.sae.has_decoder else None

    def fingerprint(self) -> str:
        """Hash of the dictionary and of where it is read."""
        return f"{self.sae.fingerprint()}@{self.read_at}"


def _places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of what is true in a mask [n_tokens, n_latents]."""
    if mask.device.type != "cpu":
        tokens, indices = mask.nonzero(as_tuple=True)
        return tokens, indices
    # numpy finds them several times faster than torch does on a CPU.
    flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
    tokens = flat // mask.shape[1]
    return tokens, flat - tokens * mask.shape[1]
