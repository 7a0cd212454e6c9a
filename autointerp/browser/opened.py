"""A finished run, opened for the pages: its index, and the files behind it, read unit by unit."""

import json
import sqlite3
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.analysis.loaded import checked_config, checked_object
from autointerp.browser.building import build_index, index_path, is_current, unpack_tokens
from autointerp.browser.codes import source_bounds, unit_code, unit_of_code
from autointerp.progress import Reporter
from autointerp.records import AutointerpError, Sequence, Split, UnitId, UnitRecord
from autointerp.store import RunStore
from autointerp.store.lock import UNWRITABLE

_KEPT_SEQUENCES = 4096


@dataclass(frozen=True)
class UnitFacts:
    """What the index knows of a unit."""

    unit: UnitId
    code: int
    density: float
    maximum: float | None
    """Largest activation in `explain`; `None` where that was not recorded."""

    documents: int | None
    place: int | None
    """Of its rows in `explanations.jsonl`; `None` where it was not chosen to be explained."""

    size: int | None


class OpenedRun:
    """One run for all pages. Reads only; made for one thread at a time."""

    def __init__(self, folder: str | Path, reporter: Reporter) -> None:
        """Open a run; its index is made first where there is none of its present files.

        Raises:
            AutointerpError: where the folder holds no finished run.
        """
        self.folder = Path(folder)
        self.table = self.folder / "explanations.jsonl"
        if not self.table.exists():
            what = "holds no finished run" if self.folder.is_dir() else "is no folder"
            raise AutointerpError(
                f"{str(self.folder)!r} {what}: expected explanations.jsonl in it; give a run's "
                "folder, such as results/demo, and let `autointerp run` end first"
            )
        self.summary = checked_object(self.folder / "summary.json")
        if not isinstance(self.summary.get("scorers"), dict) or not self.summary["scorers"]:
            raise AutointerpError(
                f"{self.folder / 'summary.json'} lacks `scorers`: `autointerp run "
                f"{self.folder / 'config.yaml'}` writes the tables anew"
            )
        self.config = checked_config(self.folder / "config.yaml")
        self.name = str(self.summary.get("run") or self.folder.name)
        self.database = self._index(reporter)
        self.store = RunStore(self.folder, read_only=True)
        self.sequences = Sequences(self.database)
        if (self.folder / "vocabulary.parquet").exists():
            self.store.use_sequences(self.sequences, self.store.read_vocabulary())
        self._lines = self.table.open("rb")

    def close(self) -> None:
        """Close all files."""
        self._lines.close()
        self.store.close()
        self.database.close()

    def _index(self, reporter: Reporter) -> sqlite3.Connection:
        path = index_path(self.folder)
        if not is_current(path, self.folder):
            try:
                build_index(self.folder, path, self.summary, reporter)
            except (OSError, sqlite3.OperationalError) as error:
                if isinstance(error, OSError) and error.errno not in UNWRITABLE:
                    raise
                kept = Path(tempfile.mkdtemp(prefix="autointerp-view-")) / path.name
                reporter.note(f"{path} cannot be written ({error}): the index is in {kept}")
                path = kept
                build_index(self.folder, path, self.summary, reporter)
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
        )
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA mmap_size = 1073741824")
        return connection

    # ------------------------------------------------------------------ facts

    @cached_property
    def _meta(self) -> dict[str, Any]:
        rows = self.database.execute("SELECT name, value FROM meta WHERE name != 'signature'")
        return {name: json.loads(value) for name, value in rows}

    @property
    def sources(self) -> list[str]:
        """Names of the unit sources, in the config's order."""
        return self._meta["sources"]

    @property
    def explainers(self) -> list[str]:
        """Names of the explainers, in the config's order."""
        return self._meta["explainers"]

    @property
    def baselines(self) -> list[str]:
        """Explainers that are controls rather than words."""
        return self._meta["baselines"]

    @property
    def scorers(self) -> Mapping[str, Mapping[str, Any]]:
        """Scorer → `type`, `metric`, `low`, `high`, `chance`."""
        return self.summary["scorers"]

    @property
    def primary_scorer(self) -> str:
        """The scorer of the headline."""
        return str(self.summary["scorer"])

    @property
    def best_explainer(self) -> str:
        """The explainer with words that has the highest mean lift; the first where none has one."""
        best = self.summary.get("best_explainer")
        return str(best) if best in self.explainers else self.explainers[0]

    @cached_property
    def views(self) -> dict[tuple[str, str], int]:
        """(explainer, scorer) → view."""
        rows = self.database.execute("SELECT id, explainer, scorer FROM views")
        return {(self.explainers[explainer], scorer): view for view, explainer, scorer in rows}

    @cached_property
    def has_recorded_view(self) -> bool:
        """Whether units were recorded that nobody explained."""
        return self.database.execute("SELECT 1 FROM counts WHERE view = 0").fetchone() is not None

    @cached_property
    def signed(self) -> frozenset[str]:
        """Sources whose units have two sides."""
        found: set[str] = set()
        for place, source in enumerate(self.sources):
            low, high = source_bounds(place)
            row = self.database.execute(
                "SELECT 1 FROM units WHERE id >= ? AND id < ? AND id & 1 LIMIT 1", (low, high)
            ).fetchone()
            if row:
                found.add(source)
        return frozenset(found)

    # ------------------------------------------------------------------ units

    def code(self, unit: UnitId) -> int:
        """The unit's number in the index.

        Raises:
            AutointerpError: where the run has no such source.
        """
        if unit.source not in self.sources:
            known = ", ".join(self.sources)
            raise AutointerpError(f"unit {unit}: there is no source but {known}")
        return unit_code(unit, self.sources)

    def unit(self, code: int) -> UnitId:
        """The unit of a number."""
        return unit_of_code(code, self.sources)

    def facts(self, unit: UnitId) -> UnitFacts:
        """What the index knows of a unit.

        Raises:
            AutointerpError: where it was not recorded.
        """
        code = self.code(unit)
        row = self.database.execute(
            "SELECT density, maximum, documents, place, size FROM units WHERE id = ?", (code,)
        ).fetchone()
        if row is None:
            raise AutointerpError(f"unit {unit} was not recorded in {self.folder}")
        return UnitFacts(unit, code, *row)

    def rows(self, facts: UnitFacts) -> list[dict[str, Any]]:
        """The unit's rows in `explanations.jsonl`, one per explainer; none where not chosen."""
        if facts.place is None or facts.size is None:
            return []
        self._lines.seek(facts.place)
        found = self._lines.read(facts.size)
        return [json.loads(line) for line in found.splitlines() if line]

    def record(self, unit: UnitId) -> UnitRecord | None:
        """What was recorded of a unit, without what is held back for audits."""
        if not (self.store.records_folder / f"{unit.source}.statistics.parquet").exists():
            return None
        (record,) = self.store.read_units([unit])
        return UnitRecord(
            record.unit,
            tuple(r for r in record.records if r.split != Split.AUDIT),
            {split: s for split, s in record.statistics.items() if split != Split.AUDIT},
            record.neighbour,
            record.neighbour_cosine,
            record.promoted,
            record.suppressed,
            record.neighbours,
        )

    def words(self, code: int, explainer: str) -> str | None:
        """The words of a unit by an explainer."""
        row = self.database.execute(
            "SELECT text FROM explained WHERE explainer = ? AND unit = ?",
            (self.explainers.index(explainer), code),
        ).fetchone()
        return row[0] if row else None


class Sequences(Mapping[str, Sequence]):
    """The run's sequences, looked up one by one; the last ones read are kept.

    Also what cells of tokens are made with: `sequence_texts` and `char_spans`.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._kept: OrderedDict[str, tuple[Sequence, dict[str, str]]] = OrderedDict()
        self.sequence_texts = _Texts(self)
        self.char_spans = _Spans(self)

    def __getitem__(self, name: str) -> Sequence:
        return self.both(name)[0]

    def __iter__(self) -> Iterator[str]:
        return (row[0] for row in self._database.execute("SELECT id FROM sequences"))

    def __len__(self) -> int:
        return self._database.execute("SELECT COUNT(*) FROM sequences").fetchone()[0]

    def both(self, name: str) -> tuple[Sequence, dict[str, str]]:
        """A sequence, and its `text` and `document_name`."""
        found = self._kept.get(name)
        if found is None:
            row = self._database.execute(
                "SELECT document, name, split, text, tokens FROM sequences WHERE id = ?", (name,)
            ).fetchone()
            if row is None:
                raise KeyError(name)
            document, document_name, split, text, blob = row
            ids, starts, ends, masked = unpack_tokens(blob)
            sequence = Sequence(name, document, Split(split), ids, masked, starts, ends)
            found = sequence, {"text": text, "document_name": document_name}
            self._kept[name] = found
            if len(self._kept) > _KEPT_SEQUENCES:
                self._kept.popitem(last=False)
        return found


class _Texts(Mapping[str, Mapping[str, str]]):
    def __init__(self, sequences: Sequences) -> None:
        self._sequences = sequences

    def __getitem__(self, name: str) -> Mapping[str, str]:
        return self._sequences.both(name)[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)


class _Spans(Mapping[str, tuple[np.ndarray, np.ndarray]]):
    def __init__(self, sequences: Sequences) -> None:
        self._sequences = sequences

    def __getitem__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        sequence = self._sequences[name]
        return sequence.char_starts, sequence.char_ends

    def __iter__(self) -> Iterator[str]:
        return iter(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)
