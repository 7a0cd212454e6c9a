"""Write a dictionary of any readable format in the layout of another library.

Only what the target's own classes compute is written. A bias that the target places elsewhere is
moved, (x - b) W = x W + (b_enc - b W), in float64; everything else keeps its bits.
"""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autointerp.records import AutointerpError, UsageError
from autointerp.units.sae.formats import dictionary_learning, saelens
from autointerp.units.sae.load import load_sae
from autointerp.units.sae.model import SparseAutoencoder

TARGETS = ("saelens", "dictionary_learning")
"""Layouts that can be written."""

_N_PROBES = 256


@dataclass(frozen=True)
class Conversion:
    """What was written, and how it compares with what was read."""

    sae: SparseAutoencoder
    """The dictionary as it is read back."""

    written_as: str
    """Architecture or class in the target's own words."""

    largest_latent_difference: float
    """Over random inputs: the most by which a latent differs, relative to the largest one."""

    largest_output_difference: float
    """Over random inputs: the most by which an output differs, relative to the largest one."""


def convert_sae(sae: SparseAutoencoder, output: str | Path, to: str) -> Conversion:
    """Write a dictionary in another layout and read it back.

    Args:
        sae: as `load_sae` gave it.
        output: folder to make; refused if anything is in it.
        to: one of `TARGETS`.

    Raises:
        UsageError: where the target is not known or the folder is in use.
        AutointerpError: where the target cannot express the dictionary; names what.
    """
    if to not in TARGETS:
        raise UsageError(f"cannot write {to!r}; one of {', '.join(TARGETS)}")
    folder = Path(output).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{str(folder)!r} exists and is not empty; give another folder")
    if not sae.has_decoder:
        raise AutointerpError("its files hold no decoder, which every target needs")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write = write_saelens if to == "saelens" else _write_dictionary_learning
        written_as = write(sae, partial)
        copy = load_sae(partial, to)
        latents, outputs = _differences(sae, copy)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Conversion(copy, written_as, latents, outputs)


def write_saelens(sae: SparseAutoencoder, folder: Path, dtype: torch.dtype | None = None) -> str:
    """Write a dictionary as SAELens has it.

    Args:
        sae: with a decoder.
        folder: files of the same names in it are replaced.
        dtype: of the tensors; as they are if left out.

    Returns:
        The architecture in SAELens' words.

    Raises:
        AutointerpError: where SAELens cannot express it; names what.
    """
    names = {
        "relu": ("standard", "transcoder", "skip_transcoder"),
        "jumprelu": ("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder"),
        "gated": ("gated",),
        "topk": ("topk",),
    }.get(sae.architecture)
    if names is None:
        raise _cannot("SAELens", f"{sae.architecture} dictionaries")
    kind = 2 if sae.W_skip is not None else int(_is_transcoder(sae))
    if kind >= len(names):
        raise _cannot("SAELens", f"{sae.architecture} transcoders")
    if kind and sae.normalisation != "none":
        raise _cannot("SAELens", f"transcoders with {sae.normalisation} of the input")
    subtracts = not kind and bool(sae.b_pre.any()) and torch.equal(sae.b_pre, sae.b_dec)
    moved = sae if subtracts else _with_b_pre(sae, torch.zeros(sae.d_in))
    tensors = {"W_enc": moved.W_enc, "W_dec": moved.W_dec, "b_dec": moved.b_dec}
    config: dict[str, Any] = {
        "architecture": names[kind],
        "d_in": sae.d_in,
        "d_sae": sae.n_latents,
        "apply_b_dec_to_input": subtracts,
        "normalize_activations": {"constant_norm": "constant_norm_rescale"}.get(
            sae.normalisation, sae.normalisation
        ),
    }
    if sae.architecture == "gated":
        tensors |= _gate_without_b_enc(moved)
    else:
        tensors["b_enc"] = moved.b_enc
    if sae.threshold is not None:
        tensors["threshold"] = sae.threshold.expand(sae.n_latents).contiguous()
    if sae.architecture == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    if kind:
        config["d_out"] = sae.d_out
    if sae.W_skip is not None:
        tensors["W_skip"] = sae.W_skip.T.contiguous()
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    saelens.write(folder, config, tensors, _saelens_metadata(sae))
    return names[kind]


def _write_dictionary_learning(sae: SparseAutoencoder, folder: Path) -> str:
    if sae.W_skip is not None or _is_transcoder(sae):
        raise _cannot("dictionary_learning", "transcoders")
    if sae.normalisation != "none":
        raise _cannot("dictionary_learning", f"{sae.normalisation} of the input at run time")
    zeros = torch.zeros(sae.d_in)
    if sae.architecture == "relu":
        # Its loader divides by the norms of decoder rows unless they are 1, and the latents of
        # `AutoEncoder` change; those of `AutoEncoderNew`, which subtracts nothing, do not.
        norms = sae.W_dec.norm(dim=1)
        has_unit_rows = torch.allclose(norms, torch.ones_like(norms))
        if has_unit_rows and torch.equal(sae.b_pre, sae.b_dec):
            name, tensors = "AutoEncoder", {"bias": sae.b_dec, "encoder.bias": sae.b_enc}
        else:
            moved = _with_b_pre(sae, zeros)
            name = "AutoEncoderNew"
            tensors = {"decoder.bias": sae.b_dec, "encoder.bias": moved.b_enc}
    elif sae.architecture == "gated":
        gate = _gate_without_b_enc(_with_b_pre(sae, sae.b_dec))
        name, tensors = (
            "GatedAutoEncoder",
            {
                "decoder_bias": sae.b_dec,
                "r_mag": gate["r_mag"],
                "gate_bias": gate["b_gate"],
                "mag_bias": gate["b_mag"],
            },
        )
    elif (k := _batch_k(sae)) is not None:
        assert sae.threshold is not None
        name, tensors = (
            "BatchTopKSAE",
            {
                "b_dec": sae.b_dec,
                "encoder.bias": sae.b_enc,
                "k": torch.tensor(k, dtype=torch.int32),
                "threshold": sae.threshold.flatten()[0].clone(),
            },
        )
    elif sae.architecture == "jumprelu":
        assert sae.threshold is not None
        moved = _with_b_pre(sae, zeros)
        name, tensors = (
            "JumpReluAutoEncoder",
            {
                "W_enc": sae.W_enc,
                "b_enc": moved.b_enc,
                "W_dec": sae.W_dec,
                "b_dec": sae.b_dec,
                "threshold": sae.threshold.expand(sae.n_latents),
            },
        )
    elif sae.architecture == "topk":
        moved = _with_b_pre(sae, sae.b_dec)
        name, tensors = (
            "AutoEncoderTopK",
            {
                "b_dec": sae.b_dec,
                "encoder.bias": moved.b_enc,
                "k": torch.tensor(sae.k, dtype=torch.int32),
                "threshold": torch.tensor(-1.0),
            },
        )
    else:
        raise _cannot("dictionary_learning", f"{sae.architecture} dictionaries")
    if "W_enc" not in tensors:
        tensors |= {"encoder.weight": sae.W_enc.T, "decoder.weight": sae.W_dec.T}
    dictionary_learning.write(folder, _trainer(sae, name), tensors)
    return name


def _batch_k(sae: SparseAutoencoder) -> int | None:
    """k of a dictionary that was trained on a batch's top k; `None` for any other."""
    if sae.architecture != "jumprelu" or sae.threshold is None:
        return None
    details = sae.metadata.get("training_architecture_details")
    k: Any = sae.metadata.get("k") or (details.get("k") if isinstance(details, dict) else None)
    is_one_value = bool((sae.threshold == sae.threshold.flatten()[0]).all())
    is_subtracted = sae.d_in == sae.d_out and torch.equal(sae.b_pre, sae.b_dec)
    if not is_one_value or not is_subtracted or float(sae.threshold.flatten()[0]) < 0:
        return None
    return k if type(k) is int and 1 <= k <= sae.n_latents else None


def _is_transcoder(sae: SparseAutoencoder) -> bool:
    return sae.d_in != sae.d_out or sae.hook_out != sae.hook_in


def _with_b_pre(sae: SparseAutoencoder, b_pre: Tensor) -> SparseAutoencoder:
    """The same dictionary, with another b_pre and the difference in b_enc."""
    if torch.equal(sae.b_pre, b_pre):
        return sae
    shift = (b_pre.double() - sae.b_pre.double()) @ sae.W_enc.double()
    return replace(sae, b_pre=b_pre, b_enc=(sae.b_enc.double() + shift).float())


def _gate_without_b_enc(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """The gate's tensors where a format has no b_enc: it goes into both of its biases."""
    assert sae.gate is not None
    b_gate, r_mag, b_mag = sae.gate
    return {
        "b_gate": b_gate + sae.b_enc,
        "r_mag": r_mag,
        "b_mag": b_mag + sae.b_enc * r_mag.exp(),
    }


def _saelens_metadata(sae: SparseAutoencoder) -> dict[str, Any]:
    kept = dict(sae.metadata)
    kept.pop("sae_lens_version", None)
    if sae.format not in (None, "saelens"):
        kept["converted_from"] = sae.format
    kept["hook_name"] = sae.hook_in
    if sae.hook_out != sae.hook_in:
        kept["hook_name_out"] = sae.hook_out
    return kept


def _trainer(sae: SparseAutoencoder, name: str) -> dict[str, Any]:
    block = re.match(r"blocks\.(\d+)\.(.*)", sae.hook_in or "")
    is_residual = block is not None and block[2] == "hook_resid_post"
    trainer: dict[str, Any] = {
        "dict_class": name,
        "activation_dim": sae.d_in,
        "dict_size": sae.n_latents,
        "layer": int(block[1]) if block else None,
        "lm_name": sae.metadata.get("model_name"),
        "submodule_name": f"resid_post_layer_{block[1]}" if is_residual and block else sae.hook_in,
    }
    k = sae.k or _batch_k(sae)
    return trainer | ({"k": k} if k is not None else {})


def _differences(sae: SparseAutoencoder, copy: SparseAutoencoder) -> tuple[float, float]:
    """Largest relative differences of latents and outputs on random inputs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_N_PROBES, sae.d_in, generator=generator) + sae.b_pre
    f, g = sae.encode(x), copy.encode(x)
    y, z = sae.decode(f, x), copy.decode(f, x)
    return (
        float((f - g).abs().max() / f.abs().max().clamp_min(1e-12)),
        float((y - z).abs().max() / y.abs().max().clamp_min(1e-12)),
    )


def _cannot(target: str, what: str) -> AutointerpError:
    return AutointerpError(f"{target} has no {what}: choose another target, or keep the files")
