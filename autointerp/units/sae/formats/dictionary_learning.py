"""dictionary_learning layout: `ae.pt` (a state dict) and `config.json`, which names the class.

Matrices of `nn.Linear` are stored transposed: encoder.weight [n_latents, d_in], decoder.weight
[d_in, n_latents]; W_enc and W_dec are not. Norms of training data are folded before saving. TopK
classes also save a `threshold`, a running mean: `AutoEncoderTopK` does not use it by default, the
batch classes do, because a batch's top k would make one token's latents depend on the others.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autointerp.units.sae.formats import places
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "config.json with trainer.dict_class beside ae.pt"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "ae.pt"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether a pickle lies beside a config that names the class of a trainer."""
    return (
        checkpoint.file.suffix == ".pt"
        and checkpoint.has(CONFIG_FILE)
        and isinstance(checkpoint.config(CONFIG_FILE).get("trainer"), dict)
    )


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    config = checkpoint.config(CONFIG_FILE)
    trainer: Any = config.get("trainer")
    name = trainer.get("dict_class") if isinstance(trainer, dict) else None
    if not isinstance(name, str) or name not in _CLASSES:
        raise checkpoint.refuse(
            f"{CONFIG_FILE}: trainer.dict_class {str(name)[:80]!r} is not one of "
            f"{', '.join(_CLASSES)}"
        )
    d_in, n_latents = checkpoint.sizes_said(CONFIG_FILE, trainer, "activation_dim", "dict_size")
    sae = _CLASSES[name](checkpoint, trainer, d_in, n_latents)
    hook = places.of_dictionary_learning(trainer.get("submodule_name"), trainer.get("lm_name"))
    sae.hook_in = sae.hook_out = hook
    sae.metadata = {"model_name": trainer.get("lm_name"), "dict_class": name}
    if "k" in checkpoint.names:
        sae.metadata["k"] = checkpoint.integer("k")
    return sae


def write(folder: Path, trainer: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write tensors and the trainer's config in the layout above."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, folder / WEIGHTS_FILE
    )
    text = json.dumps({"trainer": trainer}, indent=2) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def _linear(checkpoint: Checkpoint, d_in: int, n_latents: int) -> tuple[Tensor, Tensor]:
    """Encoder and decoder of two `nn.Linear`."""
    return (
        checkpoint.tensor("encoder.weight", n_latents, d_in).T.contiguous(),
        checkpoint.tensor("decoder.weight", d_in, n_latents).T.contiguous(),
    )


def _matrices(checkpoint: Checkpoint, d_in: int, n_latents: int) -> tuple[Tensor, Tensor]:
    """Encoder and decoder of two plain parameters."""
    return (
        checkpoint.tensor("W_enc", d_in, n_latents),
        checkpoint.tensor("W_dec", n_latents, d_in),
    )


def _standard(checkpoint: Checkpoint, _: Any, d_in: int, n_latents: int) -> SparseAutoencoder:
    W_enc, W_dec = _linear(checkpoint, d_in, n_latents)
    bias = checkpoint.tensor("bias", d_in)
    b_enc = checkpoint.tensor("encoder.bias", n_latents)
    return SparseAutoencoder("relu", W_enc, b_enc, bias, W_dec, bias.clone())


def _new(checkpoint: Checkpoint, _: Any, d_in: int, n_latents: int) -> SparseAutoencoder:
    W_enc, W_dec = _linear(checkpoint, d_in, n_latents)
    b_enc = checkpoint.tensor("encoder.bias", n_latents)
    b_dec = checkpoint.tensor("decoder.bias", d_in)
    return SparseAutoencoder("relu", W_enc, b_enc, torch.zeros(d_in), W_dec, b_dec)


def _gated(checkpoint: Checkpoint, _: Any, d_in: int, n_latents: int) -> SparseAutoencoder:
    W_enc, W_dec = _linear(checkpoint, d_in, n_latents)
    bias = checkpoint.tensor("decoder_bias", d_in)
    b_gate, r_mag, b_mag = (
        checkpoint.tensor(name, n_latents) for name in ("gate_bias", "r_mag", "mag_bias")
    )
    gate = (b_gate, r_mag, b_mag)
    b_enc = torch.zeros(n_latents)
    return SparseAutoencoder("gated", W_enc, b_enc, bias, W_dec, bias.clone(), gate=gate)


def _jumprelu(checkpoint: Checkpoint, _: Any, d_in: int, n_latents: int) -> SparseAutoencoder:
    W_enc, W_dec = _matrices(checkpoint, d_in, n_latents)
    b_enc = checkpoint.tensor("b_enc", n_latents)
    b_dec = checkpoint.tensor("b_dec", d_in)
    threshold = checkpoint.tensor("threshold", n_latents)
    return SparseAutoencoder(
        "jumprelu", W_enc, b_enc, torch.zeros(d_in), W_dec, b_dec, threshold=threshold
    )


def _topk(checkpoint: Checkpoint, trainer: Any, d_in: int, n_latents: int) -> SparseAutoencoder:
    W_enc, W_dec = _linear(checkpoint, d_in, n_latents)
    b_enc = checkpoint.tensor("encoder.bias", n_latents)
    b_dec = checkpoint.tensor("b_dec", d_in)
    k = _k(checkpoint, trainer, n_latents)
    return SparseAutoencoder("topk", W_enc, b_enc, b_dec.clone(), W_dec, b_dec, k=k)


def _batch_topk(
    checkpoint: Checkpoint, trainer: Any, d_in: int, n_latents: int
) -> SparseAutoencoder:
    W_enc, W_dec = _linear(checkpoint, d_in, n_latents)
    b_enc = checkpoint.tensor("encoder.bias", n_latents)
    return _thresholded(checkpoint, trainer, W_enc, b_enc, W_dec)


def _matryoshka(
    checkpoint: Checkpoint, trainer: Any, d_in: int, n_latents: int
) -> SparseAutoencoder:
    W_enc, W_dec = _matrices(checkpoint, d_in, n_latents)
    b_enc = checkpoint.tensor("b_enc", n_latents)
    groups = checkpoint.integers("group_sizes")
    if sum(groups) != n_latents or min(groups, default=0) < 1:
        raise checkpoint.refuse(f"group_sizes {groups[:8]} do not add up to {n_latents} latents")
    return _thresholded(checkpoint, trainer, W_enc, b_enc, W_dec)


def _thresholded(
    checkpoint: Checkpoint, trainer: Any, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor
) -> SparseAutoencoder:
    b_dec = checkpoint.tensor("b_dec", W_dec.shape[1])
    threshold = checkpoint.tensor("threshold")
    if float(threshold) < 0:
        raise checkpoint.refuse(
            f"threshold is {float(threshold)}: the training was too short to set one, and a "
            "batch's top k says nothing about a single token"
        )
    _k(checkpoint, trainer, W_enc.shape[1])
    return SparseAutoencoder(
        "jumprelu", W_enc, b_enc, b_dec.clone(), W_dec, b_dec, threshold=threshold
    )


def _k(checkpoint: Checkpoint, trainer: dict[str, Any], n_latents: int) -> int:
    k = checkpoint.integer("k")
    if not 1 <= k <= n_latents:
        raise checkpoint.refuse(f"k is {k}, not an integer from 1 to {n_latents}")
    if trainer.get("k", k) != k:
        raise checkpoint.refuse(
            f"k is {k}, but {CONFIG_FILE} says {str(trainer.get('k'))[:80]!r}: one of them is wrong"
        )
    return k


_CLASSES: dict[str, Callable[[Checkpoint, Any, int, int], SparseAutoencoder]] = {
    "AutoEncoder": _standard,
    "AutoEncoderNew": _new,
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jumprelu,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
}
