"""Rows to files: jsonl, csv, Parquet, a data set folder. Each whole or not at all, row by row."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.analysis.tables import n_in_control_mean
from autointerp.export.arrow import arrow_schema
from autointerp.records import AutointerpError

ROWS_PER_GROUP = 512
"""Rows of a Parquet row group: what is held in memory."""

ROWS_PER_SHARD = 65_536
"""Rows of a file of a data set folder."""

_PART = re.compile(r"part-[0-9]+\.parquet")

_PARQUET: dict[str, Any] = {"compression": "zstd", "write_statistics": False}

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run at the start of a cell."""

_SCORE_COLUMNS = (
    "scorer", "metric", "status", "stage", "reason", "score", "score_low", "score_high", "chance",
    "lift", "lift_low", "lift_high", "control_mean", "n_controls", "lookup_score", "n_windows",
    "n_documents", "n_active_documents", "n_tokens", "n_unknown_tokens", "simulator", "design",
    "split",
)  # fmt: skip
_UNIT_COLUMNS = (
    "unit", "source", "index", "polarity", "firing_rate", "token_entropy", "explainer",
    "is_baseline", "explanation", "explanation_status",
)  # fmt: skip
_PROVENANCE_COLUMNS = ("run", "subject", "hook_point", "layer", "records_key", "corpus_licence")
CSV_COLUMNS = (*_UNIT_COLUMNS, *_SCORE_COLUMNS, *_PROVENANCE_COLUMNS, "schema_version")
"""Columns of an exported csv file: a row per unit, explainer and scorer."""


def write_jsonl(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """One object a line; returns the number of rows."""
    n = 0
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            n += 1
    return n


def write_csv(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """A line per unit, explainer and scorer; returns the number of rows that went in.

    A text that a spreadsheet would run gets an apostrophe before it.
    """
    n = 0
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerows(_flat(row))
            n += 1
    return n


class RowWriter:
    """Writes rows to a Parquet file, a row group at a time; the file is there when it is whole."""

    def __init__(self, path: Path) -> None:
        """Write nothing yet."""
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self.n_rows = 0

    def __enter__(self) -> "RowWriter":
        self._stack = ExitStack()
        partial = self._stack.enter_context(whole_file(self._path))
        writer = pq.ParquetWriter(partial, arrow_schema(), **_PARQUET)
        self._writer = self._stack.enter_context(writer)
        return self

    def write(self, row: dict[str, Any]) -> None:
        """One row more."""
        self._rows.append(row)
        self.n_rows += 1
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def __exit__(self, *what: Any) -> None:
        if what[0] is None:
            self._flush()
        self._stack.__exit__(*what)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, arrow_schema()))
            self._rows.clear()


def write_parquet(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """One Parquet file; returns the number of rows."""
    with RowWriter(path) as writer:
        for row in rows:
            writer.write(row)
    return writer.n_rows


def write_dataset(rows: Iterable[dict[str, Any]], folder: Path, card: Callable[[int], str]) -> int:
    """A folder that `datasets.load_dataset` opens: Parquet files and a card; returns the rows.

    Args:
        card: number of rows → text of its README.md.

    Raises:
        AutointerpError: where the folder is there already and is no such data set.
    """
    data = folder / "data"
    others = [p for p in folder.glob("*") if p.name not in ("data", "README.md")]
    others += [p for p in data.glob("*") if not _PART.fullmatch(p.name)]
    if others:
        raise AutointerpError(
            f"{folder} holds other files ({others[0].name}): give a folder of its own"
        )
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    n, number = 0, 0
    remaining = iter(rows)
    while number == 0 or n == number * ROWS_PER_SHARD:
        written = write_parquet(
            _first(remaining, ROWS_PER_SHARD), data / f"part-{number:05}.parquet"
        )
        if written == 0 and number:
            (data / f"part-{number:05}.parquet").unlink()
            break
        n, number = n + written, number + 1
    (folder / "README.md").write_text(card(n), encoding="utf-8")
    return n


def as_cell(value: Any) -> Any:
    """A value as a cell that no spreadsheet runs."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def from_cell(text: str) -> str:
    """The text of such a cell."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _flat(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    shared = {**row, "explanation_status": row["status"], **row["provenance"]}
    for score in row["scores"]:
        flat = {**shared, **score, "n_controls": n_in_control_mean(score["controls"])}
        for name in ("score", "lift"):
            ends = score[f"{name}_interval"] or {"low": None, "high": None}
            flat |= {f"{name}_low": ends["low"], f"{name}_high": ends["high"]}
        yield {name: as_cell(flat[name]) for name in CSV_COLUMNS}


def _first(rows: Iterator[Any], most: int) -> Iterator[Any]:
    for _ in range(most):
        try:
            yield next(rows)
        except StopIteration:
            return


@contextmanager
def whole_file(path: Path) -> Generator[Path, None, None]:
    """A path beside, which takes the place of `path` where nothing went wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
