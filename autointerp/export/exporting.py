"""`autointerp export`: a finished run, or an import, in the form asked for."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from autointerp.export.card import card_of
from autointerp.export.rows import FinishedRun, TextChoice, imported_rows
from autointerp.export.write import write_csv, write_dataset, write_jsonl, write_parquet
from autointerp.records import UsageError

_FILES: dict[str, Callable[[Iterable[dict[str, Any]], Path], int]] = {
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "csv": write_csv,
}
FORMATS = (*_FILES, "dataset")
"""What a run can be written as."""


def export_run(
    folder: str | Path, format: str, output: str | Path, choice: TextChoice | None = None
) -> int:
    """Write a run for other programs.

    Args:
        folder: of a finished run.
        format: one of `FORMATS`.
        output: the file to write, or the folder for formats of several files.
        choice: what of the corpus goes along.

    Returns:
        The number of rows.

    Raises:
        UsageError: where the format is unknown, or the output does not fit it.
        AutointerpError: where the run cannot be read.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format!r} is not one of {', '.join(FORMATS)}")
    choice, place = choice or TextChoice(), Path(output)
    if format in _FILES and place.is_dir():
        raise UsageError(f"{place} is a folder: --format {format} writes one file")
    if format not in _FILES and place.is_file():
        raise UsageError(f"{place} is a file: --format {format} writes a folder")
    if (Path(folder) / "import.json").exists():
        return _export_import(Path(folder), format, place, choice)
    run = FinishedRun(folder)
    try:
        if format in _FILES:
            return _FILES[format](run.rows(choice), place)
        return write_dataset(run.rows(choice), place, lambda n: card_of(run, choice, n))
    finally:
        run.store.close()


def _export_import(folder: Path, format: str, place: Path, choice: TextChoice) -> int:
    if not (folder / "rows.parquet").exists():
        raise UsageError(
            f"{folder} holds nothing that `autointerp export` wrote: score what was imported, "
            "and export that run"
        )
    if format not in _FILES:
        raise UsageError(
            f"--format {format} needs the run itself; an import goes out as {', '.join(_FILES)}"
        )
    return _FILES[format](imported_rows(folder, choice), place)
