"""One layer of a cross-layer transcoder: `W_enc_{n}.safetensors`, `W_dec_{n}.safetensors`.

W_enc_n [n_latents, d], b_enc_n, b_dec_n [d]; W_dec_n [n_latents, n_layers_from_n, d]: a latent
writes to the MLP outputs of its own and of every later layer. Here the writes of one latent are
added up: right for its activations and for its direct effect on the logits, not for reconstruction.
"""

import re

import torch

from autointerp.units.sae.formats import circuit_tracer
from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "config.yaml beside W_enc_{n}.safetensors and W_dec_{n}.safetensors"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether both files of a layer are there."""
    match = re.fullmatch(r"W_enc_(\d{1,6})\.safetensors", checkpoint.file.name)
    return match is not None and checkpoint.has(f"W_dec_{match[1]}.safetensors")


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the layer's latents."""
    layer = int(checkpoint.file.stem.removeprefix("W_enc_"))
    config_file = circuit_tracer.CONFIG_FILE
    config = checkpoint.config(config_file) if checkpoint.has(config_file) else {}
    n_latents, d_in = checkpoint.sizes(f"W_enc_{layer}")
    decoder = Checkpoint(checkpoint.folder / f"W_dec_{layer}.safetensors")
    n_layers = decoder.shape(f"W_dec_{layer}", 3)[1]
    W_dec = decoder.tensor(f"W_dec_{layer}", n_latents, n_layers, d_in)
    last = layer + n_layers - 1
    return SparseAutoencoder(
        architecture="relu",
        W_enc=checkpoint.tensor(f"W_enc_{layer}", n_latents, d_in).T.contiguous(),
        b_enc=checkpoint.tensor(f"b_enc_{layer}", n_latents),
        b_pre=torch.zeros(d_in),
        W_dec=W_dec.sum(dim=1),
        b_dec=checkpoint.tensor(f"b_dec_{layer}", d_in),
        hook_in=circuit_tracer.hook(checkpoint, config, layer, "input"),
        hook_out=circuit_tracer.hook(checkpoint, config, last, "output"),
        metadata={
            "model_name": checkpoint.text(config_file, config, "model_name"),
            "reconstructs": "nothing: the decoder is the sum of what is written to "
            f"{n_layers} layers",
        },
    )
