"""DeepSeek-R1 dictionaries of qresearch: one `.pt` with `encoder` and `decoder`; see `goodfire`."""

from autointerp.units.sae.formats.checkpoint import Checkpoint
from autointerp.units.sae.formats.goodfire import read_two_maps
from autointerp.units.sae.model import SparseAutoencoder

LAYOUT = "a .pt file with encoder and decoder, and no config.json"

_NAMES = {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}


def fits(checkpoint: Checkpoint) -> bool:
    """Whether a pickle without a trainer's config holds the two maps and nothing else."""
    return (
        checkpoint.file.suffix in (".pt", ".pth")
        and not checkpoint.has("config.json")
        and checkpoint.names == _NAMES
    )


def read(checkpoint: Checkpoint) -> SparseAutoencoder:
    """Read the dictionary."""
    return read_two_maps(checkpoint, "encoder", "decoder")
