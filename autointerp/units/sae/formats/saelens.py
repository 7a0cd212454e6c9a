"""SAELens layout: `cfg.json` and `sae_weights.safetensors`.

Tensors as stored: W_enc [d_in, n_latents], W_dec [n_latents, d_out], b_enc, b_dec, and `threshold`
(jumprelu), `b_gate`, `b_mag`, `r_mag` (gated, which has no b_enc) or W_skip [d_out, d_in] (skip
transcoders). b_dec is subtracted on the way in where `apply_b_dec_to_input` says so. Before version
6 the config was flat and named some keys otherwise; `_as_version_6` reads those. Checkpoints of a
training that is not over keep the scale or the whitening of their inputs in files of their own;
both are affine and are folded into the weights.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.formats.folding import (
    fold_decoder_norms,
    fold_input_scale,
    fold_whitening,
    input_scale_of,
)
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "cfg.json beside sae_weights.safetensors"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
SCALER_FILE = "activation_scaler.json"
WHITENING_FILE = "activation_whitening.safetensors"
VERSION = "6.54.12"
"""The version whose layout is written."""

_ACTIVATION = {
    "standard": "relu",
    "gated": "gated",
    "jumprelu": "jumprelu",
    "topk": "topk",
    # Checkpoints of a training: at inference one threshold takes the place of the batch's top k.
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_NORMALISATION = {
    "none": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm",
    "expected_average_only_in": "none",
    "covariance_whitening": "none",
}
_DEFAULTS = {
    "architecture": "topk",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
}


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the two files lie side by side."""
    return checkpoint.file.name == WEIGHTS_FILE and checkpoint.has(CONFIG_FILE)


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    config = _as_version_6(checkpoint.config(CONFIG_FILE))
    architecture = _choice(checkpoint, config, "architecture", "standard", _ACTIVATION)
    normalisation = _choice(checkpoint, config, "normalize_activations", "none", _NORMALISATION)
    is_transcoder = "transcoder" in architecture
    keys = ("d_in", "d_sae", "d_out") if is_transcoder and "d_out" in config else ("d_in", "d_sae")
    d_in, n_latents, *rest = checkpoint.sizes_said(CONFIG_FILE, config, *keys)
    d_out = rest[0] if rest else d_in
    k = (
        checkpoint.count(CONFIG_FILE, config, "k", n_latents)
        if _ACTIVATION[architecture] == "topk"
        else None
    )
    b_dec = checkpoint.tensor("b_dec", d_out)
    subtracts = bool(config.get("apply_b_dec_to_input", not is_transcoder))
    if subtracts and d_in != d_out:
        raise checkpoint.refuse(
            f"{CONFIG_FILE} says apply_b_dec_to_input, but b_dec has {d_out} channels and the "
            f"input {d_in}"
        )
    gated = architecture == "gated"
    given = config.get("metadata")
    metadata: dict[str, Any] = given if isinstance(given, dict) else {}
    hook_in = _hook_name(checkpoint, metadata.get("hook_name") or config.get("hook_name"))
    hook_out = _hook_name(checkpoint, metadata.get("hook_name_out") or config.get("hook_name_out"))
    sae = SparseAutoencoder(
        architecture=_ACTIVATION[architecture],
        W_enc=checkpoint.tensor("W_enc", d_in, n_latents),
        b_enc=torch.zeros(n_latents) if gated else checkpoint.tensor("b_enc", n_latents),
        b_pre=b_dec.clone() if subtracts else torch.zeros(d_in),
        W_dec=checkpoint.tensor("W_dec", n_latents, d_out),
        b_dec=b_dec,
        k=k,
        threshold=_threshold(checkpoint, n_latents) if architecture in _THRESHOLDED else None,
        gate=_gate(checkpoint, n_latents) if gated else None,
        W_skip=checkpoint.tensor("W_skip", d_out, d_in).T.contiguous()
        if "skip" in architecture
        else None,
        normalisation=_NORMALISATION[normalisation],
        hook_in=hook_in,
        hook_out=hook_out or (None if is_transcoder else hook_in),
        metadata=metadata,
    )
    rescales = bool(config.get("rescale_acts_by_decoder_norm", False))
    _fold_normalisation(checkpoint, sae, normalisation, architecture in _TRAINED and rescales)
    if rescales and architecture in ("topk", *_TRAINED):
        fold_decoder_norms(sae)
    return _with_scaling_factor(checkpoint, sae)


def write(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], metadata: dict[str, Any]
) -> None:
    """Write tensors and config in the layout above; `config` holds what differs from a default."""
    folder.mkdir(parents=True, exist_ok=True)
    on_cpu = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    save_file(on_cpu, folder / WEIGHTS_FILE)
    everything = {
        **_DEFAULTS,
        "dtype": str(on_cpu["W_dec"].dtype).removeprefix("torch."),
        **config,
        "metadata": {"sae_lens_version": VERSION, **metadata},
    }
    (folder / CONFIG_FILE).write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")


def write_topk(
    folder: Path, sae: SparseAutoencoder, metadata: dict[str, Any], dtype: torch.dtype
) -> None:
    """Write a TopK dictionary whose b_pre is its b_dec, in the layout above."""
    assert sae.architecture == "topk"
    tensors = {"W_enc": sae.W_enc, "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    config = {
        "d_in": sae.d_in,
        "d_sae": sae.n_latents,
        "k": sae.k,
        "rescale_acts_by_decoder_norm": False,
    }
    write(folder, config, {name: t.to(dtype) for name, t in tensors.items()}, metadata)


_TRAINED = ("batchtopk", "matryoshka_batchtopk")
_THRESHOLDED = tuple(name for name, kind in _ACTIVATION.items() if kind == "jumprelu")


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
        current["architecture"] = f"activation_fn {str(activation)[:80]}"
    normalisation = config.get("normalize_activations", "none")
    if not isinstance(normalisation, str):
        current["normalize_activations"] = "expected_average_only_in" if normalisation else "none"
    current.setdefault("hook_name", config.get("hook_point"))
    return current


def _choice(
    checkpoint: Checkpoint, config: dict[str, Any], key: str, default: str, known: dict[str, str]
) -> str:
    found = str(config.get(key, default))[:100]
    if found not in known:
        raise AutointerpError(
            f"{checkpoint.folder / CONFIG_FILE}: {key} {found!r} is not one of {', '.join(known)}"
        )
    return found


def _hook_name(checkpoint: Checkpoint, name: Any) -> str | None:
    return checkpoint.text(CONFIG_FILE, {"hook_name": name}, "hook_name")


def _threshold(checkpoint: Checkpoint, n_latents: int) -> Tensor:
    if "topk_threshold" in checkpoint.names:
        return checkpoint.tensor("topk_threshold")
    if "log_threshold" in checkpoint.names:
        logarithm = checkpoint.tensor("log_threshold", n_latents)
        return checkpoint.finite("exp(log_threshold)", logarithm.exp())
    return checkpoint.tensor("threshold", n_latents)


def _gate(checkpoint: Checkpoint, n_latents: int) -> tuple[Tensor, Tensor, Tensor]:
    b_gate, r_mag, b_mag = (
        checkpoint.tensor(name, n_latents) for name in ("b_gate", "r_mag", "b_mag")
    )
    return b_gate, r_mag, b_mag


def _fold_normalisation(
    checkpoint: Checkpoint, sae: SparseAutoencoder, normalisation: str, scales_threshold: bool
) -> None:
    """Fold the scale or whitening of the inputs that an unfinished training keeps in a file."""
    if normalisation == "covariance_whitening":
        if not checkpoint.has(WHITENING_FILE):
            raise checkpoint.refuse(
                f"{CONFIG_FILE} says normalize_activations 'covariance_whitening', but "
                f"{WHITENING_FILE} is absent"
            )
        fold_whitening(sae, Checkpoint(checkpoint.folder / WHITENING_FILE))
    elif normalisation == "expected_average_only_in":
        scale = checkpoint.options.input_scale
        if scale is None and checkpoint.has(SCALER_FILE):
            scale = checkpoint.config(SCALER_FILE).get("scaling_factor")
        if scale is None:
            raise checkpoint.refuse(
                f"{CONFIG_FILE} says normalize_activations 'expected_average_only_in', but "
                "not the scale: give `input_scale`, which is sqrt(d_in) divided by the mean norm "
                "of the hidden states it was trained on"
            )
        scale = input_scale_of(scale, str(checkpoint.folder / SCALER_FILE))
        fold_input_scale(sae, scale)
        if scales_threshold and sae.threshold is not None:
            # The decoder norms that multiply z shrink with the decoder.
            sae.threshold = sae.threshold / scale


def _with_scaling_factor(checkpoint: Checkpoint, sae: SparseAutoencoder) -> SparseAutoencoder:
    """Fold `scaling_factor` [n_latents] of old finetuned dictionaries: f is multiplied by it."""
    if "scaling_factor" not in checkpoint.names:
        return sae
    scaling = checkpoint.tensor("scaling_factor", sae.n_latents)
    if bool((scaling == 1).all()):
        return sae
    if sae.architecture not in ("relu", "jumprelu") or not bool((scaling > 0).all()):
        raise checkpoint.refuse(
            f"`scaling_factor` cannot be folded into a {sae.architecture} dictionary"
            if sae.architecture not in ("relu", "jumprelu")
            else "`scaling_factor` has values that are not positive"
        )
    sae.W_enc, sae.b_enc = sae.W_enc * scaling, sae.b_enc * scaling
    if sae.threshold is not None:
        sae.threshold = sae.threshold * scaling
    return sae
