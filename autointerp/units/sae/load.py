"""Find the reader for a checkpoint and read it."""

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from autointerp import resources
from autointerp.records import AutointerpError
from autointerp.units.sae.formats import (
    circuit_tracer,
    circuit_tracer_clt,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    goodfire,
    hook_z,
    llama_scope,
    llama_scope_r1,
    openai,
    qresearch,
    qwen_scope,
    saelens,
    sparsify,
)
from autointerp.units.sae.formats.checkpoint import SUFFIXES, Checkpoint, Options
from autointerp.units.sae.model import SparseAutoencoder
from autointerp.units.sae.sources import local_path

_log = logging.getLogger(__name__)


class Format(Protocol):
    """A module that reads one checkpoint format."""

    @property
    def LAYOUT(self) -> str:
        """What a checkpoint of this format looks like, in words."""
        ...

    @staticmethod
    def fits(checkpoint: Checkpoint) -> bool:
        """Whether a file of weights, with what lies beside it, is in this format."""
        ...

    @staticmethod
    def read(checkpoint: Checkpoint) -> SparseAutoencoder:
        """Read it; an `AutointerpError` says what is wrong with it."""
        ...


FORMATS: dict[str, Format] = {
    "saelens": saelens,
    "dictionary_learning": dictionary_learning,
    "openai": openai,
    "sparsify": sparsify,
    "gemma_scope": gemma_scope,
    "gemma_scope_2": gemma_scope_2,
    "llama_scope": llama_scope,
    "llama_scope_r1": llama_scope_r1,
    "goodfire": goodfire,
    "qresearch": qresearch,
    "qwen_scope": qwen_scope,
    "circuit_tracer": circuit_tracer,
    "circuit_tracer_clt": circuit_tracer_clt,
    "hook_z": hook_z,
}
"""Every format that is read, by name."""

MOST_FILES = 64
"""Files of weights that are looked into below a folder that is no checkpoint itself."""


def load_sae(
    path: str | Path,
    format: str | None = None,
    *,
    revision: str | None = None,
    k: int | None = None,
    input_scale: float | None = None,
) -> SparseAutoencoder:
    """Read a sparse autoencoder or a transcoder of any known format.

    Args:
        path: a folder, a file of weights, or `organisation/repository:path/in/it` on the Hugging
            Face hub; `demo` is the shipped one. A folder that is no checkpoint itself is searched
            for the only one below it.
        format: one of `FORMATS`; recognised from the files if left out.
        revision: branch, tag or commit on the hub.
        k: latents kept per token, for a format whose files do not say (Qwen Scope).
        input_scale: sqrt(d_in) / mean norm of the training data, for a checkpoint that needs it
            and does not say it.

    Raises:
        AutointerpError: where nothing is there, no format or more than one fits, or the files are
            damaged or contradict themselves.

    Example:
        >>> sae = load_sae("google/gemma-scope-2b-pt-res:layer_20/width_16k/average_l0_71")
        >>> latents = sae.encode(hidden)  # [n_tokens, n_latents]
    """
    if format is not None and format not in FORMATS:
        raise AutointerpError(f"format {format!r} is not known; one of {', '.join(FORMATS)}")
    if not str(path).strip():
        raise AutointerpError(f"{path!r} names no sparse autoencoder: give a folder or a file")
    place = local_path(resources.path("datasets/demo/sae") if path == "demo" else path, revision)
    options = Options(k, input_scale)
    name, checkpoint = _the_only_one(str(path), place, format, options)
    sae = FORMATS[name].read(checkpoint)
    sae.format = name
    _log.info("%s: %r", path, sae)
    if centred_weights(sae):
        _log.warning(
            "%s was trained on hidden states whose mean was removed (center_writing_weights); "
            "those of a model whose weights are not centred differ by it",
            path,
        )
    return sae


def centred_weights(sae: SparseAutoencoder) -> bool:
    """Whether it was trained on a model whose residual stream has mean zero."""
    loading = sae.metadata.get("model_from_pretrained_kwargs")
    return isinstance(loading, dict) and loading.get("center_writing_weights") is True


def _the_only_one(
    given: str, place: Path, format: str | None, options: Options
) -> tuple[str, Checkpoint]:
    """The one format and checkpoint that a place holds."""
    refused: list[AutointerpError] = []
    for files in _looks(place):
        found: list[tuple[str, Checkpoint]] = []
        for file in files:
            checkpoint = Checkpoint(file, options)
            try:
                found += [(name, checkpoint) for name in _fitting(checkpoint, format)]
            except AutointerpError as error:
                refused.append(error)
        if len(found) == 1:
            return found[0]
        if found:
            listed = "; ".join(f"{c.file.relative_to(_root(place))} ({n})" for n, c in found[:8])
            more = f" and {len(found) - 8} more" if len(found) > 8 else ""
            raise AutointerpError(
                f"{given!r} holds {len(found)} that fit: {listed}{more}; name the file, or the "
                "format"
            )
        if refused:
            # A file that is damaged fits no format, and is what the user must hear of.
            raise refused[0]
    raise AutointerpError(_nothing(given, place, format))


def _fitting(checkpoint: Checkpoint, format: str | None) -> list[str]:
    wanted = FORMATS if format is None else {format: FORMATS[format]}
    return [name for name, reader in wanted.items() if reader.fits(checkpoint)]


def _looks(place: Path) -> Iterator[list[Path]]:
    """Where to look, one list after the other: in the folder itself, then anywhere below it."""
    if place.is_file():
        yield [place] if place.suffix in SUFFIXES else []
        return
    here = _weights(place.iterdir())
    yield here + _weights(place.glob("checkpoints/final.safetensors"))
    yield _weights(path for path in islice(place.rglob("*"), 20_000) if path not in here)


def _weights(paths: Iterator[Path]) -> list[Path]:
    files = (path for path in paths if path.suffix in SUFFIXES and path.is_file())
    return sorted(islice(files, MOST_FILES))


def _root(place: Path) -> Path:
    return place.parent if place.is_file() else place


def _nothing(given: str, place: Path, format: str | None) -> str:
    if place.is_file():
        held = ", ".join(sorted(Checkpoint(place).names)[:8]) if place.suffix in SUFFIXES else ""
        held = f"tensors {held[:200]}" if held else f"a file that ends in {place.suffix!r}"
    else:
        held = ", ".join(sorted(path.name for path in place.iterdir())[:8]) or "nothing"
    if format is not None:
        return f"{given!r} is not in format {format!r} ({FORMATS[format].LAYOUT}): it holds {held}"
    return (
        f"{given!r} is in no format known here ({', '.join(FORMATS)}): it holds {held}; "
        "docs/sae-formats.md says what each looks like"
    )
