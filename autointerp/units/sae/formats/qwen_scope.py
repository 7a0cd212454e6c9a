"""Qwen Scope: `SAE-Res-{model}-W32K-L0_50/layer{n}.sae.pt`.

W_enc [n_latents, d_in] and W_dec [d_in, n_latents] are both transposed. k is not in the file: it is
the number after `L0_` in the repository's name, and is looked for in the path, then as `k` or `l0`
in a JSON file beside the weights. Nothing is subtracted on the way in.
"""

import re
from typing import Any

import torch

from autointerp.units.sae.formats import places
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "layer{n}.sae.pt with W_enc, W_dec, b_enc and b_dec"

_SIDECARS = ("config.json", "cfg.json", "meta.json")


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the file is called so and holds both matrices."""
    return checkpoint.file.name.endswith(".sae.pt") and {"W_enc", "W_dec"} <= checkpoint.names


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    n_latents, d_in = checkpoint.sizes("W_enc")
    layer = re.match(r"layer(\d{1,6})\.", checkpoint.file.name)
    hook = places.in_block(layer[1], "hook_resid_post") if layer else None
    return SparseAutoencoder(
        architecture="topk",
        W_enc=checkpoint.tensor("W_enc", n_latents, d_in).T.contiguous(),
        b_enc=checkpoint.tensor("b_enc", n_latents),
        b_pre=torch.zeros(d_in),
        W_dec=checkpoint.tensor("W_dec", d_in, n_latents).T.contiguous(),
        b_dec=checkpoint.tensor("b_dec", d_in),
        k=_k(checkpoint, n_latents),
        hook_in=hook,
        hook_out=hook,
    )


def _k(checkpoint: Checkpoint, n_latents: int) -> int:
    found: Any = checkpoint.options.k
    for word in reversed(checkpoint.words):
        match = re.search(r"-L0_(\d{1,9})$", word)
        if found is None and match:
            found = int(match[1])
    for name in _SIDECARS:
        if found is None and checkpoint.has(name):
            config = checkpoint.config(name)
            found = config.get("k", config.get("l0"))
    if found is None:
        raise checkpoint.refuse(
            "k is not in the file but in its repository's name (…-L0_50): keep the file in a "
            "folder of that name, or give `k`"
        )
    if isinstance(found, bool) or found not in range(1, n_latents + 1):
        raise checkpoint.refuse(f"k is {str(found)[:80]!r}, not an integer from 1 to {n_latents}")
    return int(found)
