"""Makes browser.sqlite from a run's folder: once, streaming, whole or not at all."""

import json
import math
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from autointerp.analysis.tables import TABLES_VERSION
from autointerp.browser.codes import SOURCE_SHIFT, STATUSES, unit_code
from autointerp.browser.schema import (
    FILE,
    INDEX_VERSION,
    INDEXES,
    RANK_SHIFT,
    RECORDED_VIEW,
    TABLES,
)
from autointerp.progress import Reporter
from autointerp.records import AutointerpError, Status, UnitId
from autointerp.store.files import batched, check_schema
from autointerp.store.sequence_numbers import has_numbers, numbers_path

BATCH = 2000
N_BINS = 40
"""Bars of a distribution."""

LEAST_DENSITY = 1e-7
"""Densities are shown on a logarithmic scale, that goes down to here at most."""


def index_path(folder: Path) -> Path:
    """Where the index of a run lies."""
    return folder / FILE


def signature(folder: Path) -> str:
    """What the index was made from: sizes and times of the files it reads."""
    names = ["explanations.jsonl", "summary.json", "corpus.parquet", "vocabulary.parquet"]
    paths = [folder / name for name in names]
    paths += sorted((folder / "records").glob("*.parquet"))
    facts = [
        (str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns)
        for path in paths
        if path.exists()
        for stat in [path.stat()]
    ]
    return json.dumps([INDEX_VERSION, facts])


def is_current(path: Path, folder: Path) -> bool:
    """Whether an index is there and of the run's present files."""
    if not path.exists():
        return False
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            row = connection.execute("SELECT value FROM meta WHERE name = 'signature'").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return False
    return row is not None and row[0] == signature(folder)


def build_index(folder: Path, path: Path, summary: Mapping[str, Any], reporter: Reporter) -> None:
    """Make the index; memory does not grow with the number of units.

    Args:
        folder: of a finished run.
        path: where the index goes.
        summary: `summary.json`.
        reporter: hears of the progress.

    Raises:
        AutointerpError: where a file of the run is damaged or of another version.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    found = signature(folder)
    database = sqlite3.connect(partial)
    try:
        database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;"
            "PRAGMA temp_store = FILE;"
        )
        database.executescript(TABLES)
        _Builder(folder, database, summary, reporter).build()
        database.execute("INSERT INTO meta VALUES ('signature', ?)", (found,))
        database.commit()
        database.close()
        partial.replace(path)
    except (KeyError, TypeError, ValueError) as error:
        raise AutointerpError(
            f"the tables of {folder} do not fit together ({error!r}): `autointerp run "
            f"{folder / 'config.yaml'}` writes them anew; it computes only what is missing"
        ) from error
    finally:
        database.close()
        partial.unlink(missing_ok=True)


class _Builder:
    def __init__(
        self,
        folder: Path,
        database: sqlite3.Connection,
        summary: Mapping[str, Any],
        reporter: Reporter,
    ) -> None:
        self.folder, self.database, self.reporter = folder, database, reporter
        self.scorers: Mapping[str, Any] = summary["scorers"]
        self.primary = str(summary["scorer"])
        own = summary["scorers"][self.primary]["sources"]
        self.sources: list[str] = list(own)
        explainers = {
            name: bool(facts["is_baseline"])
            for source in own.values()
            for name, facts in source["explainers"].items()
        }
        self.explainers: list[str] = list(explainers)
        self.baselines = [name for name, is_baseline in explainers.items() if is_baseline]
        self.views: dict[tuple[int, str], int] = {
            (place, scorer): 1 + place * len(self.scorers) + number
            for place in range(len(self.explainers))
            for number, scorer in enumerate(self.scorers)
        }

    def build(self) -> None:
        """All tables, then their indexes."""
        self._check_records()
        self._meta()
        n = self._units()
        n_explained = self._results()
        everything = n > n_explained
        if everything:
            self._recorded_view()
        self.database.executescript(INDEXES)
        self._rank()
        self._count(everything)
        self._sequences()
        self.database.execute("ANALYZE")

    def _meta(self) -> None:
        facts = {
            "sources": self.sources,
            "explainers": self.explainers,
            "baselines": self.baselines,
            "scorers": list(self.scorers),
        }
        self.database.executemany(
            "INSERT INTO meta VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()]
        )
        self.database.executemany(
            "INSERT INTO views VALUES (?, ?, ?)",
            [(view, place, scorer) for (place, scorer), view in self.views.items()],
        )

    def _check_records(self) -> None:
        """Refuse records of which a part is missing; a folder of tables alone has none, and opens.

        Raises:
            AutointerpError: naming the file that a page of a unit would lack.
        """
        records = self.folder / "records"
        recorded = [
            source
            for source in self.sources
            if (self.folder / "results.sqlite").exists() or any(records.glob(f"{source}.*parquet"))
        ]
        needed = [
            records / f"{s}{kind}" for s in recorded for kind in (".statistics.parquet", ".parquet")
        ]
        needed += [
            numbers_path(records, source)
            for source in recorded
            if has_numbers(records / f"{source}.parquet")
        ]
        if recorded:
            needed += [self.folder / name for name in ("corpus.parquet", "vocabulary.parquet")]
        for path in needed:
            if not path.exists():
                check_schema(path)

    # ------------------------------------------------------------------ units

    def _units(self) -> int:
        """Every recorded unit; returns how many there are."""
        columns = ["index", "polarity", "explain_density", "explain_maximum",
                   "explain_active_documents"]  # fmt: skip
        paths = {s: self.folder / "records" / f"{s}.statistics.parquet" for s in self.sources}
        paths = {source: path for source, path in paths.items() if path.exists()}
        total = sum(pq.read_metadata(path).num_rows for path in paths.values())
        self.reporter.stage("index", total, "units")
        for source, path in paths.items():
            check_schema(path)
            high = self.sources.index(source) << SOURCE_SHIFT
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=BATCH, columns=columns):
                    index, polarity, *facts = (batch[name].to_pylist() for name in columns)
                    codes = [high | i << 1 | (p < 0) for i, p in zip(index, polarity, strict=True)]
                    self.database.executemany(
                        "INSERT INTO units (id, density, maximum, documents) VALUES (?, ?, ?, ?)",
                        zip(codes, *facts, strict=True),
                    )
                    self.reporter.advance(len(codes))
        return total

    def _results(self) -> int:
        """Every explained unit with its scores; returns how many there are."""
        n = 0
        size = (self.folder / "explanations.jsonl").stat().st_size
        self.reporter.stage("index", -(-size // 1_000_000), "MB of results")
        done = 0
        for batch in batched(self._groups(), BATCH):
            units, listed, explained = [], [], []
            for rows, place, length in batch:
                unit = UnitId.parse(str(rows[0]["unit"]))
                code = unit_code(unit, self.sources)
                units.append((code, float(rows[0]["firing_rate"]), place, length))
                for row in rows:
                    explainer = self.explainers.index(row["explainer"])
                    explained.append((explainer, code, row["explanation"]))
                    listed.extend(self._listed(row, code, explainer))
            self.database.executemany(
                "INSERT INTO units (id, density, place, size) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET place = excluded.place, size = excluded.size",
                units,
            )
            self.database.executemany("INSERT OR REPLACE INTO explained VALUES (?, ?, ?)",
                                      explained)  # fmt: skip
            self.database.executemany(
                "INSERT OR REPLACE INTO listed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", listed
            )
            n += len(batch)
            end = -(-(batch[-1][1] + batch[-1][2]) // 1_000_000)
            self.reporter.advance(end - done)
            done = end
        return n

    def _listed(self, row: Mapping[str, Any], code: int, explainer: int) -> Iterator[tuple]:
        for scorer, score in row["scores"].items():
            view = self.views.get((explainer, scorer))
            if view is None:
                continue
            interval = score["lift_interval"] or {}
            yield (
                view, code, float(row["firing_rate"]), STATUSES.index(Status(score["status"])),
                score["score"], score["lift"], interval.get("low"), interval.get("high"),
            )  # fmt: skip

    def _groups(self) -> Iterator[tuple[list[dict[str, Any]], int, int]]:
        """The rows of every unit, with their place and size in bytes."""
        path = self.folder / "explanations.jsonl"
        group: list[dict[str, Any]] = []
        start = place = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                row = _row(path, number, line)
                if group and row["unit"] != group[0]["unit"]:
                    yield group, start, place - start
                    group, start = [], place
                group.append(row)
                place += len(line)
        if group:
            yield group, start, place - start

    def _recorded_view(self) -> None:
        ok, dead, not_run = (STATUSES.index(s) for s in (Status.OK, Status.DEAD, Status.NOT_RUN))
        self.database.execute(
            "INSERT INTO listed SELECT ?, id, density, CASE WHEN place IS NOT NULL THEN ? "
            "WHEN maximum <= 0 THEN ? ELSE ? END, NULL, NULL, NULL, NULL FROM units ORDER BY id",
            (RECORDED_VIEW, ok, dead, not_run),
        )

    # ------------------------------------------------------------------ words

    def _rank(self) -> None:
        """Full text, best lift first: a search stops as soon as a page is full."""
        cursor = self.database.cursor()
        for place in range(len(self.explainers)):
            self.reporter.stage("index", 1, "full text")
            rows = cursor.execute(
                "SELECT l.unit, e.text FROM listed l JOIN explained e "
                "ON e.explainer = ? AND e.unit = l.unit WHERE l.view = ? AND e.text IS NOT NULL "
                "ORDER BY l.lift DESC, l.unit DESC",
                (place, self.views[place, self.primary]),
            )
            first = place << RANK_SHIFT
            for batch in batched(enumerate(rows, first + 1), BATCH):
                self.database.executemany(
                    "INSERT INTO ranked VALUES (?, ?)", [(i, unit) for i, (unit, _) in batch]
                )
                self.database.executemany(
                    "INSERT INTO words (rowid, text) VALUES (?, ?)",
                    [(i, text) for i, (_, text) in batch],
                )
            self.reporter.advance(1)
        self.database.execute("INSERT INTO words (words) VALUES ('optimize')")

    # ------------------------------------------------------------------ distributions

    def _count(self, everything: bool) -> None:
        self.database.execute(
            "INSERT INTO counts SELECT view, unit >> ?, status, COUNT(*) FROM listed "
            "GROUP BY 1, 2, 3",
            (SOURCE_SHIFT,),
        )
        self.database.create_function("log_density", 1, _log_density, deterministic=True)
        views = [(view, scorer) for (_, scorer), view in self.views.items()]
        least, most = self.database.execute(
            "SELECT MIN(density), MAX(density) FROM units WHERE density > 0"
        ).fetchone()
        low = math.floor(math.log10(max(least or LEAST_DENSITY, LEAST_DENSITY)))
        high = max(math.ceil(math.log10(max(most or 1.0, LEAST_DENSITY))), low + 1)
        for view, scorer in [*views, *([(RECORDED_VIEW, "")] if everything else [])]:
            self._distribution(view, "density", "log_density(density)", low, high)
            if scorer:
                for name in ("score", "lift"):
                    found = self.database.execute(
                        f"SELECT MIN({name}), MAX({name}) FROM listed WHERE view = ?", (view,)
                    ).fetchone()
                    if found[0] is not None:
                        self._distribution(view, name, name, *_round_ends(*found))

    def _distribution(self, view: int, field: str, value: str, low: float, high: float) -> None:
        width = (high - low) / N_BINS
        rows = self.database.execute(
            f"SELECT unit >> ?, MAX(0, MIN(?, CAST(({value} - ?) / ? AS INTEGER))), COUNT(*) "
            f"FROM listed WHERE view = ? AND {field} IS NOT NULL GROUP BY 1, 2",
            (SOURCE_SHIFT, N_BINS - 1, low, width, view),
        )
        bins: dict[int, list[int]] = {}
        for source, place, n in rows.fetchall():
            bins.setdefault(source, [0] * N_BINS)[place] = n
        self.database.executemany(
            "INSERT INTO distributions VALUES (?, ?, ?, ?, ?, ?)",
            [(view, source, field, low, high, json.dumps(own)) for source, own in bins.items()],
        )

    # ------------------------------------------------------------------ corpus

    def _sequences(self) -> None:
        path = self.folder / "corpus.parquet"
        if not path.exists():
            return
        check_schema(path)
        with pq.ParquetFile(path) as file:
            self.reporter.stage("index", file.metadata.num_rows, "sequences")
            for batch in file.iter_batches(batch_size=256):
                rows = batch.to_pylist()
                self.database.executemany(
                    "INSERT OR REPLACE INTO sequences VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (
                            *(row["sequence_id"], row["document_id"], row["document_name"]),
                            *(row["split"], row["text"], pack_tokens(row)),
                        )
                        for row in rows
                    ],
                )
                self.reporter.advance(len(rows))


def pack_tokens(row: Mapping[str, Any]) -> bytes:
    """Ids, spans and mask of a sequence's tokens in one blob."""
    ids = np.asarray([row["token_ids"], row["char_starts"], row["char_ends"]], np.int32)
    return zlib.compress(ids.tobytes() + np.asarray(row["masked"], bool).tobytes(), 1)


def unpack_tokens(blob: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The inverse: ids, char_starts, char_ends [n_tokens] int32, masked [n_tokens] bool."""
    raw = zlib.decompress(blob)
    n = len(raw) // 13
    ids, starts, ends = np.frombuffer(raw, np.int32, 3 * n).reshape(3, n)
    return ids, starts, ends, np.frombuffer(raw, bool, n, 12 * n)


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        found = row.get("schema_version")
    except (ValueError, RecursionError, AttributeError) as error:
        raise AutointerpError(f"{path}, line {number}, is damaged: {error}") from error
    if found != TABLES_VERSION:
        raise AutointerpError(
            f"{path}, line {number} is of version {found}, this autointerp reads {TABLES_VERSION}: "
            f"`autointerp run {path.parent / 'config.yaml'}` writes the tables anew"
        )
    return row


def _log_density(density: float) -> float:
    return math.log10(max(density, LEAST_DENSITY))


def _round_ends(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis that hold all values, and 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = 10 ** math.floor(math.log10(max(high - low, 1e-9)))
    ends = math.floor(low / step * 4) * step / 4, math.ceil(high / step * 4) * step / 4
    return ends if ends[0] < ends[1] else (low, low + 1.0)
