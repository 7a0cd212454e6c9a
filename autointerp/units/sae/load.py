"""Find the reader for a checkpoint and read it."""

from pathlib import Path

from autointerp.records import AutointerpError
from autointerp.units.sae.formats import saelens
from autointerp.units.sae.model import SparseAutoencoder

FORMATS = {"saelens": saelens}
"""Name → module with `recognises(path) -> bool` and `read(path) -> SparseAutoencoder`."""


def load_sae(path: str | Path) -> SparseAutoencoder:
    """Read a sparse autoencoder from a folder.

    Args:
        path: a folder in SAELens layout (`cfg.json` and `sae_weights.safetensors`).

    Raises:
        AutointerpError: where the path is in no known format, or the files contradict themselves.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise AutointerpError(f"no sparse autoencoder at {str(path)!r}: there is no such folder")
    fitting = [name for name, reader in FORMATS.items() if reader.recognises(folder)]
    if len(fitting) != 1:
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) if folder.is_dir() else "-"
        raise AutointerpError(
            f"{str(path)!r} is in no format known here ({', '.join(FORMATS)}): it holds {found}"
        )
    return FORMATS[fitting[0]].read(folder)
