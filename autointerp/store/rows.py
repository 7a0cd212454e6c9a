"""The rows of a run's files, and back: units, records, statistics, simulations, scores."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from autointerp.records import (
    ActivationRecord,
    ControlScore,
    HardBy,
    Interval,
    Score,
    Sequence,
    Simulation,
    Split,
    SplitStatistics,
    Status,
    TopToken,
    UnitId,
    UnitRecord,
    Window,
)

RECORD_SCHEMA = pa.schema(
    {
        "index": pa.int32(),
        "polarity": pa.int8(),
        "split": pa.dictionary(pa.int8(), pa.string()),
        "stratum": pa.dictionary(pa.int8(), pa.string()),
        "probability": pa.float32(),
        "sequence_id": pa.string(),
        "start": pa.int32(),
        "stop": pa.int32(),
        "maximum": pa.float32(),
        "positions": pa.list_(pa.uint16()),
        "shares": pa.list_(pa.float16()),
        "kind": pa.dictionary(pa.int8(), pa.string()),
        "hard_by": pa.dictionary(pa.int8(), pa.string()),
    }
)
"""`positions` are the tokens of the window with an activation > 0, `shares` these activations
divided by `maximum`: float16 then loses at most 1 part in 2,000. On disk a number stands for
`sequence_id` (`store.sequence_numbers`)."""

_TOP_TOKEN = pa.struct(
    {
        "token": pa.string(),
        "mean": pa.float32(),
        "mean_upper": pa.float32(),
        "count": pa.int64(),
        "maximum": pa.float32(),
    }
)
"""`mean_upper` is null where it is `mean`."""

_SPLIT_STATISTICS = pa.struct(
    {
        "split": pa.string(),
        "n_tokens": pa.int64(),
        "n_active": pa.int64(),
        "n_documents": pa.int64(),
        "n_active_documents": pa.int64(),
        "maximum": pa.float64(),
        "moments": pa.list_(pa.float64()),
        "histogram_start": pa.int32(),
        "histogram": pa.list_(pa.int64()),
        "top_tokens": pa.list_(_TOP_TOKEN),
    }
)
UNIT_SCHEMA = pa.schema(
    {
        "index": pa.int32(),
        "polarity": pa.int8(),
        "explain_density": pa.float64(),
        "explain_active_documents": pa.int64(),
        "explain_maximum": pa.float64(),
        "row_group": pa.int32(),
        "neighbour_index": pa.int32(),
        "neighbour_polarity": pa.int8(),
        "neighbour_cosine": pa.float32(),
        "statistics": pa.list_(_SPLIT_STATISTICS),
    }
)
CORPUS_SCHEMA = pa.schema(
    {
        "tokenizer": pa.dictionary(pa.int16(), pa.string()),
        "sequence_id": pa.string(),
        "document_id": pa.string(),
        "document_name": pa.string(),
        "kind": pa.string(),
        "split": pa.string(),
        "text": pa.string(),
        "token_ids": pa.list_(pa.int32()),
        "masked": pa.list_(pa.bool_()),
        "char_starts": pa.list_(pa.int32()),
        "char_ends": pa.list_(pa.int32()),
    }
)


def record_row(record: ActivationRecord) -> dict[str, Any]:
    """Row of records/SOURCE.parquet."""
    maximum = np.float32(record.maximum)
    positions = np.flatnonzero(record.activations > 0)
    return {
        "index": record.unit.index,
        "polarity": record.unit.polarity,
        "split": str(record.split),
        "stratum": record.stratum,
        "probability": record.probability,
        "sequence_id": record.window.sequence_id,
        "start": record.window.start,
        "stop": record.window.stop,
        "maximum": maximum,
        "positions": positions.astype(np.uint16),
        "shares": (record.activations[positions] / maximum).astype(np.float16),
        "kind": record.kind,
        "hard_by": record.hard_by,
    }


def window_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of records/SOURCE.parquet as `record_of` reads them: lists of numbers as arrays."""
    lists = [name for name in ("positions", "shares") if name in table.column_names]
    rows = table.drop_columns(lists).to_pylist()
    for name in lists:
        column = table[name].combine_chunks()
        values = column.values.to_numpy(zero_copy_only=False)
        ends = column.offsets.to_numpy()
        for row, (first, last) in zip(rows, pairwise(ends.tolist()), strict=True):
            row[name] = values[first:last]
    return rows


def record_of(
    source: str, row: dict[str, Any], parents: Mapping[str, Sequence], vocabulary: list[str]
) -> ActivationRecord:
    """The inverse of `record_row`; token texts come from the corpus."""
    sequence = parents[row["sequence_id"]]
    span = slice(row["start"], row["stop"])
    activations = np.zeros(row["stop"] - row["start"], np.float32)
    # Files written before positions were kept hold the share of every token.
    positions = row.get("positions")
    activations[slice(None) if positions is None else positions] = row["shares"]
    hard_by = row.get("hard_by")
    return ActivationRecord(
        unit=UnitId(source, row["index"], row["polarity"]),
        window=Window(row["sequence_id"], row["start"], row["stop"]),
        document_id=sequence.document_id,
        split=Split(row["split"]),
        stratum=row["stratum"],
        probability=row["probability"],
        tokens=tuple(map(vocabulary.__getitem__, sequence.token_ids[span].tolist())),
        activations=np.float32(row["maximum"]) * activations,
        masked=sequence.masked[span],
        kind=row["kind"],
        hard_by=None if hard_by is None else HardBy(hard_by),
    )


def unit_of(
    source: str,
    row: dict[str, Any],
    records: list[dict[str, Any]],
    parents: Mapping[str, Sequence],
    vocabulary: list[str],
) -> UnitRecord:
    """A unit from its row and the rows of its windows."""
    neighbour = row.get("neighbour_index")
    return UnitRecord(
        UnitId(source, row["index"], row["polarity"]),
        tuple(record_of(source, found, parents, vocabulary) for found in records),
        statistics_of(row["statistics"]),
        None if neighbour is None else UnitId(source, neighbour, row["neighbour_polarity"]),
        None if neighbour is None else row["neighbour_cosine"],
    )


def unit_row(unit: UnitRecord, row_group: int) -> dict[str, Any]:
    """Row of records/SOURCE.statistics.parquet; `row_group` of its windows, -1 for none."""
    explain = unit.statistics.get(Split.EXPLAIN)
    explain_records = unit.of(Split.EXPLAIN)
    n_tokens = sum(len(record.activations) for record in explain_records)
    n_active = sum(int((record.activations > 0).sum()) for record in explain_records)
    sampled_density = n_active / n_tokens if n_tokens else 0.0
    sampled_documents = len({r.document_id for r in explain_records if r.maximum > 0})
    return {
        "index": unit.unit.index,
        "polarity": unit.unit.polarity,
        "explain_density": explain.density if explain else sampled_density,
        "explain_active_documents": explain.n_active_documents if explain else sampled_documents,
        "explain_maximum": unit.explain_maximum(),
        "row_group": row_group,
        "neighbour_index": unit.neighbour.index if unit.neighbour else None,
        "neighbour_polarity": unit.neighbour.polarity if unit.neighbour else None,
        "neighbour_cosine": unit.neighbour_cosine,
        "statistics": [statistics_row(split, s) for split, s in unit.statistics.items()],
    }


def statistics_row(split: Split, statistics: SplitStatistics) -> dict[str, Any]:
    """One split's statistics; the histogram without its empty ends."""
    counts = np.asarray(statistics.histogram, np.int64)
    used = np.flatnonzero(counts)
    start, stop = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
    return {
        **{k: v for k, v in vars(statistics).items() if k not in ("histogram", "top_tokens")},
        "split": str(split),
        "moments": list(statistics.moments),
        "histogram_start": start,
        "histogram": counts[start:stop].tolist(),
        "top_tokens": [_top_token_row(token) for token in statistics.top_tokens],
    }


def _top_token_row(token: TopToken) -> dict[str, Any]:
    exact = token.mean_upper == token.mean
    return {**asdict(token), "mean_upper": None if exact else token.mean_upper}


def _top_token_of(row: dict[str, Any]) -> TopToken:
    upper = row["mean"] if row["mean_upper"] is None else row["mean_upper"]
    return TopToken(**{**row, "mean_upper": upper})


def statistics_of(rows: list[dict[str, Any]]) -> dict[Split, SplitStatistics]:
    """The inverse of `statistics_row`."""
    found: dict[Split, SplitStatistics] = {}
    for row in rows:
        before = (0,) * row["histogram_start"]
        mean, square, cube, fourth = row["moments"]
        found[Split(row["split"])] = SplitStatistics(
            n_tokens=row["n_tokens"],
            n_active=row["n_active"],
            n_documents=row["n_documents"],
            n_active_documents=row["n_active_documents"],
            maximum=row["maximum"],
            moments=(mean, square, cube, fourth),
            histogram=(*before, *row["histogram"]),
            top_tokens=tuple(map(_top_token_of, row["top_tokens"])),
        )
    return found


def pack_simulations(parts: list[Simulation]) -> tuple[str, bytes, bytes, bytes]:
    """Columns lengths, expected (float16 or float32), known (bits), level_mass (bytes)."""

    def joined(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
        return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)

    known = joined([part.known for part in parts], bool)
    expected = _compact(joined([np.where(p.known, p.expected, 0.0) for p in parts], np.float32))
    mass = joined([np.clip(p.level_mass, 0, 1) * 255 for p in parts], np.uint8)
    lengths = json.dumps([len(part.known) for part in parts])
    return lengths, expected.tobytes(), np.packbits(known).tobytes(), mass.tobytes()


def _compact(expected: np.ndarray) -> np.ndarray:
    """float16 where that changes no value by more than 1/1,000 of the largest, else as it is.

    Levels fit. A look-up table predicts activations in the unit's own units: float16 would
    make infinity of what is above 65,504 and nothing of what is below 6e-8.
    """
    with np.errstate(over="ignore"):
        half = expected.astype(np.float16)
    error = np.abs(half.astype(np.float32) - expected).max(initial=0.0)
    return half if error <= 1e-3 * np.abs(expected).max(initial=0.0) else expected


def unpack_simulations(
    lengths: str, expected: bytes, known: bytes, mass: bytes
) -> list[Simulation]:
    """The inverse of `pack_simulations`: levels as rounded."""
    sizes = json.loads(lengths)
    total = sum(sizes)
    dtype = np.float16 if len(expected) == 2 * total else np.float32
    levels = np.frombuffer(expected, dtype).astype(np.float32)
    is_known = np.unpackbits(np.frombuffer(known, np.uint8), count=total).astype(bool)
    masses = np.frombuffer(mass, np.uint8).astype(np.float32) / 255
    ends = np.cumsum(sizes)
    return [
        Simulation(levels[a:b], is_known[a:b], masses[a:b])
        for a, b in zip(ends - sizes, ends, strict=True)
    ]


def score_of(unit: str, body: dict[str, Any]) -> Score:
    """A score from its JSON body."""

    def interval(value: dict[str, Any] | None) -> Interval | None:
        return None if value is None else Interval(**value)

    controls = tuple(
        ControlScore(
            c["name"],
            c["value"],
            Status(c["status"]),
            None if c["donor"] is None else UnitId(**c["donor"]),
            c["explanation_key"],
        )
        for c in body["controls"]
    )
    known: dict[str, Any] = {
        **body,
        "unit": UnitId.parse(unit),
        "status": Status(body["status"]),
        "split": Split(body["split"]),
        "interval": interval(body["interval"]),
        "lift_interval": interval(body["lift_interval"]),
        "controls": controls,
    }
    return Score(**known)
