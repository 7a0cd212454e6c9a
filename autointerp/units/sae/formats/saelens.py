"""SAELens 6 layout: `cfg.json` and `sae_weights.safetensors`.

Tensors as stored: W_enc [d_in, n_latents], W_dec [n_latents, d_in], b_enc, b_dec, and `threshold`
(jumprelu) or `b_gate`, `b_mag`, `r_mag` (gated, which has no b_enc). b_dec is subtracted on the way
in where `apply_b_dec_to_input` says so.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.sae.model import SparseAutoencoder

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

_ACTIVATION = {"standard": "relu", "gated": "gated", "jumprelu": "jumprelu", "topk": "topk"}
_NORMALISATION = {
    "none": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm",
}


def recognises(folder: Path) -> bool:
    """Whether the folder holds the two files."""
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def read(folder: Path) -> SparseAutoencoder:
    """Read the folder.

    Raises:
        AutointerpError: where the files are damaged, hold NaN, or contradict each other.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
        tensors = {k: v.float() for k, v in load_file(folder / WEIGHTS_FILE).items()}
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise AutointerpError(f"{folder}: damaged file ({error})") from error

    architecture = str(config.get("architecture", "standard"))
    normalisation = str(config.get("normalize_activations", "none"))
    if architecture not in _ACTIVATION:
        raise AutointerpError(
            f"{folder / CONFIG_FILE}: architecture {architecture!r} is not one of "
            f"{', '.join(_ACTIVATION)}"
        )
    if normalisation not in _NORMALISATION:
        raise AutointerpError(
            f"{folder / CONFIG_FILE}: normalize_activations {normalisation!r} is not one of "
            f"{', '.join(_NORMALISATION)}"
        )
    d_in, n_latents = int(config["d_in"]), int(config["d_sae"])
    shapes = {
        "W_enc": (d_in, n_latents),
        "W_dec": (n_latents, d_in),
        "b_dec": (d_in,),
        **({"threshold": (n_latents,)} if architecture == "jumprelu" else {}),
        **(
            dict.fromkeys(("b_gate", "b_mag", "r_mag"), (n_latents,))
            if architecture == "gated"
            else {"b_enc": (n_latents,)}
        ),
    }
    _check(folder, tensors, shapes)

    b_dec = tensors["b_dec"]
    W_enc, b_enc, W_dec = tensors["W_enc"], tensors.get("b_enc"), tensors["W_dec"]
    if architecture == "topk" and config.get("rescale_acts_by_decoder_norm", False):
        # f = topk(z·n), x̂ = (f/n) W_dec: the same as folding the decoder norms n.
        norms = W_dec.norm(dim=1)
        assert b_enc is not None
        W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms[:, None]
    metadata = dict(config.get("metadata") or {})
    hook_in = metadata.get("hook_name") or config.get("hook_name")
    return SparseAutoencoder(
        architecture=_ACTIVATION[architecture],
        W_enc=W_enc,
        b_enc=torch.zeros(n_latents) if b_enc is None else b_enc,
        b_pre=b_dec if config.get("apply_b_dec_to_input", True) else torch.zeros(d_in),
        W_dec=W_dec,
        b_dec=b_dec,
        k=int(config["k"]) if architecture == "topk" else None,
        threshold=tensors.get("threshold"),
        gate=(tensors["b_gate"], tensors["r_mag"], tensors["b_mag"])
        if architecture == "gated"
        else None,
        normalisation=_NORMALISATION[normalisation],
        hook_in=hook_in,
        hook_out=metadata.get("hook_name_out") or hook_in,
        metadata=metadata,
    )


def write_topk(
    folder: Path, sae: SparseAutoencoder, metadata: dict[str, Any], dtype: torch.dtype
) -> None:
    """Write a TopK dictionary whose b_pre is its b_dec, in the layout above."""
    assert sae.architecture == "topk"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"W_enc": sae.W_enc, "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    save_file(
        {k: v.detach().cpu().to(dtype).contiguous() for k, v in tensors.items()},
        folder / WEIGHTS_FILE,
    )
    config = {
        "architecture": "topk",
        "d_in": sae.d_in,
        "d_sae": sae.n_latents,
        "k": sae.k,
        "dtype": str(dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {"sae_lens_version": "6.54.12", **metadata},
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def _check(folder: Path, tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            seen = "absent" if tensor is None else str(list(tensor.shape))
            raise AutointerpError(
                f"{folder / WEIGHTS_FILE}: tensor {name} is {seen}, but {CONFIG_FILE} says "
                f"{list(shape)} (d_in and d_sae)"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise AutointerpError(f"{folder / WEIGHTS_FILE}: tensor {name} holds NaN or infinity")
