"""SAELens 6 layout: `cfg.json` and `sae_weights.safetensors`.

Tensors as stored: W_enc [d_in, n_latents], W_dec [n_latents, d_in], b_enc, b_dec, and `threshold`
(jumprelu) or `b_gate`, `b_mag`, `r_mag` (gated, which has no b_enc). b_dec is subtracted on the way
in where `apply_b_dec_to_input` says so. Before version 6 the config was flat and named some keys
otherwise; `_as_version_6` reads those.
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
        found: Any = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        tensors = {k: v.float() for k, v in load_file(folder / WEIGHTS_FILE).items()}
    except (ValueError, RecursionError, SafetensorError) as error:
        raise AutointerpError(f"{folder}: damaged file ({error})") from error
    if not isinstance(found, dict):
        raise AutointerpError(f"{folder / CONFIG_FILE}: no keys; it holds {str(found)[:80]!r}")
    config = _as_version_6(found)
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
    d_in, n_latents = _count(folder, config, "d_in"), _count(folder, config, "d_sae")
    k = _count(folder, config, "k", n_latents) if architecture == "topk" else None
    per_latent = {"gated": ("b_gate", "b_mag", "r_mag"), "jumprelu": ("b_enc", "threshold")}
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (d_in, n_latents),
        "W_dec": (n_latents, d_in),
        "b_dec": (d_in,),
    }
    shapes |= dict.fromkeys(per_latent.get(architecture, ("b_enc",)), (n_latents,))
    _check(folder, tensors, shapes)
    scaling = tensors.get("scaling_factor")
    if scaling is not None and not bool((scaling == 1).all()):
        raise AutointerpError(
            f"{folder / WEIGHTS_FILE}: latents are scaled by `scaling_factor`, which is not read "
            "here; fold it into the weights first"
        )

    b_dec = tensors["b_dec"]
    W_enc, b_enc, W_dec = tensors["W_enc"], tensors.get("b_enc"), tensors["W_dec"]
    if architecture == "topk" and config.get("rescale_acts_by_decoder_norm", False):
        # f = topk(z·n), x̂ = (f/n) W_dec: the same as folding the decoder norms n.
        norms = W_dec.norm(dim=1)
        assert b_enc is not None
        W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms[:, None]
    given = config.get("metadata")
    metadata: dict[str, Any] = given if isinstance(given, dict) else {}
    hook_in = _hook_name(folder, metadata.get("hook_name") or config.get("hook_name"))
    return SparseAutoencoder(
        architecture=_ACTIVATION[architecture],
        W_enc=W_enc,
        b_enc=torch.zeros(n_latents) if b_enc is None else b_enc,
        b_pre=b_dec if config.get("apply_b_dec_to_input", True) else torch.zeros(d_in),
        W_dec=W_dec,
        b_dec=b_dec,
        k=k,
        threshold=tensors.get("threshold"),
        gate=(tensors["b_gate"], tensors["r_mag"], tensors["b_mag"])
        if architecture == "gated"
        else None,
        normalisation=_NORMALISATION[normalisation],
        hook_in=hook_in,
        hook_out=_hook_name(folder, metadata.get("hook_name_out")) or hook_in,
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


def _as_version_6(config: dict[str, Any]) -> dict[str, Any]:
    """A config of any version with the keys of version 6.

    Before it a TopK dictionary had no architecture of its own, only an activation function: read
    without this rule it would pass for a ReLU dictionary.
    """
    current = dict(config)
    activation = config.get("activation_fn_str", config.get("activation_fn"))
    if activation == "topk":
        arguments = config.get("activation_fn_kwargs")
        current["architecture"] = "topk"
        current.setdefault("k", arguments.get("k") if isinstance(arguments, dict) else None)
    elif activation not in (None, "relu"):
        current["architecture"] = f"activation_fn {activation}"
    normalisation = config.get("normalize_activations", "none")
    if not isinstance(normalisation, str):
        current["normalize_activations"] = "expected_average_only_in" if normalisation else "none"
    current.setdefault("hook_name", config.get("hook_point"))
    return current


def _count(folder: Path, config: dict[str, Any], key: str, most: int | None = None) -> int:
    """A positive integer of the config."""
    value = config.get(key)
    if type(value) is not int or value < 1 or (most is not None and value > most):
        limit = "a positive integer" if most is None else f"an integer from 1 to {most}"
        raise AutointerpError(f"{folder / CONFIG_FILE}: {key} is {value!r}, not {limit}")
    return value


def _hook_name(folder: Path, name: Any) -> str | None:
    if name is not None and not isinstance(name, str):
        raise AutointerpError(f"{folder / CONFIG_FILE}: hook_name is {name!r}, not a text")
    return name


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
