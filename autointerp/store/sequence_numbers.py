"""records/SOURCE.sequences.parquet: the sequences that the windows of a source lie in.

A window's row holds the number of its sequence, a row of this file. Ids are hashes, which nothing
compresses: repeated in every row they would be a fifth of the records, the more so the longer the
corpus. Numbers count sequences as the windows first name them, so there are no more of them than
kept windows, and what they name does not depend on the rest of the run's folder.
"""

from pathlib import Path

import pyarrow as pa

from autointerp.store.files import read_schema, read_table, write_table
from autointerp.store.rows import RECORD_SCHEMA

_ID, NUMBER = "sequence_id", "sequence"


def numbers_path(records_folder: Path, source: str) -> Path:
    """Where the sequences of a source are listed."""
    return records_folder / f"{source}.sequences.parquet"


def stored_record_schema() -> pa.Schema:
    """RECORD_SCHEMA as it is on disk."""
    place = RECORD_SCHEMA.get_field_index(_ID)
    return RECORD_SCHEMA.set(place, pa.field(NUMBER, pa.int32()))


def has_numbers(path: Path) -> bool:
    """Whether the rows of windows in a file name sequences by number: older ones hold their ids."""
    return path.exists() and NUMBER in read_schema(path).names


class SequenceNumbers:
    """The sequences of a source while its rows are written."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def numbered(self, rows: pa.Table) -> pa.Table:
        """Rows of RECORD_SCHEMA with numbers in the place of ids."""
        ids = rows[_ID].combine_chunks().dictionary_encode()
        numbers = [
            self._numbers.setdefault(name, len(self._numbers))
            for name in ids.dictionary.to_pylist()
        ]
        column = pa.array(numbers, pa.int32()).take(ids.indices)
        return rows.set_column(rows.column_names.index(_ID), NUMBER, column)

    def write(self, path: Path, key: str) -> None:
        """Write the list, whole or not at all."""
        write_table(path, pa.table({_ID: pa.array(list(self._numbers), pa.string())}), key)


def read_numbers(path: Path) -> pa.Array:
    """[n] sequence ids by number."""
    return read_table(path)[_ID].combine_chunks()


def with_ids(rows: pa.Table, ids: pa.Array) -> pa.Table:
    """The inverse of `SequenceNumbers.numbered`."""
    place = rows.column_names.index(NUMBER)
    return rows.set_column(place, _ID, ids.take(rows[NUMBER].combine_chunks()))
