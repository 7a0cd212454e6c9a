"""One sparse autoencoder module that every checkpoint format is read into.

x̃, back = normalise(x)
z = (x̃ - b_pre) W_enc + b_enc
f = activation(z)
x̂ = back(f W_dec + b_dec) + x W_skip
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autointerp.records import AutointerpError, array_facts

_BACK = "autointerp_back"
"""Attribute of latents that `encode` returned: the way back from the normalised input."""

ACTIVATIONS = ("relu", "jumprelu", "topk", "groupmax", "gated")
NORMALISATIONS = ("none", "layer_norm", "constant_norm")


@dataclass
class SparseAutoencoder:
    """A trained dictionary (or transcoder, where the target is another place than the input)."""

    architecture: str
    """One of `ACTIVATIONS`: how pre-activations become latents."""

    W_enc: Tensor
    """[d_in, n_latents] float32."""

    b_enc: Tensor
    """[n_latents] float32."""

    b_pre: Tensor
    """[d_in] float32, subtracted on the way in; zeros where a format does not."""

    W_dec: Tensor
    """[n_latents, d_out] float32; [0, d_out] where the files hold no decoder."""

    b_dec: Tensor
    """[d_out] float32."""

    k: int | None = None
    """Latents kept per token (`topk`, `groupmax`)."""

    threshold: Tensor | None = None
    """[] or [n_latents]: `jumprelu` keeps z where z > threshold, strictly."""

    gate: tuple[Tensor, Tensor, Tensor] | None = None
    """`gated`: (b_gate, r_mag, b_mag), each [n_latents]."""

    W_skip: Tensor | None = None
    """[d_in, d_out] linear path of a skip transcoder."""

    normalisation: str = "none"
    """One of `NORMALISATIONS`, applied per token at run time."""

    hook_in: str | None = None
    """Hook point it reads, as its files say; `None` where they do not."""

    hook_out: str | None = None
    """Hook point it reconstructs; equals `hook_in` for an autoencoder."""

    format: str | None = None
    """Format of the checkpoint it was read from; `None` for one made here."""

    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """What else the files say: model name, context size, training data."""

    @property
    def d_in(self) -> int:
        """Width of what it reads."""
        return self.W_enc.shape[0]

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        """Width of what it reconstructs."""
        return self.W_dec.shape[1]

    @property
    def has_decoder(self) -> bool:
        """Whether it can reconstruct; some are saved for their latents alone."""
        return len(self.W_dec) > 0

    def __repr__(self) -> str:
        kept = f", k={self.k}" if self.k is not None else ""
        out = f", hook_out={self.hook_out}" if self.hook_out != self.hook_in else ""
        return (
            f"SparseAutoencoder({self.architecture}{kept}, n_latents={self.n_latents}, "
            f"d_in={self.d_in}, d_out={self.d_out}, hook_in={self.hook_in}{out}"
            + (f", format={self.format})" if self.format else ")")
        )

    def to(self, device: torch.device | str) -> "SparseAutoencoder":
        """Move all tensors to a device, in place; float32 stays float32."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
            elif name == "gate" and value is not None:
                self.gate = tuple(part.to(device) for part in value)  # type: ignore[assignment]
        return self

    def pre_activations(self, x: Tensor) -> Tensor:
        """z = (normalise(x) - b_pre) W_enc + b_enc, [n_tokens, n_latents]."""
        normal, _ = self._normalise(x)
        return (normal - self.b_pre) @ self.W_enc + self.b_enc

    def encode(self, x: Tensor) -> Tensor:
        """Latents of hidden states: [n_tokens, d_in] → [n_tokens, n_latents], never negative.

        Raises:
            AutointerpError: where the hidden states are no tensor of this width.
        """
        normal, back = self._normalise(x)
        f = self.activate((normal - self.b_pre) @ self.W_enc + self.b_enc)
        if back is not None:
            setattr(f, _BACK, back)
        return f

    def encode_topk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`encode` of a `topk` dictionary without the zeros: values and indices, [n_tokens, k]."""
        assert self.architecture == "topk" and self.k is not None
        values, indices = self.pre_activations(x).topk(self.k, dim=-1, sorted=False)
        return values.relu(), indices

    def activate(self, z: Tensor) -> Tensor:
        """The architecture's activation function of pre-activations [n_tokens, n_latents]."""
        if self.architecture == "relu":
            return z.relu()
        if self.architecture == "jumprelu":
            assert self.threshold is not None
            return z.relu() * (z > self.threshold)
        if self.architecture == "gated":
            assert self.gate is not None
            b_gate, r_mag, b_mag = self.gate
            return (z + b_gate > 0) * (z * r_mag.exp() + b_mag).relu()
        assert self.k is not None
        if self.architecture == "topk":
            values, indices = z.topk(self.k, dim=-1, sorted=False)
        else:
            grouped = z.unflatten(-1, (self.k, -1))
            values, indices = grouped.max(dim=-1)
            indices = indices + torch.arange(self.k, device=z.device) * grouped.shape[-1]
        return torch.zeros_like(z).scatter_(-1, indices, values.relu())

    def decode(self, f: Tensor, x: Tensor | None = None) -> Tensor:
        """x̂ from latents, [n_tokens, n_latents] → [n_tokens, d_out].

        Args:
            f: latents. Where the input is normalised at run time and `x` is left out, they must be
                the very tensor that `encode` returned, which knows the way back.
            x: the input [n_tokens, d_in]; adds the linear path of a skip transcoder, which is left
                out without it.

        Raises:
            AutointerpError: where the way back is not known, the files held no decoder, or latents
                or input are no tensor of this width.
        """
        if not self.has_decoder:
            raise AutointerpError("this dictionary's files hold no decoder: it has latents only")
        _check_width(f, self.n_latents, "latents")
        if x is not None:
            _check_width(x, self.d_in, "hidden states")
        reconstruction = f @ self.W_dec + self.b_dec
        if self.normalisation != "none":
            back = getattr(f, _BACK, None) if x is None else self._normalise(x)[1]
            if back is None:
                raise AutointerpError(
                    f"this dictionary undoes a {self.normalisation} of its input: give the input, "
                    "decode(f, x), or the very latents that encode(x) returned"
                )
            reconstruction = back(reconstruction)
        if self.W_skip is not None and x is not None:
            reconstruction = reconstruction + x.float() @ self.W_skip
        return reconstruction

    def rescaled(self, change: Tensor, x: Tensor | None) -> Tensor:
        """A change of what the decoder gives, as a change of x̂: decode(f + Δf) - decode(f).

        Args:
            change: Δf W_dec, [n_tokens, d_out].
            x: the input [n_tokens, d_in]; needed where it is normalised at run time.
        """
        if self.normalisation == "none":
            return change
        assert x is not None
        back = self._normalise(x)[1]
        assert back is not None
        return back(change) - back(torch.zeros_like(change))

    def fingerprint(self) -> str:
        """Hash of architecture and every tensor."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.architecture, self.k, self.normalisation)).encode())
        tensors = [self.W_enc, self.b_enc, self.b_pre, self.W_dec, self.b_dec]
        tensors += [t for t in (self.threshold, self.W_skip, *(self.gate or ())) if t is not None]
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _normalise(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
        """The input as the encoder takes it, and the way back to its units, if there is any."""
        _check_width(x, self.d_in, "hidden states")
        x = x.float()
        if self.normalisation == "layer_norm":
            mean = x.mean(-1, keepdim=True)
            # Unbiased deviation, and no epsilon on the way back: as the format's owners do it.
            deviation = x.std(-1, keepdim=True)
            return (x - mean) / (deviation + 1e-5), lambda y: y * deviation + mean
        if self.normalisation == "constant_norm":
            scale = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            return x * scale, lambda y: y / scale
        return x, None


def _check_width(value: Tensor, width: int, what: str) -> None:
    if not isinstance(value, Tensor) or value.shape[-1:] != (width,):
        raise AutointerpError(
            f"{what} of this dictionary are a torch tensor [n_tokens, {width}], not "
            f"{array_facts(value)}"
        )
