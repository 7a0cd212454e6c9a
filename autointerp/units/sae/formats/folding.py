"""What can be folded into the weights, so that it need not be done at run time."""

from typing import Any

import torch

from autointerp.records import AutointerpError
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder


def input_scale_of(value: Any, origin: str) -> float:
    """A scale of the inputs, if it can be one."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 1e-9 < value < 1e9:
        raise AutointerpError(
            f"{origin}: the scale of the input is {str(value)[:80]!r}, not a positive number"
        )
    return float(value)


def fold_input_scale(sae: SparseAutoencoder, scale: float) -> None:
    """A dictionary of s·x becomes one of x, with the same latents.

    (s x - b_pre) W_enc = (x - b_pre / s) (s W_enc);  x̂ = (f W_dec + b_dec) / s
    """
    sae.W_enc, sae.b_pre = sae.W_enc * scale, sae.b_pre / scale
    sae.W_dec, sae.b_dec = sae.W_dec / scale, sae.b_dec / scale


def fold_decoder_norms(sae: SparseAutoencoder) -> None:
    """Latents in units of what they write: z·n, and rows of the decoder divided by their norm n.

    A threshold is compared with z·n already. Rows of zeros stay so.
    """
    norms = sae.W_dec.norm(dim=1)
    sae.W_enc, sae.b_enc = sae.W_enc * norms, sae.b_enc * norms
    sae.W_dec = sae.W_dec / torch.where(norms > 0, norms, 1.0)[:, None]


def fold_whitening(sae: SparseAutoencoder, whitening: Checkpoint) -> None:
    """A dictionary of (x - m) M becomes one of x, with the same latents.

    ((x - m) M - b_pre) W_enc = (x - m - b_pre M⁻¹) (M W_enc);  x̂ = (f W_dec + b_dec) M⁻¹ + m
    """
    d_in = sae.d_in
    mean = whitening.tensor("mean", d_in).double()
    matrix = whitening.tensor("matrix", d_in, d_in).double()
    inverse = whitening.tensor("inverse_matrix", d_in, d_in).double()
    sae.W_enc = (matrix @ sae.W_enc.double()).float()
    sae.b_pre = (mean + sae.b_pre.double() @ inverse).float()
    sae.W_dec = (sae.W_dec.double() @ inverse).float()
    sae.b_dec = (sae.b_dec.double() @ inverse + mean).float()
