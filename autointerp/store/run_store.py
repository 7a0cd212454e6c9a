"""The run directory: what is on disk, in which form, and how it is written whole or not at all.

    config.yaml  provenance.json  corpus.parquet  vocabulary.parquet
    records/SOURCE.parquet             one row per unit and window, 32 units a row group
    records/SOURCE.sequences.parquet   the sequences these windows lie in, by number
    records/SOURCE.statistics.parquet  one row per unit
    records/SOURCE.output.parquet      one row per index: promoted tokens, nearest units
    results.sqlite                     explanations, simulations, scores, ledger (WAL, one writer)

Every file carries `schema_version` and the key of what it was made from. Scores are computed from
what is read back, rounding included, so that they can be recomputed exactly.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.records import (
    FAILED_REQUESTS,
    SCHEMA_VERSION,
    AutointerpError,
    Explanation,
    Score,
    Sequence,
    Simulation,
    Status,
    UnitId,
    UnitRecord,
)
from autointerp.store import corpus_files
from autointerp.store.corpus_files import DocumentFacts, TokenTable
from autointerp.store.files import (
    PARQUET,
    batched,
    check_schema,
    common_key,
    file_key,
    json_text,
    read_table,
    refuse_version,
    stamped,
    write_table,
    write_text,
)
from autointerp.store.ledger import Ledger
from autointerp.store.lock import RunLock
from autointerp.store.output_side import (
    OutputSideFile,
    Written,
    output_path,
    write_output_side,
)
from autointerp.store.reading import open_for_reading
from autointerp.store.row_groups import RowGroups
from autointerp.store.rows import (
    RECORD_SCHEMA,
    UNIT_SCHEMA,
    pack_simulations,
    record_row,
    score_of,
    unit_of,
    unit_row,
    unpack_simulations,
    window_rows,
)
from autointerp.store.sequence_numbers import (
    SequenceNumbers,
    has_numbers,
    numbers_path,
    read_numbers,
    stored_record_schema,
    with_ids,
)

UNITS_PER_ROW_GROUP = 32
"""A unit is read in milliseconds: fewer to a group, and opening a file of many groups takes longer
than reading one."""

_STATISTICS_PER_ROW_GROUP = 128
"""Units a group of the statistics: a row each, of many columns, and every one of them is paid for
in every group when the file is opened."""

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
"""


_INCOMPLETE = f"status <> 'failed' AND json_extract(body, '$.details.{FAILED_REQUESTS}') > 0"
"""Scores that have a number, or the want of one, without all the answers that were asked for."""

_INCOMPLETE_CHOICE = f"status <> 'failed' AND json_extract(details, '$.{FAILED_REQUESTS}') > 0"
"""Explanations chosen among others by such scores. Chosen again, the words may be others under the
same key: the scores of an explanation go with it."""


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


_SUMMARY_COLUMNS: tuple[str, ...] = (
    "index",
    "polarity",
    "explain_density",
    "explain_active_documents",
    "explain_maximum",
)


class _UnitPlaces:
    """Row and row group of the windows of every unit of a source: 20 MB for a million units."""

    def __init__(self, table: pa.Table) -> None:
        codes = _codes(table)
        self._order = np.argsort(codes).astype(np.int32)
        self._codes = codes[self._order]
        self._groups = table["row_group"].to_numpy()

    def of(self, unit: UnitId) -> tuple[int, int] | None:
        """Its row and its windows' row group, -1 for none; `None` where it was not recorded."""
        code = unit.index * 2 + (unit.polarity < 0)
        at = int(np.searchsorted(self._codes, code))
        if at == len(self._codes) or self._codes[at] != code:
            return None
        place = int(self._order[at])
        return place, int(self._groups[place])


class RunStore:
    """One run's folder. Open it with `lock()` to write."""

    def __init__(self, folder: str | Path, *, read_only: bool = False) -> None:
        """Open nothing yet.

        Args:
            folder: of the run.
            read_only: results are read by any thread; they are never written, nor made where
                there are none.
        """
        self.folder = Path(folder)
        self._read_only = read_only
        self._database: sqlite3.Connection | None = None
        self._ledger: Ledger | None = None
        self._groups: dict[str, _UnitPlaces] = {}
        self._numbers: dict[str, pa.Array | None] = {}
        self._files: dict[str, RowGroups] = {}
        self._outputs: dict[str, OutputSideFile | None] = {}

    @property
    def records_folder(self) -> Path:
        """Where Parquet records lie."""
        return self.folder / "records"

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
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise AutointerpError(f"{path} is damaged ({error}): remove it, run again") from error

    # ------------------------------------------------------------------ corpus

    def corpus_key(self) -> str | None:
        """The key the corpus was made from, `None` where its two files are not of one writing."""
        return common_key(self.corpus_files())

    def corpus_files(self) -> list[Path]:
        """The files that a corpus is in."""
        return [self.folder / "corpus.parquet", self.folder / "vocabulary.parquet"]

    def write_corpus(
        self, key: str, tables: Iterable[TokenTable], facts: Callable[[str], DocumentFacts]
    ) -> None:
        """Write the sequences and vocabulary of every tokenizer.

        Args:
            facts: document_id → (text, name, kind).
        """
        corpus_files.write_corpus_files(self.folder, key, tables, facts)

    def read_sequences(self, tokenizer: str | None = None) -> list[Sequence]:
        """Sequences in corpus order.

        Args:
            tokenizer: `Subject.tokenizer_name`: its sequences alone, in its own ids. All if left
                out, in ids of the joined vocabulary.
        """
        return corpus_files.read_sequences(self.folder, tokenizer)

    def read_facts(self, wanted: Collection[str] | None = None) -> dict[str, dict[str, str]]:
        """For the ids of these sequences, or of all, `text`, `document_name` and `kind`."""
        return corpus_files.read_facts(self.folder, wanted)

    def read_vocabulary(self, tokenizer: str | None = None) -> list[str]:
        """Text of every token id: of one tokenizer, or of all, joined."""
        return corpus_files.read_vocabulary(self.folder, tokenizer)

    # ------------------------------------------------------------------ records

    def records_key(self, source: str) -> str | None:
        """The key the records of a source were made from, `None` where they are not complete."""
        return common_key(self.records_files(source))

    def records_files(self, source: str) -> list[Path]:
        """The files that the records of a source are in."""
        windows = self.records_folder / f"{source}.parquet"
        paths = [windows, self.records_folder / f"{source}.statistics.parquet"]
        if has_numbers(windows):
            paths.append(numbers_path(self.records_folder, source))
        return paths

    def write_records(self, source: str, key: str, units: Iterable[UnitRecord]) -> int:
        """Write the records of a source, sorted as given; returns the number of units."""
        return self.write_record_tables(source, key, _tables_of(units))

    def write_record_tables(
        self, source: str, key: str, tables: Iterable[tuple[pa.Table, pa.Table]]
    ) -> int:
        """Write the records of a source from its rows; returns the number of units.

        Args:
            tables: (rows of RECORD_SCHEMA, rows of UNIT_SCHEMA) of consecutive units, the first
                ordered as the second; best a multiple of `UNITS_PER_ROW_GROUP` units.
        """
        self.records_folder.mkdir(parents=True, exist_ok=True)
        path = self.records_folder / f"{source}.parquet"
        partial = path.with_name(f".{path.name}.partial")
        written: list[pa.Table] = []
        n_groups = 0
        numbers = SequenceNumbers()
        with pq.ParquetWriter(partial, stamped(stored_record_schema(), key), **PARQUET) as writer:
            for rows, units in tables:
                bounds = _row_bounds(rows, units)
                rows = numbers.numbered(rows)
                groups = np.full(len(units), -1, np.int32)
                for place, (first, last) in enumerate(bounds):
                    if first < last:
                        own = slice(place * UNITS_PER_ROW_GROUP, (place + 1) * UNITS_PER_ROW_GROUP)
                        groups[own] = n_groups
                        writer.write_table(rows.slice(first, last - first))
                        n_groups += 1
                column = UNIT_SCHEMA.get_field_index("row_group")
                written.append(units.set_column(column, "row_group", pa.array(groups)))
        # A run killed from here on leaves files of different keys: `records_key` is then `None`.
        numbers.write(numbers_path(self.records_folder, source), key)
        partial.replace(path)
        together = pa.concat_tables(written) if written else UNIT_SCHEMA.empty_table()
        write_table(
            self.records_folder / f"{source}.statistics.parquet",
            together,
            key,
            row_group_size=_STATISTICS_PER_ROW_GROUP,
        )
        self._groups.pop(source, None)
        self._numbers.pop(source, None)
        return len(together)

    def units(self, source: str) -> list["UnitSummary"]:
        """All recorded units of a source, in recording order."""
        columns = list(_SUMMARY_COLUMNS)
        table = read_table(self.records_folder / f"{source}.statistics.parquet", columns)
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
            yield self._with_output_side(self._read_unit(unit, parents, vocabulary))

    def _with_output_side(self, record: UnitRecord) -> UnitRecord:
        source = record.unit.source
        if source not in self._outputs:
            path = output_path(self.records_folder, source)
            self._outputs[source] = OutputSideFile(path, source) if path.exists() else None
        output = self._outputs[source]
        return record if output is None else output.added_to(record)

    def output_side_key(self, source: str) -> str | None:
        """The key the output side of a source was made from, `None` where there is none."""
        return file_key(output_path(self.records_folder, source))

    def write_output_side(
        self, source: str, key: str, units: Iterable[Written], tokenizer: str | None = None
    ) -> None:
        """Write what the units of a source write, index 0 first.

        Args:
            tokenizer: whose ids the tokens are (`Subject.tokenizer_name`).
        """
        path = output_path(self.records_folder, source)
        write_output_side(path, key, units, self.read_vocabulary(tokenizer))
        self._outputs.pop(source, None)

    def remove_output_side(self, source: str) -> None:
        """Forget what the units of a source write: they write nothing any more."""
        output_path(self.records_folder, source).unlink(missing_ok=True)
        self._outputs.pop(source, None)

    def use_sequences(self, sequences: Mapping[str, Sequence], vocabulary: list[str]) -> None:
        """Look sequences up there: the whole corpus need not be held to read units."""
        self._index = (sequences, vocabulary)

    def sequence(self, sequence_id: str) -> Sequence:
        """One sequence; the corpus is read once."""
        return self._sequence_index()[0][sequence_id]

    def _sequence_index(self) -> tuple[Mapping[str, Sequence], list[str]]:
        if not hasattr(self, "_index"):
            vocabulary = self.read_vocabulary()
            sequences = {one.sequence_id: one for one in self.read_sequences()}
            self._index = (sequences, vocabulary)
        return self._index

    def _read_unit(
        self, unit: UnitId, parents: Mapping[str, Sequence], vocabulary: list[str]
    ) -> UnitRecord:
        if unit.source not in self._groups:
            statistics = self.records_folder / f"{unit.source}.statistics.parquet"
            check_schema(statistics)
            check_schema(self.records_folder / f"{unit.source}.parquet")
            columns = ["index", "polarity", "row_group"]
            self._groups[unit.source] = _UnitPlaces(read_table(statistics, columns))
        found = self._groups[unit.source].of(unit)
        if found is None:
            raise AutointerpError(f"unit {unit} was not recorded in {self.folder}")
        place, group = found
        file = self._row_groups(f"{unit.source}.statistics.parquet")
        # As the file was written, which may be by an earlier version.
        size = file.rows_each()
        group_of_row = self._row_group(f"{unit.source}.statistics.parquet", place // size)
        row = group_of_row.slice(place % size, 1).to_pylist()[0]
        records: list[dict[str, Any]] = []
        if group >= 0:
            rows = _rows_of(unit, self._row_group(f"{unit.source}.parquet", group))
            ids = self._sequence_ids(unit.source)
            records = window_rows(rows if ids is None else with_ids(rows, ids))
        return unit_of(unit.source, row, records, parents, vocabulary)

    def _sequence_ids(self, source: str) -> pa.Array | None:
        """Sequence ids by number; `None` where the rows hold ids, as an earlier version wrote."""
        if source not in self._numbers:
            numbered = has_numbers(self.records_folder / f"{source}.parquet")
            path = numbers_path(self.records_folder, source)
            self._numbers[source] = read_numbers(path) if numbered else None
        return self._numbers[source]

    def _row_group(self, name: str, number: int) -> pa.Table:
        try:
            return self._row_groups(name).read(number)
        except (pa.ArrowException, OSError) as error:
            said = str(error).partition("\n")[0]
            raise AutointerpError(
                f"{self.records_folder / name} is damaged ({said}): remove it, run again"
            ) from error

    def _row_groups(self, name: str) -> RowGroups:
        return self._files.setdefault(name, RowGroups(self.records_folder / name))

    # ------------------------------------------------------------------ results

    @property
    def database(self) -> sqlite3.Connection:
        """The open `results.sqlite`.

        Raises:
            AutointerpError: where it was written by another schema version; in a store that only
                reads, where there is none.
        """
        if self._database is None and self._read_only:
            self._database = self._opened_for_reading()
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
            refuse_version(int(found), self.folder / "results.sqlite")
            self._database = connection
        return self._database

    def _opened_for_reading(self) -> sqlite3.Connection:
        path = self.folder / "results.sqlite"
        connection = open_for_reading(path)
        row = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
        refuse_version(int(row[0]) if row else 0, path)
        return connection

    def close(self) -> None:
        """Close the database, its write-ahead log folded in, and the files of records."""
        self._files.clear()
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if self._database is not None:
            self._database.close()
            self._database = None

    def put_explanation(self, explanation: Explanation) -> None:
        """Commit one explanation."""
        e = explanation
        with self.database as db:
            db.execute(
                "INSERT OR REPLACE INTO explanations VALUES (?, ?, ?, ?, ?, ?, ?)",
                (e.key, str(e.unit), e.explainer, e.status, e.text, e.reason, json_text(e.details)),
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
                (key, explanation, simulator, *pack_simulations(parts)),
            )

    def get_simulation(self, key: str) -> list[Simulation] | None:
        """The simulations with a key, as rounded on disk, or `None`."""
        row = self.database.execute(
            "SELECT lengths, expected, known, level_mass FROM simulations WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else unpack_simulations(*row)

    def put_score(self, score: Score) -> None:
        """Commit one score."""
        s = score
        body = json_text({k: v for k, v in asdict(s).items() if k not in ("unit",)})
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
        return None if row is None else score_of(row[0], json.loads(row[1]))

    def scores(self) -> Iterator[Score]:
        """All stored scores, of every config this folder has seen, unit by unit."""
        rows = self.database.execute("SELECT unit, body FROM scores ORDER BY unit, key")
        for unit, body in rows.fetchall():
            yield score_of(unit, json.loads(body))

    @property
    def ledger(self) -> Ledger:
        """What requests cost."""
        if self._ledger is None:
            _ = self.database  # refuses another schema version
            self._ledger = Ledger(self.folder / "results.sqlite")
        return self._ledger

    def ledger_totals(self) -> list[dict[str, Any]]:
        """Requests, tokens, seconds and money per purpose, model and mode."""
        return [dict(vars(row)) for row in self.ledger.rows()]

    def count_scores(self) -> dict[str, dict[str, int]]:
        """Scores per scorer and status."""
        rows = self.database.execute(
            "SELECT scorer, status, COUNT(*) FROM scores GROUP BY scorer, status"
        )
        found: dict[str, dict[str, int]] = {}
        for scorer, status, n in rows:
            found.setdefault(scorer, {})[status] = n
        return found

    def score_keys(self, scorer: str) -> set[str]:
        """Keys of all stored scores by one scorer."""
        rows = self.database.execute("SELECT key FROM scores WHERE scorer = ?", (scorer,))
        return {row[0] for row in rows}

    def count_incomplete(self) -> dict[str, int]:
        """Scores that have not failed, but lack an answer because a request did, per scorer.

        Explanations that were chosen by such scores count under their explainer's name.
        """
        rows = self.database.execute(
            f"SELECT scorer FROM scores WHERE {_INCOMPLETE} UNION ALL "
            f"SELECT explainer FROM explanations WHERE {_INCOMPLETE_CHOICE}"
        )
        return dict(Counter(name for (name,) in rows))

    def forget_failed(self) -> dict[str, int]:
        """Remove failed explanations and scores and incomplete scores: they are asked for again.

        A score whose explanation failed goes too: it is only as failed as that.

        Returns:
            How many were removed: `explanations` and `scores` that failed, `incomplete` ones.
        """
        with self.database as db:
            choices = f"SELECT key FROM explanations WHERE {_INCOMPLETE_CHOICE}"
            scores = db.execute("DELETE FROM scores WHERE status = 'failed'").rowcount
            incomplete = db.execute(f"DELETE FROM scores WHERE {_INCOMPLETE}").rowcount
            db.execute(f"DELETE FROM scores WHERE explanation_key IN ({choices})")
            incomplete += db.execute(
                f"DELETE FROM explanations WHERE {_INCOMPLETE_CHOICE}"
            ).rowcount
            explanations = db.execute("DELETE FROM explanations WHERE status = 'failed'").rowcount
        return {"explanations": explanations, "scores": scores, "incomplete": incomplete}

    def count(self, table: str) -> dict[str, int]:
        """Rows of `explanations` or `scores` per status."""
        if table not in ("explanations", "scores"):
            raise ValueError(table)
        rows = self.database.execute(f"SELECT status, COUNT(*) FROM {table} GROUP BY status")
        return dict(rows.fetchall())


def _tables_of(units: Iterable[UnitRecord]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of units that were made one by one."""
    for batch in batched(units, UNITS_PER_ROW_GROUP):
        rows = [record_row(record) for unit in batch for record in unit.records]
        yield (
            pa.Table.from_pylist(rows, RECORD_SCHEMA),
            pa.Table.from_pylist([unit_row(unit, -1) for unit in batch], UNIT_SCHEMA),
        )


def _rows_of(unit: UnitId, rows: pa.Table) -> pa.Table:
    """The rows of one unit, which stand together."""
    own = np.flatnonzero(_codes(rows) == unit.index * 2 + (unit.polarity < 0))
    return rows.slice(int(own[0]), len(own)) if len(own) else rows.slice(0, 0)


def _codes(table: pa.Table) -> np.ndarray:
    """One number per unit of a row: index and polarity."""
    index, polarity = table["index"].to_numpy(), table["polarity"].to_numpy()
    return index.astype(np.int64) * 2 + (polarity < 0)


def _row_bounds(rows: pa.Table, units: pa.Table) -> list[tuple[int, int]]:
    """First and one past the last row of every `UNITS_PER_ROW_GROUP` units."""

    unit_codes = _codes(units)
    order = np.argsort(unit_codes)
    place = order[np.searchsorted(unit_codes, _codes(rows), sorter=order)]
    starts = np.arange(0, len(units) + UNITS_PER_ROW_GROUP, UNITS_PER_ROW_GROUP)
    bounds = np.searchsorted(place, np.minimum(starts, len(units))).tolist()
    return list(pairwise(bounds))
