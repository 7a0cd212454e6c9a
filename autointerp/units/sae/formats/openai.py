"""OpenAI sparse_autoencoder layout: one `{layer}.pt`.

pre_bias [d_in], latent_bias [n_latents], encoder.weight [n_latents, d_in], decoder.weight
[d_in, n_latents], and the activation's name. There is no flag for layer norm: a TopK dictionary has
it, a ReLU dictionary has not. Files saved with the library's own `state_dict()` hold two more keys,
which are ignored.
"""

from typing import Any

from autointerp.units.sae.formats import places
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "a .pt file with pre_bias and latent_bias"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the file holds the two biases that only this library names so."""
    return {"pre_bias", "latent_bias"} <= checkpoint.names


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    n_latents, d_in = checkpoint.sizes("encoder.weight")
    activation, k = checkpoint.item("activation"), None
    if activation == "TopK":
        k = _k(checkpoint, n_latents)
    elif activation != "ReLU":
        raise checkpoint.refuse(f"activation {str(activation)[:80]!r} is not one of ReLU, TopK")
    bias = checkpoint.tensor("pre_bias", d_in)
    hook = places.of_openai(checkpoint.words[:-1], checkpoint.file.stem)
    return SparseAutoencoder(
        architecture="relu" if k is None else "topk",
        W_enc=checkpoint.tensor("encoder.weight", n_latents, d_in).T.contiguous(),
        b_enc=checkpoint.tensor("latent_bias", n_latents),
        b_pre=bias,
        W_dec=checkpoint.tensor("decoder.weight", d_in, n_latents).T.contiguous(),
        b_dec=bias.clone(),
        k=k,
        normalisation="none" if k is None else "layer_norm",
        hook_in=hook,
        hook_out=hook,
    )


def _k(checkpoint: Checkpoint, n_latents: int) -> int:
    state: Any = checkpoint.item("activation_state_dict")
    state = state if isinstance(state, dict) else {}
    k, after = state.get("k"), state.get("postact_fn", "ReLU")
    if type(k) is not int or not 1 <= k <= n_latents:
        raise checkpoint.refuse(f"k is {str(k)[:80]!r}, not an integer from 1 to {n_latents}")
    if after != "ReLU":
        raise checkpoint.refuse(f"postact_fn {str(after)[:80]!r} is not ReLU")
    return k
