"""records/SOURCE.output.parquet: what each unit writes into the logits, and its nearest units.

One row per index, of polarity +1; polarity -1 writes the opposite, so it is read from the same row.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.records import Neighbour, TokenLogit, UnitId, UnitRecord
from autointerp.store.files import PARQUET, batched, check_schema, stamped

_UNITS_PER_ROW_GROUP = 256

_TOKEN = pa.struct({"token_id": pa.int32(), "token": pa.string(), "logit": pa.float32()})
_NEIGHBOUR = pa.struct({"index": pa.int32(), "polarity": pa.int8(), "cosine": pa.float32()})
OUTPUT_SCHEMA = pa.schema(
    {
        "index": pa.int32(),
        "promoted": pa.list_(_TOKEN),
        "suppressed": pa.list_(_TOKEN),
        "neighbours": pa.list_(_NEIGHBOUR),
    }
)


class Written(Protocol):
    """The output side of one index; `autointerp.units.output_side.Written`."""

    @property
    def index(self) -> int:
        """Index of the unit."""
        ...

    @property
    def promoted(self) -> list[tuple[int, float]] | None:
        """(token id, logit), largest logit first."""
        ...

    @property
    def suppressed(self) -> list[tuple[int, float]] | None:
        """(token id, logit), smallest logit first."""
        ...

    @property
    def neighbours(self) -> list[tuple[int, int, float]]:
        """(index, polarity, cosine), nearest first."""
        ...


def output_path(records_folder: Path, source: str) -> Path:
    """Where the output side of a source lies."""
    return records_folder / f"{source}.output.parquet"


def write_output_side(
    path: Path, key: str, units: Iterable[Written], vocabulary: list[str]
) -> None:
    """Write the output side of a source, index 0 first, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with pq.ParquetWriter(partial, stamped(OUTPUT_SCHEMA, key), **PARQUET) as writer:
        for batch in batched(units, _UNITS_PER_ROW_GROUP):
            rows = [_row(unit, vocabulary) for unit in batch]
            writer.write_table(pa.Table.from_pylist(rows, OUTPUT_SCHEMA))
    partial.replace(path)


def _row(unit: Written, vocabulary: list[str]) -> dict[str, Any]:
    def tokens(pairs: list[tuple[int, float]] | None) -> list[dict[str, Any]] | None:
        return (
            None
            if pairs is None
            else [{"token_id": i, "token": vocabulary[i], "logit": value} for i, value in pairs]
        )

    return {
        "index": unit.index,
        "promoted": tokens(unit.promoted),
        "suppressed": tokens(unit.suppressed),
        "neighbours": [
            {"index": index, "polarity": polarity, "cosine": cosine}
            for index, polarity, cosine in unit.neighbours
        ],
    }


class OutputSideFile:
    """The output side of one source, open for reading."""

    def __init__(self, path: Path, source: str) -> None:
        check_schema(path)
        self.source = source
        self._file = pq.ParquetFile(path)

    def added_to(self, record: UnitRecord) -> UnitRecord:
        """A unit's record with what it promotes and suppresses and with its neighbours.

        A unit that is not in the file, written for another source of the same name, stays as it is.
        """
        index, polarity = record.unit.index, record.unit.polarity
        if index >= self._file.metadata.num_rows:
            return record
        group = self._file.read_row_group(index // _UNITS_PER_ROW_GROUP, use_threads=False)
        (row,) = group.slice(index % _UNITS_PER_ROW_GROUP, 1).to_pylist()
        assert row["index"] == index
        ends = ("promoted", "suppressed")[::polarity]
        promoted, suppressed = (_tokens(row[end], polarity) for end in ends)
        near = tuple(
            Neighbour(UnitId(self.source, n["index"], n["polarity"] * polarity), n["cosine"])
            for n in row["neighbours"]
        )
        return replace(record, promoted=promoted, suppressed=suppressed, neighbours=near)


def _tokens(rows: list[dict[str, Any]] | None, polarity: int) -> tuple[TokenLogit, ...] | None:
    if rows is None:
        return None
    return tuple(TokenLogit(r["token"], r["token_id"], polarity * r["logit"]) for r in rows)
