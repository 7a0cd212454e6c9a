"""Finished runs as they lie on disk: their tables, config and provenance, and no model.

What is compared is what was written, so that a folder can be compared anywhere. Files are data of
other people: they are checked, never trusted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autointerp.analysis.tables import TABLES_VERSION
from autointerp.analysis.values import SCORED, Outcome
from autointerp.records import AutointerpError, Interval, Status


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Ends(_Row):
    low: float
    high: float
    level: float = Field(gt=0, lt=1)
    method: str


class ScoreRow(_Row):
    """One score of a row of `explanations.jsonl`."""

    metric: str = "score"
    status: Status
    stage: str = "score"
    reason: str = ""
    score: float | None = None
    score_interval: _Ends | None = None
    chance: float | None = None
    lift: float | None = None
    lift_interval: _Ends | None = None
    control_mean: float | None = None
    n_windows: int | None = None
    design: str | None = None
    key: str | None = None

    def outcome(self) -> Outcome:
        """What became of it, as `analysis.values.outcome_of` counts."""
        stage: Any = self.stage
        if self.status not in SCORED:
            return Outcome(self.status, stage, self.reason)
        value = self.score
        if value is None and self.status is Status.CONSTANT_PREDICTION:
            value = self.chance
        if value is None:
            return Outcome(Status.FAILED, stage, self.reason or "the score holds no number")
        lift = self.lift
        if lift is None and self.control_mean is not None:
            lift = value - self.control_mean
        return Outcome(self.status, stage, self.reason, value, lift)


class ExplanationRow(_Row):
    """One row of `explanations.jsonl`: a unit under an explainer."""

    schema_version: int
    unit: str = Field(max_length=300)
    source: str = Field(max_length=200)
    index: int = Field(ge=0)
    polarity: int = Field(ge=-1, le=1)
    firing_rate: float = Field(ge=0, le=1)
    token_entropy: float | None = Field(default=None, ge=0)
    explainer: str = Field(max_length=200)
    is_baseline: bool
    explanation: str | None = None
    explanation_key: str | None = None
    author: str | None = None
    status: Status
    scores: dict[str, ScoreRow]


@dataclass(frozen=True)
class LoadedRun:
    """One finished run."""

    folder: Path
    name: str
    rows: tuple[ExplanationRow, ...]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    summary: Mapping[str, Any]

    @cached_property
    def scorers(self) -> Mapping[str, Mapping[str, Any]]:
        """Scorer → type, metric, ends and chance; the headline's first."""
        return {
            name: {k: v for k, v in facts.items() if k != "sources"}
            for name, facts in self.summary["scorers"].items()
        }

    @property
    def primary_scorer(self) -> str:
        """The scorer of the headline."""
        return str(self.summary["scorer"])

    def source_facts(self, source: str) -> Mapping[str, Any]:
        """Type, hook point, layer, width, subject of a source, as far as they are known."""
        facts = (self.provenance.get("sources") or {}).get(source) or {}
        return facts.get("facts") or {}

    def records_key(self, source: str) -> str:
        """What the records of a source were made from: the same in two runs for the same units."""
        facts = (self.provenance.get("sources") or {}).get(source) or {}
        return str(facts.get("records_key") or f"{self.folder.resolve()}:{source}")


def load_run(folder: str | Path) -> LoadedRun:
    """Read the tables of a finished run.

    Raises:
        AutointerpError: naming the file that is missing, of another version or damaged.
    """
    place = Path(folder)
    path = place / "explanations.jsonl"
    if not path.exists():
        what = "holds no finished run" if place.is_dir() else "is no folder"
        raise AutointerpError(
            f"{str(place)!r} {what}: expected explanations.jsonl in it; give a run's folder, such "
            "as results/demo, and let `autointerp run` end first"
        )
    rows = tuple(_rows(path))
    if not rows:
        raise AutointerpError(f"{path} holds no unit: nothing can be compared")
    summary = checked_object(place / "summary.json")
    if not isinstance(summary.get("scorers"), dict) or not summary["scorers"]:
        raise AutointerpError(f"{place / 'summary.json'} lacks `scorers`: {_again(place)}")
    return LoadedRun(
        folder=place,
        name=str(summary.get("run") or place.name),
        rows=rows,
        config=checked_config(place / "config.yaml"),
        provenance=checked_object(place / "provenance.json"),
        summary=summary,
    )


def load_runs(folders: Sequence[str | Path]) -> list[LoadedRun]:
    """Read several runs; two of one name are called by their folders.

    Raises:
        AutointerpError: as `load_run`, or where a folder is given twice.
    """
    places = [Path(folder).resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise AutointerpError("the same run is given twice: give every folder once")
    runs = [load_run(folder) for folder in folders]
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return runs
    return [
        LoadedRun(r.folder, str(r.folder), r.rows, r.config, r.provenance, r.summary) for r in runs
    ]


def interval_of(ends: "_Ends | None") -> Interval | None:
    """An interval of a table as the type that all rooms speak."""
    return None if ends is None else Interval(ends.low, ends.high, ends.level, ends.method)


def _rows(path: Path) -> list[ExplanationRow]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise AutointerpError(f"{path} is not UTF-8 text: {error}") from error
    return [_row(path, number, line) for number, line in enumerate(lines, 1) if line]


def _row(path: Path, number: int, line: str) -> ExplanationRow:
    _refuse_version(path, line)
    try:
        return ExplanationRow.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise AutointerpError(
            f"{path}, line {number}: {where}: {first['msg']}; {_again(path.parent)}"
        ) from error


def _refuse_version(path: Path, line: str) -> None:
    try:
        version = json.loads(line).get("schema_version")
    except (ValueError, AttributeError, RecursionError):
        return  # the model says what is wrong with it
    if version != TABLES_VERSION:
        raise AutointerpError(
            f"{path} is of version {version}, this autointerp reads {TABLES_VERSION}: "
            f"{_again(path.parent)}"
        )


def _again(folder: Path) -> str:
    return (
        f"`autointerp run {folder / 'config.yaml'}` writes the tables anew; it computes only what "
        "is missing"
    )


def checked_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object, or an error that names it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        said = getattr(error, "strerror", None) or error
        raise AutointerpError(f"{path} cannot be read: {said}; {_again(path.parent)}") from error
    if not isinstance(found, dict):
        raise AutointerpError(f"{path} holds no object; {_again(path.parent)}")
    return found


def checked_config(path: Path) -> dict[str, Any]:
    """A config as plain values, or an error that names its file."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise AutointerpError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise AutointerpError(f"{path} holds no config")
    return found
