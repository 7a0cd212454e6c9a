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
        n, k = values.shape
        values, indices = values.flatten(), indices.flatten()
        tokens = torch.arange(n, device=hidden.device).repeat_interleave(k)
        fired = values > 0
        if last - first < self.n_units:
            fired &= (indices >= first) & (indices < last)
        if not bool(fired.all()):
            kept = fired.nonzero().flatten()
            tokens, indices, values = (part[kept] for part in (tokens, indices, values))
        return Sparse(tokens, indices - first if first else indices, values)

    def _encode_in_chunks(self, hidden: Tensor, first: int, last: int) -> Dense | Sparse:
        """A few hundred tokens at a time: all values are not held where few are active."""
        parts = hidden.split(_TOKEN_CHUNK)
        found: list[Sparse] = []
        start = n_active = 0
        # One mask for all chunks: new memory costs more than the comparison does.
        mask = torch.empty(
            (min(_TOKEN_CHUNK, len(hidden)), last - first), dtype=torch.bool, device=hidden.device
        )
        for part in parts:
            own = self._sparse(part, first, last, mask[: len(part)])
            found.append(Sparse(own.tokens + start, own.units, own.values))
            start += len(part)
            n_active += len(own.tokens)
            if n_active > _SPARSE_SHARE * start * (last - first):
                return Dense(torch.cat([self.sae.encode(part)[:, first:last] for part in parts]))
        if not found:
            return Dense(self.sae.encode(hidden)[:, first:last])
        return Sparse(
            torch.cat([part.tokens for part in found]),
            torch.cat([part.units for part in found]),
            torch.cat([part.values for part in found]),
        )

    def _sparse(self, hidden: Tensor, first: int, last: int, mask: Tensor) -> Sparse:
        """The latents that are not zero, in as few steps over all of them as there can be.

        Args:
            mask: [n_tokens, last - first] bool, overwritten.
        """
        if self.sae.architecture == "jumprelu" and self.sae.threshold is not None:
            # f = z where z > max(threshold, 0), else 0: as relu(z) where z > threshold.
            values = self.sae.pre_activations(hidden)[:, first:last]
            threshold = self.sae.threshold.clamp_min(0)
            threshold = threshold[first:last] if threshold.ndim else threshold
            torch.gt(values, threshold, out=mask)
        else:
            values = self.sae.encode(hidden)[:, first:last]
            torch.gt(values, 0, out=mask)
        tokens, units = _places(mask)
        flat = tokens * values.shape[1] + units
        return Sparse(tokens, units, values.reshape(-1).index_select(0, flat))

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
    # numpy finds them several times faster than torch does on a CPU; they come row by row.
    n_tokens, n = mask.shape
    flat = np.flatnonzero(mask.numpy())
    ends = np.searchsorted(flat, np.arange(1, n_tokens + 1) * n)
    tokens = np.repeat(np.arange(n_tokens), np.diff(ends, prepend=0))
    return torch.from_numpy(tokens), torch.from_numpy(flat - tokens * n)
