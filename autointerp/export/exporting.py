"""`autointerp export`: a finished run, or an import, in the form asked for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autointerp.export.card import card_of
from autointerp.export.neuronpedia import Names, write_neuronpedia, write_uploads
from autointerp.export.openai import write_openai
from autointerp.export.rows import FinishedRun, TextChoice, imported_rows
from autointerp.export.write import write_csv, write_dataset, write_jsonl, write_parquet
from autointerp.records import UsageError

_FILES: dict[str, Callable[[Iterable[dict[str, Any]], Path], int]] = {
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "csv": write_csv,
}
FORMATS = (*_FILES, "dataset", "openai", "neuronpedia", "neuronpedia-upload")
"""What a run can be written as."""


@dataclass(frozen=True)
class Exported:
    """What came of an export."""

    n: int
    """Rows; units for the formats of OpenAI and Neuronpedia."""
    left_out: tuple[str, ...] = ()
    """What the limits of the format kept back, a line each."""


def export_run(
    folder: str | Path,
    format: str,
    output: str | Path,
    choice: TextChoice | None = None,
    *,
    names: Names | None = None,
    layer: int | None = None,
) -> Exported:
    """Write a run for other programs.

    Args:
        folder: of a finished run.
        format: one of `FORMATS`.
        output: the file to write, or the folder for formats of several files.
        choice: what of the corpus goes along.
        names: how model and source are called on Neuronpedia.
        layer: for OpenAI's format, where the run does not know it.

    Raises:
        UsageError: where the format is unknown, or the output does not fit it.
        AutointerpError: where the run cannot be read.
    """
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    choice, place = choice or TextChoice(), Path(output)
    if format in _FILES and place.is_dir():
        raise UsageError(f"{place} is a folder: format {format} writes one file")
    if format not in _FILES and place.is_file():
        raise UsageError(f"{place} is a file: format {format} writes a folder")
    if (Path(folder) / "import.json").exists():
        return Exported(_export_import(Path(folder), format, place, choice))
    run = FinishedRun(folder)
    try:
        if format in _FILES:
            return Exported(_FILES[format](run.rows(choice), place))
        if format == "dataset":
            made = write_dataset(run.rows(choice), place, lambda n: card_of(run, choice, n))
            return Exported(made)
        _refuse_full(place)
        if format == "openai":
            _ = run.store.database  # refused before anything is written where simulations are gone
            return Exported(write_openai(run, place, choice, layer))
        if format == "neuronpedia":
            return Exported(write_neuronpedia(run, place, choice, names))
        done = write_uploads(run, place, choice, names)
        return Exported(done.n_features, tuple(done.left_out))
    finally:
        run.store.close()


def _refuse_full(folder: Path) -> None:
    """Files of an earlier export would stay among those of this one."""
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: give a folder of its own")


def _export_import(folder: Path, format: str, place: Path, choice: TextChoice) -> int:
    if not (folder / "rows.parquet").exists():
        raise UsageError(
            f"{folder} holds nothing that `autointerp export` wrote: score what was imported, "
            "and export that run"
        )
    if format not in _FILES:
        raise UsageError(
            f"format {format} needs the run itself; an import goes out as {', '.join(_FILES)}"
        )
    return _FILES[format](imported_rows(folder, choice), place)
