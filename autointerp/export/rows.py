"""Rows of a finished run, one after another: what is held does not grow with the units."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.analysis.tables import TABLES_VERSION
from autointerp.export.schema import EXPORT_VERSION, checked
from autointerp.records import (
    ActivationRecord,
    AutointerpError,
    Split,
    TokenLogit,
    UnitId,
    UnitRecord,
    whole_number,
)
from autointerp.store import RunStore

N_EXAMPLES = 5
"""Windows of a unit that are exported if nothing else is said."""

N_TOP_TOKENS = 10
"""Top tokens of a unit that are exported."""


@dataclass(frozen=True)
class TextChoice:
    """What of the corpus leaves the run, for corpora under licence."""

    examples: int | None = None
    """Windows per unit, the most active first; of a run 5 if `None`, of an import all."""

    with_text: bool = True
    """Whether texts of windows are exported; activations are in any case."""

    max_context: int | None = None
    """Tokens of a window at most, around its largest activation; all if `None`."""

    licence: str | None = None
    """Licence of the corpus, in words."""

    def __post_init__(self) -> None:
        for name, lowest in (("examples", 0), ("max_context", 1)):
            value = getattr(self, name)
            if value is not None:
                whole_number(value, name, lowest)


class FinishedRun:
    """A finished run's tables, records and provenance, opened for reading."""

    def __init__(self, folder: str | Path) -> None:
        """Open it.

        Raises:
            AutointerpError: naming the file that is missing or damaged.
        """
        self.folder = Path(folder)
        self.table = self.folder / "explanations.jsonl"
        if not self.table.exists():
            what = "holds no finished run" if self.folder.is_dir() else "is no folder"
            raise AutointerpError(
                f"{str(self.folder)!r} {what}: expected explanations.jsonl in it; give a run's "
                "folder, such as results/demo, and let `autointerp run` end first"
            )
        self.store = RunStore(self.folder, read_only=True)
        self.facts = _object(self.folder / "provenance.json")
        self.summary = _object(self.folder / "summary.json")
        self.name = str(self.summary.get("run") or self.folder.name)

    def units(self) -> Iterator[tuple[UnitId, list[dict[str, Any]], UnitRecord]]:
        """Every selected unit: its rows in `explanations.jsonl`, and what was recorded of it.

        Windows of the `audit` split are held back, as everywhere.
        """
        for name, rows in groupby(self._lines(), key=lambda row: row.get("unit")):
            unit = UnitId.parse(str(name))
            (record,) = self.store.read_units([unit])
            yield unit, list(rows), _without_audit(record)

    def rows(self, choice: TextChoice | None = None) -> Iterator[dict[str, Any]]:
        """Rows of `schema.ExportedRow`, in the order of `explanations.jsonl`."""
        choice = choice or TextChoice()
        most = N_EXAMPLES if choice.examples is None else choice.examples
        for unit, rows, record in self.units():
            shared = {
                "statistics": _statistics(record),
                "promoted": _logits(record.promoted),
                "suppressed": _logits(record.suppressed),
                "neighbours": None
                if record.neighbours is None
                else [{"unit": str(n.unit), "cosine": n.cosine} for n in record.neighbours],
                "examples": [_example(r, choice) for r in examples_of(record, most)],
            }
            for row in rows:
                explainer = str(row["explainer"])
                yield self._exported(row, shared, self.provenance(unit.source, explainer, choice))

    def provenance(
        self, source: str, explainer: str, choice: TextChoice | None = None
    ) -> dict[str, Any]:
        """Where a row of a source and an explainer comes from."""
        own = (self.facts.get("sources") or {}).get(source) or {}
        facts = own.get("facts") or {}
        subject = facts.get("subject")
        known = (self.facts.get("subjects") or {}).values()
        design = self.facts.get("design") or {}
        return {
            "run": self.name,
            "autointerp": str((self.facts.get("versions") or {}).get("autointerp") or "unknown"),
            "seed": self.facts.get("seed"),
            "subject": subject,
            "subject_fingerprint": next(
                (s.get("fingerprint") for s in known if subject and s.get("model") == subject), None
            ),
            "source_type": facts.get("type"),
            "hook_point": facts.get("hook_point"),
            "layer": facts.get("layer"),
            "width": facts.get("width"),
            "source_fingerprint": own.get("fingerprint"),
            "records_key": own.get("records_key"),
            "corpus_key": self.facts.get("corpus_key"),
            "corpus_licence": choice.licence if choice else None,
            "design": design.get("name"),
            "design_key": design.get("key"),
            "explainer_fingerprint": (self.facts.get("explainers") or {}).get(explainer),
        }

    def _exported(
        self, row: dict[str, Any], shared: dict[str, Any], provenance: dict[str, Any]
    ) -> dict[str, Any]:
        kept = {name: value for name, value in row.items() if name != "run"}
        scores = [{"scorer": name, **score} for name, score in row["scores"].items()]
        versioned = {"schema_version": EXPORT_VERSION, "scores": scores, "provenance": provenance}
        try:
            return checked(kept | shared | versioned)
        except AutointerpError as error:
            raise AutointerpError(f"{self.table}: {row['unit']}: {error}") from error

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self.table.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise AutointerpError(f"{self.table}, line {number}: {error}") from error
                found = row.get("schema_version") if isinstance(row, dict) else None
                if found != TABLES_VERSION:
                    raise AutointerpError(
                        f"{self.table}, line {number} is of version {found}, this autointerp reads "
                        f"{TABLES_VERSION}: `autointerp run {self.folder / 'config.yaml'}` writes "
                        "the tables anew; it computes only what is missing"
                    )
                yield row


def examples_of(record: UnitRecord, most: int | None) -> Sequence[ActivationRecord]:
    """The most active windows of the `explain` split, which no score is of."""
    found = [r for r in record.of(Split.EXPLAIN) if r.maximum > 0]
    found.sort(key=lambda r: (-r.maximum, r.window))
    return found[:most]


def imported_rows(folder: str | Path, choice: TextChoice | None = None) -> Iterator[dict[str, Any]]:
    """Rows that `autointerp import` took in, as they were, or with less of the corpus."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    choice, path = choice or TextChoice(), Path(folder) / "rows.parquet"
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    yield _restricted(checked(row), choice)
    except (pa.ArrowException, OSError) as error:
        said = str(error).partition("\n")[0]
        raise AutointerpError(f"{path} is damaged ({said}): import the files again") from error


def _restricted(row: dict[str, Any], choice: TextChoice) -> dict[str, Any]:
    """The row with no more of the corpus than is asked for."""
    examples: list[dict[str, Any]] = []
    for example in row["examples"][: choice.examples]:
        shown = around_peak(example["activations"], choice.max_context)
        tokens: list[str] | None = example["tokens"] if choice.with_text else None
        cut = {"tokens": None if tokens is None else tokens[shown],
               "activations": example["activations"][shown]}  # fmt: skip
        examples.append(example | cut)
    licence = {"corpus_licence": choice.licence} if choice.licence else {}
    return row | {"examples": examples, "provenance": row["provenance"] | licence}


def around_peak(activations: Any, most: int | None) -> slice:
    """At most so many tokens of a window, with its largest activation in their middle.

    Args:
        activations: [n_tokens].
    """
    n = len(activations)
    if most is None or n <= most:
        return slice(0, n)
    start = int(np.argmax(activations)) - most // 2
    start = max(0, min(start, n - most))
    return slice(start, start + most)


def _without_audit(record: UnitRecord) -> UnitRecord:
    kept = tuple(r for r in record.records if r.split != Split.AUDIT)
    return UnitRecord(
        record.unit,
        kept,
        {split: s for split, s in record.statistics.items() if split != Split.AUDIT},
        record.neighbour,
        record.neighbour_cosine,
        record.promoted,
        record.suppressed,
        record.neighbours,
    )


def _example(record: ActivationRecord, choice: TextChoice) -> dict[str, Any]:
    shown = around_peak(record.activations, choice.max_context)
    return {
        "stratum": record.stratum,
        "probability": record.probability,
        "document_id": record.document_id,
        "tokens": list(record.tokens[shown]) if choice.with_text else None,
        "activations": [float(value) for value in record.activations[shown]],
    }


def _statistics(record: UnitRecord) -> Mapping[str, Any] | None:
    found = record.statistics.get(Split.EXPLAIN)
    if found is None:
        return None
    return {
        "n_tokens": found.n_tokens,
        "n_active": found.n_active,
        "n_documents": found.n_documents,
        "n_active_documents": found.n_active_documents,
        "maximum": found.maximum,
        "moments": list(found.moments),
        "top_tokens": [vars(token) for token in found.top_tokens[:N_TOP_TOKENS]],
    }


def _logits(tokens: Sequence[TokenLogit] | None) -> list[dict[str, Any]] | None:
    return None if tokens is None else [vars(token) for token in tokens]


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AutointerpError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise AutointerpError(f"{path} holds no object")
    return found
