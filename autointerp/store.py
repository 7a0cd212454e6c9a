"""The run directory: what is on disk, in which form, and how it is written whole or not at all.

    config.yaml  provenance.json  corpus.parquet  vocabulary.parquet
    records/SOURCE.parquet             one row per unit and window, 16 units a row group
    records/SOURCE.statistics.parquet  one row per unit
    results.sqlite                     explanations, simulations, scores, ledger (WAL, one writer)

Every file carries `schema_version` and the key of what it was made from. Scores are computed from
what is read back, rounding included, so that they can be recomputed exactly.
"""

import json
import os
import platform
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from autointerp.records import (
    SCHEMA_VERSION,
    ActivationRecord,
    AutointerpError,
    ControlScore,
    Explanation,
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

UNITS_PER_ROW_GROUP = 16
"""A unit is read in milliseconds, a file of them stays small."""

_RECORD_SCHEMA = pa.schema(
    {
        "index": pa.int32(),
        "polarity": pa.int8(),
        "split": pa.dictionary(pa.int8(), pa.string()),
        "stratum": pa.dictionary(pa.int8(), pa.string()),
        "probability": pa.float64(),
        "sequence_id": pa.string(),
        "start": pa.int32(),
        "stop": pa.int32(),
        "maximum": pa.float32(),
        "shares": pa.list_(pa.float16()),
        "kind": pa.dictionary(pa.int8(), pa.string()),
    }
)
"""`shares` are activations divided by `maximum`: float16 then loses at most 1 part in 2,000."""

_TOP_TOKEN = pa.struct(
    {
        "token": pa.string(),
        "mean": pa.float64(),
        "mean_upper": pa.float64(),
        "count": pa.int64(),
        "maximum": pa.float64(),
    }
)
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
_UNIT_SCHEMA = pa.schema(
    {
        "index": pa.int32(),
        "polarity": pa.int8(),
        "explain_density": pa.float64(),
        "explain_active_documents": pa.int64(),
        "explain_maximum": pa.float64(),
        "row_group": pa.int32(),
        "statistics": pa.list_(_SPLIT_STATISTICS),
    }
)
_CORPUS_SCHEMA = pa.schema(
    {
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

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS explanations (
    key TEXT PRIMARY KEY, unit TEXT NOT NULL, explainer TEXT NOT NULL, status TEXT NOT NULL,
    text TEXT, reason TEXT NOT NULL, details TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS simulations (
    key TEXT PRIMARY KEY, explanation TEXT NOT NULL, simulator TEXT NOT NULL, lengths TEXT NOT NULL,
    expected BLOB NOT NULL, known BLOB NOT NULL, level_mass BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS scores (
    key TEXT PRIMARY KEY, unit TEXT NOT NULL, explanation_key TEXT NOT NULL,
    explainer TEXT NOT NULL, scorer TEXT NOT NULL, simulator TEXT NOT NULL, split TEXT NOT NULL,
    value REAL, status TEXT NOT NULL, lift REAL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, purpose TEXT NOT NULL, model TEXT NOT NULL,
    requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, seconds REAL NOT NULL);
"""


@dataclass(frozen=True)
class UnitSummary:
    """What is known of a recorded unit without reading its windows; all of `explain`."""

    unit: UnitId
    density: float
    """Share of tokens on which it is active."""

    active_documents: int
    """Documents in which it is active."""

    maximum: float
    """Largest activation; 0 for a dead unit."""


_SUMMARY_COLUMNS = (
    "index",
    "polarity",
    "explain_density",
    "explain_active_documents",
    "explain_maximum",
)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


class RunStore:
    """One run's folder. Open it with `lock()` to write."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._database: sqlite3.Connection | None = None
        self._groups: dict[str, tuple[pq.ParquetFile, dict[UnitId, tuple[int, int]]]] = {}

    @property
    def records_folder(self) -> Path:
        """Where Parquet records lie."""
        return self.folder / "records"

    # ------------------------------------------------------------------ lock

    def lock(self) -> "RunLock":
        """A lock on the folder: entering it fails at once where another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return RunLock(self.folder)

    # ------------------------------------------------------------------ files

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run, whole or not at all."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(self.folder / name, text + "\n")

    def read_json(self, name: str) -> Any:
        """A JSON file of the run, or `None` where there is none."""
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    # ------------------------------------------------------------------ corpus

    def corpus_key(self) -> str | None:
        """The key `corpus.parquet` was made from, `None` where there is none."""
        return _file_key(self.folder / "corpus.parquet")

    def write_corpus(
        self,
        key: str,
        sequences: Iterable[Sequence],
        texts: dict[str, tuple[str, str, str]],
        vocabulary: list[str],
    ) -> None:
        """Write sequences and the vocabulary.

        Args:
            texts: document_id → (text, name, kind).
        """
        rows: list[dict[str, Any]] = []
        for sequence in sequences:
            text, name, kind = texts[sequence.document_id]
            first, last = int(sequence.char_starts[0]), int(sequence.char_ends.max())
            rows.append(
                {
                    "sequence_id": sequence.sequence_id,
                    "document_id": sequence.document_id,
                    "document_name": name,
                    "kind": kind,
                    "split": str(sequence.split),
                    "text": text[first:last],
                    "token_ids": sequence.token_ids,
                    "masked": sequence.masked,
                    "char_starts": sequence.char_starts - first,
                    "char_ends": sequence.char_ends - first,
                }
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        texts_table = pa.table({"text": pa.array(vocabulary, pa.string())})
        _write_table(self.folder / "vocabulary.parquet", texts_table, key)
        _write_table(
            self.folder / "corpus.parquet", pa.Table.from_pylist(rows, _CORPUS_SCHEMA), key
        )

    def read_sequences(self) -> tuple[list[Sequence], dict[str, dict[str, str]]]:
        """All sequences in corpus order, and for each id its `text`, `document_name`, `kind`."""
        table = _read_table(self.folder / "corpus.parquet")
        sequences: list[Sequence] = []
        facts: dict[str, dict[str, str]] = {}
        for row in table.to_pylist():
            sequences.append(
                Sequence(
                    row["sequence_id"],
                    row["document_id"],
                    Split(row["split"]),
                    np.asarray(row["token_ids"], np.int32),
                    np.asarray(row["masked"], bool),
                    np.asarray(row["char_starts"], np.int32),
                    np.asarray(row["char_ends"], np.int32),
                )
            )
            facts[row["sequence_id"]] = {
                name: row[name] for name in ("text", "document_name", "kind")
            }
        return sequences, facts

    def read_vocabulary(self) -> list[str]:
        """Text of every token id."""
        return _read_table(self.folder / "vocabulary.parquet")["text"].to_pylist()

    # ------------------------------------------------------------------ records

    def records_key(self, source: str) -> str | None:
        """The key the records of a source were made from, `None` where they are not complete."""
        if not (self.records_folder / f"{source}.parquet").exists():
            return None
        return _file_key(self.records_folder / f"{source}.statistics.parquet")

    def write_records(self, source: str, key: str, units: Iterable[UnitRecord]) -> int:
        """Write the records of a source, sorted as given; returns the number of units."""
        self.records_folder.mkdir(parents=True, exist_ok=True)
        path = self.records_folder / f"{source}.parquet"
        partial = path.with_name(f".{path.name}.partial")
        unit_rows: list[dict[str, Any]] = []
        n_groups = 0
        with pq.ParquetWriter(partial, _stamped(_RECORD_SCHEMA, key), compression="zstd") as writer:
            for batch in _batched(units, UNITS_PER_ROW_GROUP):
                rows = [_record_row(record) for unit in batch for record in unit.records]
                for unit in batch:
                    unit_rows.append(_unit_row(unit, n_groups if unit.records else -1))
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, _RECORD_SCHEMA))
                    n_groups += 1
        partial.replace(path)
        # The statistics come last: `records_key` reads them, so a run killed before starts over.
        _write_table(
            self.records_folder / f"{source}.statistics.parquet",
            pa.Table.from_pylist(unit_rows, _UNIT_SCHEMA),
            key,
            row_group_size=UNITS_PER_ROW_GROUP,
        )
        self._groups.pop(source, None)
        return len(unit_rows)

    def units(self, source: str) -> list["UnitSummary"]:
        """All recorded units of a source, in recording order."""
        columns = list(_SUMMARY_COLUMNS)
        table = _read_table(self.records_folder / f"{source}.statistics.parquet", columns)
        rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
        return [
            UnitSummary(UnitId(source, index, polarity), *facts) for index, polarity, *facts in rows
        ]

    def read_units(self, units: Iterable[UnitId]) -> Iterator[UnitRecord]:
        """Everything recorded of some units, in the order asked for.

        Raises:
            AutointerpError: where a unit was not recorded.
        """
        parents, vocabulary = self._sequence_index()
        for unit in units:
            yield self._read_unit(unit, parents, vocabulary)

    def _sequence_index(self) -> tuple[dict[str, Sequence], list[str]]:
        if not hasattr(self, "_index"):
            sequences, _ = self.read_sequences()
            self._index = ({s.sequence_id: s for s in sequences}, self.read_vocabulary())
        return self._index

    def _read_unit(
        self, unit: UnitId, parents: dict[str, Sequence], vocabulary: list[str]
    ) -> UnitRecord:
        if unit.source not in self._groups:
            statistics = self.records_folder / f"{unit.source}.statistics.parquet"
            _check_schema(statistics)
            columns = ["index", "polarity", "row_group"]
            table = _read_table(statistics, columns)
            places = zip(*(table[name].to_pylist() for name in columns), strict=True)
            index = {
                UnitId(unit.source, number, polarity): (place, group)
                for place, (number, polarity, group) in enumerate(places)
            }
            self._groups[unit.source] = (pq.ParquetFile(statistics), index)
        statistics_file, index = self._groups[unit.source]
        if unit not in index:
            raise AutointerpError(f"unit {unit} was not recorded in {self.folder}")
        place, group = index[unit]
        part = statistics_file.read_row_group(place // UNITS_PER_ROW_GROUP)
        row = part.slice(place % UNITS_PER_ROW_GROUP, 1).to_pylist()[0]
        records: list[ActivationRecord] = []
        if group >= 0:
            file = pq.ParquetFile(self.records_folder / f"{unit.source}.parquet")
            records = [
                _record_of(unit.source, found, parents, vocabulary)
                for found in file.read_row_group(group).to_pylist()
                if found["index"] == unit.index and found["polarity"] == unit.polarity
            ]
        return UnitRecord(unit, tuple(records), _statistics_of(row["statistics"]))

    # ------------------------------------------------------------------ results

    @property
    def database(self) -> sqlite3.Connection:
        """The open `results.sqlite`.

        Raises:
            AutointerpError: where it was written by another schema version.
        """
        if self._database is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.folder / "results.sqlite", timeout=30)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLES)
            connection.execute(
                "INSERT OR IGNORE INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),)
            )
            connection.commit()
            found = connection.execute(
                "SELECT value FROM meta WHERE name = 'schema_version'"
            ).fetchone()[0]
            _refuse_version(int(found), self.folder / "results.sqlite")
            self._database = connection
        return self._database

    def close(self) -> None:
        """Close the database; the write-ahead log is folded in."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def put_explanation(self, explanation: Explanation) -> None:
        """Commit one explanation."""
        e = explanation
        with self.database as db:
            db.execute(
                "INSERT OR REPLACE INTO explanations VALUES (?, ?, ?, ?, ?, ?, ?)",
                (e.key, str(e.unit), e.explainer, e.status, e.text, e.reason, _json(e.details)),
            )

    def get_explanation(self, key: str) -> Explanation | None:
        """The explanation with a key, or `None`."""
        row = self.database.execute("SELECT * FROM explanations WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        key, unit, explainer, status, text, reason, details = row
        return Explanation(
            UnitId.parse(unit), explainer, text, Status(status), key, reason, json.loads(details)
        )

    def put_simulation(
        self, key: str, explanation: str, simulator: str, parts: list[Simulation]
    ) -> None:
        """Commit the simulations of one explanation on all scored windows of one unit."""
        with self.database as db:
            db.execute(
                "INSERT OR REPLACE INTO simulations VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key, explanation, simulator, *_pack_simulations(parts)),
            )

    def get_simulation(self, key: str) -> list[Simulation] | None:
        """The simulations with a key, as rounded on disk, or `None`."""
        row = self.database.execute(
            "SELECT lengths, expected, known, level_mass FROM simulations WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else _unpack_simulations(*row)

    def put_score(self, score: Score) -> None:
        """Commit one score."""
        s = score
        body = _json({k: v for k, v in asdict(s).items() if k not in ("unit",)})
        with self.database as db:
            db.execute(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(s.key, str(s.unit), s.explanation_key, s.explainer, s.scorer, s.simulator),
                    *(s.split, s.value, s.status, s.lift, body),
                ),
            )

    def get_score(self, key: str) -> Score | None:
        """The score with a key, or `None`."""
        row = self.database.execute(
            "SELECT unit, body FROM scores WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else _score_of(row[0], json.loads(row[1]))

    def add_to_ledger(self, **entry: Any) -> None:
        """Commit what one batch of requests cost: the columns of `ledger` but id and at."""
        names = ("purpose", "model", "requests", "input_tokens", "cached_tokens", "output_tokens",
                 "seconds")  # fmt: skip
        with self.database as db:
            db.execute(
                f"INSERT INTO ledger (at, {', '.join(names)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (time.time(), *(entry[name] for name in names)),
            )

    def ledger_totals(self) -> list[dict[str, Any]]:
        """Requests, tokens and seconds per purpose and model."""
        columns = ("requests", "input_tokens", "cached_tokens", "output_tokens", "seconds")
        sums = ", ".join(f"SUM({name})" for name in columns)
        rows = self.database.execute(
            f"SELECT purpose, model, {sums} FROM ledger GROUP BY purpose, model"
        ).fetchall()
        return [dict(zip(("purpose", "model", *columns), row, strict=True)) for row in rows]

    def count(self, table: str) -> dict[str, int]:
        """Rows of `explanations` or `scores` per status."""
        if table not in ("explanations", "scores"):
            raise ValueError(table)
        rows = self.database.execute(f"SELECT status, COUNT(*) FROM {table} GROUP BY status")
        return dict(rows.fetchall())


class RunLock:
    """Holds a run's folder for one process; says who holds it to the next."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / ".lock", timeout=0)
        self._holder = folder / ".lock.json"

    def __enter__(self) -> "RunLock":
        try:
            self._lock.acquire()
        except Timeout:
            raise AutointerpError(
                f"{self._holder.parent} is held by {self._who()}; wait for it or stop it"
            ) from None
        facts = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%F %T")}
        write_text(self._holder, json.dumps(facts))
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> str | None:
        """Who holds the folder now, `None` where nobody does."""
        try:
            with self._lock:
                return None
        except Timeout:
            return self._who()

    def _who(self) -> str:
        try:
            facts = json.loads(self._holder.read_text())
            return f"process {facts['pid']} on {facts['host']}, since {facts['since']}"
        except (OSError, ValueError, KeyError):
            return "another process"


# ---------------------------------------------------------------------- rows


def _record_row(record: ActivationRecord) -> dict[str, Any]:
    maximum = np.float32(record.maximum)
    shares = record.activations / maximum if maximum > 0 else record.activations
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
        "shares": shares.astype(np.float16),
        "kind": record.kind,
    }


def _record_of(
    source: str, row: dict[str, Any], parents: dict[str, Sequence], vocabulary: list[str]
) -> ActivationRecord:
    sequence = parents[row["sequence_id"]]
    span = slice(row["start"], row["stop"])
    shares = np.asarray(row["shares"], np.float32)
    return ActivationRecord(
        unit=UnitId(source, row["index"], row["polarity"]),
        window=Window(row["sequence_id"], row["start"], row["stop"]),
        document_id=sequence.document_id,
        split=Split(row["split"]),
        stratum=row["stratum"],
        probability=row["probability"],
        tokens=tuple(vocabulary[i] for i in sequence.token_ids[span]),
        activations=np.float32(row["maximum"]) * shares,
        masked=sequence.masked[span],
        kind=row["kind"],
    )


def _unit_row(unit: UnitRecord, row_group: int) -> dict[str, Any]:
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
        "statistics": [_statistics_row(split, s) for split, s in unit.statistics.items()],
    }


def _statistics_row(split: Split, statistics: SplitStatistics) -> dict[str, Any]:
    counts = np.asarray(statistics.histogram, np.int64)
    used = np.flatnonzero(counts)
    start, stop = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
    return {
        **{k: v for k, v in vars(statistics).items() if k not in ("histogram", "top_tokens")},
        "split": str(split),
        "moments": list(statistics.moments),
        "histogram_start": start,
        "histogram": counts[start:stop].tolist(),
        "top_tokens": [asdict(token) for token in statistics.top_tokens],
    }


def _statistics_of(rows: list[dict[str, Any]]) -> dict[Split, SplitStatistics]:
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
            top_tokens=tuple(TopToken(**token) for token in row["top_tokens"]),
        )
    return found


def _pack_simulations(parts: list[Simulation]) -> tuple[str, bytes, bytes, bytes]:
    def joined(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
        return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)

    known = joined([part.known for part in parts], bool)
    expected = joined([np.where(p.known, p.expected, 0.0) for p in parts], np.float16)
    mass = joined([np.clip(p.level_mass, 0, 1) * 255 for p in parts], np.uint8)
    lengths = json.dumps([len(part.known) for part in parts])
    return lengths, expected.tobytes(), np.packbits(known).tobytes(), mass.tobytes()


def _unpack_simulations(
    lengths: str, expected: bytes, known: bytes, mass: bytes
) -> list[Simulation]:
    sizes = json.loads(lengths)
    total = sum(sizes)
    levels = np.frombuffer(expected, np.float16).astype(np.float32)
    is_known = np.unpackbits(np.frombuffer(known, np.uint8), count=total).astype(bool)
    masses = np.frombuffer(mass, np.uint8).astype(np.float32) / 255
    ends = np.cumsum(sizes)
    return [
        Simulation(levels[a:b], is_known[a:b], masses[a:b])
        for a, b in zip(ends - sizes, ends, strict=True)
    ]


def _score_of(unit: str, body: dict[str, Any]) -> Score:
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
    return Score(
        **{
            **body,
            "unit": UnitId.parse(unit),
            "status": Status(body["status"]),
            "split": Split(body["split"]),
            "interval": interval(body["interval"]),
            "lift_interval": interval(body["lift_interval"]),
            "controls": controls,
        }
    )


# ---------------------------------------------------------------------- files


def _stamped(schema: pa.Schema, key: str) -> pa.Schema:
    return schema.with_metadata({"autointerp.key": key, "schema_version": str(SCHEMA_VERSION)})


def _write_table(path: Path, table: pa.Table, key: str, row_group_size: int | None = None) -> None:
    partial = path.with_name(f".{path.name}.partial")
    stamped = table.replace_schema_metadata(_stamped(table.schema, key).metadata)
    pq.write_table(stamped, partial, compression="zstd", row_group_size=row_group_size)
    partial.replace(path)


def _read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    _check_schema(path)
    return pq.read_table(path, columns=columns)


def _file_key(path: Path) -> str | None:
    if not path.exists():
        return None
    _check_schema(path)
    return (pq.read_schema(path).metadata or {}).get(b"autointerp.key", b"").decode()


def _check_schema(path: Path) -> None:
    if not path.exists():
        raise AutointerpError(f"{path} does not exist: run the stage that writes it first")
    try:
        found = (pq.read_schema(path).metadata or {}).get(b"schema_version", b"0").decode()
    except pa.ArrowInvalid as error:
        raise AutointerpError(f"{path} is not a Parquet file: remove it, run again") from error
    _refuse_version(int(found), path)


def _refuse_version(found: int, path: Path) -> None:
    if found != SCHEMA_VERSION:
        raise AutointerpError(
            f"{path} has schema version {found}; this autointerp reads version {SCHEMA_VERSION}: "
            "use the version that wrote it, or run again into another folder"
        )


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
