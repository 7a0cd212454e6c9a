"""Units whose activations were recorded elsewhere: from a parquet or jsonl file, no subject needed.

One row per window: `unit`, `tokens` (texts), `activations` (numbers, as many; of the side that the
unit's name says, so not negative), and, if known, `document` and `split`. Rows of one document stay
in one split. Where no split is given, it is fixed by the document as in any run.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.recording.corpus import document_id, near_duplicate_clusters, split_of_cluster
from autointerp.recording.design import SILENT_SHARE, stratum_of
from autointerp.records import (
    ActivationRecord,
    AutointerpError,
    Document,
    Sequence,
    Split,
    Strata,
    UnitId,
    UnitRecord,
    Window,
)

MAX_TOKENS = 65_536
"""Tokens of a window at most, on average over a Parquet file's rows."""

_COLUMNS = ("unit", "tokens", "activations", "document", "split")


@dataclass(frozen=True)
class Imported:
    """The content of one file."""

    source: str
    units: tuple[UnitRecord, ...]
    sequences: tuple[Sequence, ...]
    texts: dict[str, tuple[str, str, str]]
    """document_id → (text, name, kind)."""
    vocabulary: list[str]
    rejected: tuple[str, ...]
    """Rows that could not be used, each with its place and what is wrong."""
    n_negative: int = 0
    """Activations below 0, which were taken as 0."""

    def fingerprint(self) -> str:
        """Hash of all records."""
        digest = hashlib.blake2b(digest_size=16)
        for unit in self.units:
            for record in unit.records:
                facts = (str(unit.unit), record.window, str(record.split), record.tokens)
                digest.update(repr(facts).encode() + record.activations.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Row:
    unit: UnitId
    file_source: str
    """The source part of its unit's name in the file."""
    tokens: tuple[str, ...]
    activations: np.ndarray
    n_negative: int
    document: str
    """Its name in the file, or the text itself."""
    split: Split | None


def import_records(path: str | Path, source: str = "recorded") -> Imported:
    """Read recorded units.

    Args:
        path: a `.parquet` or `.jsonl` file.
        source: name of the unit source; replaces the source part of the file's unit names.

    Raises:
        AutointerpError: where the file cannot be read, has no usable row, holds units of several
            sources, or puts one document into two splits.
    """
    place = Path(path).expanduser()
    rows: list[_Row] = []
    rejected: list[str] = []
    seen: set[tuple[UnitId, str, tuple[str, ...]]] = set()
    for where, raw in _raw_rows(place):
        try:
            row = _parse(raw, source)
            window = (row.unit, f"{row.file_source}:{row.document}", row.tokens)
            if window in seen:
                raise AutointerpError(f"{row.unit} had the same tokens of this document before")
        except (AutointerpError, ValueError) as error:
            rejected.append(f"{where}: {error}")
        else:
            seen.add(window)
            rows.append(row)
    if not rows:
        first = f"; the first: {rejected[0]}" if rejected else ""
        raise AutointerpError(
            f"{place} has no usable row ({len(rejected)} refused{first}); every row needs `unit`, "
            "`tokens` (list of texts) and `activations` (list of as many numbers)"
        )
    _check_one_source(rows, place)
    splits = _splits(rows)
    vocabulary = sorted({token for row in rows for token in row.tokens})
    ids = {token: number for number, token in enumerate(vocabulary)}
    sequences: dict[str, Sequence] = {}
    texts: dict[str, tuple[str, str, str]] = {}
    by_unit: dict[UnitId, list[tuple[_Row, Sequence]]] = {}
    offsets: dict[str, int] = {}
    for row in rows:
        # Two sources may call different texts by one name.
        key = document_id(f"{source}:{row.document}")
        name = f"{key}:{chr(31).join(row.tokens)}"
        sequence_id = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
        if sequence_id not in sequences:
            start = offsets.get(key, 0)
            ends = start + np.cumsum([len(token) for token in row.tokens])
            offsets[key] = int(ends[-1])
            sequences[sequence_id] = Sequence(
                sequence_id,
                key,
                splits[row.document],
                np.asarray([ids[token] for token in row.tokens], np.int32),
                np.zeros(len(row.tokens), bool),
                (ends - [len(token) for token in row.tokens]).astype(np.int32),
                ends.astype(np.int32),
            )
            before, shown, _ = texts.get(key, ("", row.document[:80], ""))
            texts[key] = (before + "".join(row.tokens), shown, "")
        by_unit.setdefault(row.unit, []).append((row, sequences[sequence_id]))
    units = tuple(_unit_record(unit, found) for unit, found in sorted(by_unit.items()))
    return Imported(
        source,
        units,
        tuple(sequences.values()),
        texts,
        vocabulary,
        tuple(rejected),
        sum(row.n_negative for row in rows),
    )


def _raw_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not path.exists():
        raise AutointerpError(f"{str(path)!r} does not exist")
    if path.suffix == ".parquet":
        for number, row in enumerate(_parquet_rows(path), start=1):
            yield f"{path.name}, row {number}", row
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        row = {"malformed": f"not JSON ({error})"}
                    yield f"{path.name}, line {number}", row
    else:
        raise AutointerpError(f"{path} is neither .parquet nor .jsonl")


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, a few at a time: what a small file unfolds to is bounded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            known = [name for name in _COLUMNS if name in file.schema_arrow.names]
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                most = max(
                    (group.column(i).num_values for i in range(group.num_columns)), default=0
                )
                if most > MAX_TOKENS * max(group.num_rows, 1):
                    raise AutointerpError(
                        f"{path} has {most:,} values in {group.num_rows:,} rows: more than "
                        f"{MAX_TOKENS:,} tokens a row are no windows"
                    )
            for batch in file.iter_batches(batch_size=256, columns=known):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise AutointerpError(f"{path} cannot be read as Parquet ({error})") from error


def _parse(raw: Any, source: str) -> _Row:
    if not isinstance(raw, dict):
        raise AutointerpError("not an object")
    if "malformed" in raw:
        raise AutointerpError(raw["malformed"])
    name = str(raw.get("unit") if raw.get("unit") is not None else "")
    if not name:
        raise AutointerpError("no `unit`")
    found = UnitId.parse(name if "/" in name else f"{source}/{name}")
    unit = UnitId(source, found.index, found.polarity)
    tokens, activations = raw.get("tokens"), raw.get("activations")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(t, str) for t in tokens):
        raise AutointerpError("`tokens` is not a list of texts")
    if not isinstance(activations, list) or len(activations) != len(tokens):
        size = len(activations) if isinstance(activations, list) else "no list of"
        raise AutointerpError(f"{len(tokens)} tokens but {size} activations")
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in activations):
        raise AutointerpError("`activations` are not all numbers")
    # Integers of any length come from a file; float32 is what is stored.
    with np.errstate(over="ignore"):
        values = np.asarray([_float(value) for value in activations]).astype(np.float32)
    if not np.isfinite(values).all():
        raise AutointerpError("`activations` hold NaN or infinity, or are beyond 3e38")
    n_negative = int((values < 0).sum())
    if n_negative and unit.polarity < 0:
        raise AutointerpError(
            f"{unit} is the negative side of a unit, and {n_negative} of its `activations` are "
            "below 0: give the magnitudes of what is negative, and 0 elsewhere"
        )
    split = raw.get("split")
    if split is not None and split not in set(Split):
        raise AutointerpError(f"split {split!r} is not one of {', '.join(Split)}")
    document = raw.get("document")
    return _Row(
        unit,
        found.source,
        tuple(_whole(token) for token in tokens),
        np.maximum(values, np.float32(0)),
        n_negative,
        _whole(str(document) if document is not None else "".join(tokens)),
        Split(split) if split is not None else None,
    )


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _whole(text: str) -> str:
    """The text with half surrogate pairs, which no file could hold, as question marks."""
    return text.encode("utf-8", "replace").decode()


def _check_one_source(rows: list[_Row], path: Path) -> None:
    """Refuse a file in which two units would get one name."""
    sources = sorted({row.file_source for row in rows})
    if len(sources) > 1:
        raise AutointerpError(
            f"{path} holds units of {len(sources)} sources ({', '.join(sources[:5])}): give each "
            "a file of its own, and list the files under `sources:`"
        )


def _splits(rows: list[_Row]) -> dict[str, Split]:
    """The split of every document: as given, else by its near-duplicate cluster."""
    given: dict[str, Split] = {}
    texts: dict[str, list[str]] = {}
    for row in rows:
        texts.setdefault(row.document, []).append("".join(row.tokens))
        if row.split is not None and given.setdefault(row.document, row.split) != row.split:
            raise AutointerpError(
                f"document {row.document[:60]!r} is in the splits {given[row.document]} and "
                f"{row.split}: all rows of a document belong to one split"
            )
    documents = [
        Document(document_id(name), "\n".join(dict.fromkeys(parts)), name)
        for name, parts in texts.items()
        if name not in given
    ]
    clusters = near_duplicate_clusters(documents)
    hashed = {d.name: split_of_cluster(clusters[d.document_id]) for d in documents}
    return {**hashed, **given}


def _unit_record(unit: UnitId, found: list[tuple[_Row, Sequence]]) -> UnitRecord:
    """Windows sorted into strata by value; chosen elsewhere, so probability 1 means unknown."""
    explain = [row.activations.max() for row, s in found if s.split == Split.EXPLAIN]
    maximum = float(max(explain, default=0.0))
    records: dict[tuple[str, Split], ActivationRecord] = {}
    for row, sequence in found:
        largest = float(row.activations.max())
        if maximum > 0:
            stratum = stratum_of(largest, maximum, active_in_sequence=False)
        else:
            stratum = Strata.SILENT if largest <= SILENT_SHARE * maximum else Strata.interval(10)
        records[sequence.sequence_id, sequence.split] = ActivationRecord(
            unit=unit,
            window=Window(sequence.sequence_id, 0, len(row.tokens)),
            document_id=sequence.document_id,
            split=sequence.split,
            stratum=stratum,
            probability=1.0,
            tokens=row.tokens,
            activations=row.activations,
            masked=sequence.masked,
        )
    return UnitRecord(unit, tuple(records.values()), {})
