"""The tables of a run, made again from its database by the code that wrote them.

Which explanation and which score a row is of stands in the row, as keys; all that it says of them
is made anew. So are `scores.csv` and `summary.json`, from the same rows.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from autointerp.analysis.results import SIMULATION, RunResults, UnitResult
from autointerp.analysis.tables import TABLES_VERSION, explanation_rows, score_rows
from autointerp.analysis.values import IN_NO_MEAN
from autointerp.config import BASELINE_EXPLAINERS
from autointerp.records import AutointerpError, Explanation, Score, Status, UnitId
from autointerp.staging import left_out
from autointerp.stored_run import StoredRun

ROWS, SCORES, SUMMARY = FILES = ("explanations.jsonl", "scores.csv", "summary.json")

_NOT_COMPARED = ("reason", "n_controls", "schema_version")
"""Words, and a count, that have been written otherwise under the same version of the tables."""

_Row = Mapping[str, Any]
_Place = tuple[str, ...]
"""Unit and explainer of a row; of `scores.csv` the scorer too."""


@dataclass(frozen=True)
class Mismatch:
    """One value of a table that is not what the run's results give."""

    file: str
    place: _Place
    """Unit, explainer and scorer, as far as the value is of one."""
    field: str
    stored: Any
    found: Any


@dataclass
class TablesMadeAgain:
    """What the tables of a run list, and in what they differ."""

    n_rows: int = 0
    """Of `explanations.jsonl`."""
    n_scores: int = 0
    """Scores with a number in it."""
    missing: list[str] = field(default_factory=list[str])
    """Files that are not there beside the others."""
    mismatches: list[Mismatch] = field(default_factory=list[Mismatch])
    """All values compared that are not the same, however close."""


def make_again(stored: StoredRun, recomputed: Mapping[str, Score]) -> TablesMadeAgain:
    """Compare a run's tables with what its stored results give.

    Args:
        recomputed: by key; scores that are not in it are taken as stored.

    Raises:
        AutointerpError: where a table, or what was recorded, cannot be read.
    """
    folder = stored.store.folder
    there = [name for name in FILES if (folder / name).exists()]
    if not there:
        return TablesMadeAgain()  # single units were asked for: the run has no tables of its own
    made = TablesMadeAgain(missing=[name for name in FILES if name not in there])
    if ROWS in made.missing:
        return made
    rows = {(str(row["unit"]), str(row["explainer"])): row for row in _lines(folder / ROWS)}
    made.n_rows = len(rows)
    made.n_scores = sum(s["score"] is not None for r in rows.values() for s in r["scores"].values())
    summary = _summary(folder / SUMMARY) if SUMMARY in there else {}
    results = _Source(stored, recomputed, rows).results(summary.get("staged") or {})
    again = {(row["unit"], row["explainer"]): row for row in explanation_rows(results)}
    made.mismatches += _of_tables(ROWS, rows, again)
    made.mismatches += _left_out(stored, rows)
    if SCORES in there:
        table = {(r["unit"], r["explainer"], r["scorer"]): r for r in _cells(folder / SCORES)}
        own = {(r["unit"], r["explainer"], r["scorer"]): r for r in score_rows(results)}
        made.mismatches += _of_tables(SCORES, table, own)
    if SUMMARY in there:
        pairs = _unequal(summary, _summarised(results))
        made.mismatches += [Mismatch(SUMMARY, (), *one) for one in pairs]
    return made


# ---------------------------------------------------------------------- from the database


@dataclass(frozen=True)
class _Source:
    """What the rows name, looked up."""

    stored: StoredRun
    recomputed: Mapping[str, Score]
    rows: Mapping[_Place, _Row]

    def results(self, staged: Mapping[str, Any]) -> RunResults:
        """The run's results: every unit and explainer of its config."""
        config, units = self.stored.config, self.stored.run.units
        frame = config.units.min_active_documents
        empty = RunResults(
            name=config.name,
            explainers=tuple(e.name for e in config.explainers),
            baseline_explainers=tuple(
                e.name for e in config.explainers if e.type in BASELINE_EXPLAINERS
            ),
            sources=tuple(config.sources),
            units=(),
            recorded={
                name: {
                    "n_units": len(own),
                    "n_dead": sum(u.maximum <= 0 for u in own),
                    "n_too_rare": sum(u.maximum > 0 and u.active_documents < frame for u in own),
                }
                for name, own in units.summaries.items()
            },
            sequence_texts={},
            char_spans={},
            provenance=self.stored.facts,
            config=config.model_dump(mode="json"),
            staged=staged,
        )
        found = tuple(self._unit(unit, empty) for unit in units.configured)
        return replace(empty, units=found)

    def _unit(self, unit: UnitId, run: RunResults) -> UnitResult:
        words: dict[str, Explanation] = {}
        scores: dict[str, dict[str, Score]] = {facts.name: {} for facts in run.scorers}
        for explainer in run.explainers:
            row = self.rows.get((str(unit), explainer))
            own = self._explanation(unit, explainer, row) if row else None
            if own is not None:
                words[explainer] = own
            for name, by in scores.items():
                said = row["scores"].get(name) if row else None
                score = self._score(unit, explainer, name, own, said) if said else None
                is_said = score is not None and score.explainer == explainer
                # A score of the unit itself stands under every explainer that uses words.
                if score is not None and (is_said or explainer not in run.baseline_explainers):
                    by[explainer] = score
        units = self.stored.run.units
        return UnitResult(
            unit=unit,
            record=self.stored.record(unit),
            density=units.densities[unit],
            explanations=words,
            scores=scores.pop(SIMULATION, {}),
            judged=scores,
            scored_windows=(),
            simulations={},
            status=Status.DEAD if units.is_dead(unit) else Status.OK,
        )

    def _explanation(self, unit: UnitId, explainer: str, row: _Row) -> Explanation | None:
        key = row["explanation_key"]
        found = self.stored.store.get_explanation(key) if key else None
        return found if found and (found.unit, found.explainer) == (unit, explainer) else None

    def _score(
        self, unit: UnitId, explainer: str, scorer: str, own: Explanation | None, said: _Row
    ) -> Score | None:
        key = said["key"]
        if key == "" and own is not None:
            return left_out(own, scorer, said["design"], said["reason"])
        found = (self.recomputed.get(key) or self.stored.store.get_score(key)) if key else None
        if found is None or (found.unit, found.scorer) != (unit, scorer):
            return None
        config = self.stored.config
        if said["status"] == Status.STAGED and (config.cascade or config.score.stop):
            found = replace(found, details={**found.details, IN_NO_MEAN: said["reason"]})
        if not found.explainer:
            return found
        is_own = own is not None and found.explanation_key == own.key
        return found if is_own and found.explainer == explainer else None


def _left_out(stored: StoredRun, rows: Mapping[_Place, _Row]) -> Iterator[Mismatch]:
    """Rows that name no explanation, or no score of theirs, where the database has one."""
    scored = {(s.explanation_key, s.scorer): s.key for s in stored.store.scores()}
    for place, row in rows.items():
        key = row["explanation_key"]
        if key is None and place[1] not in stored.choosers:
            own = stored.explanation_of(UnitId.parse(place[0]), place[1])
            if own is not None:
                yield Mismatch(ROWS, place, "explanation_key", None, own.key)
        for name, score in row["scores"].items():
            if key and score["key"] is None and (key, name) in scored:
                yield Mismatch(ROWS, (*place, name), "key", None, scored[key, name])


def _summarised(results: RunResults) -> dict[str, Any]:
    """As `write_outputs` writes it."""
    from autointerp.analysis.aggregate import summarise
    from autointerp.analysis.compare import compare_scorers
    from autointerp.presets.published import preset_summary

    comparisons = compare_scorers(results)
    found = {**summarise(results), "comparisons": comparisons, "preset": preset_summary(results)}
    # In JSON, as it is read back.
    return json.loads(json.dumps(found, allow_nan=False))


# ---------------------------------------------------------------------- compared


def _of_tables(
    file: str, stored: Mapping[_Place, _Row], found: Mapping[_Place, _Row]
) -> Iterator[Mismatch]:
    for place, row in stored.items():
        if place not in found:
            yield Mismatch(file, place, "row", "listed", "not of this config")
            continue
        for name, old, new in _unequal(row, found[place]):
            yield Mismatch(file, place, name, old, new)
    for place in found.keys() - stored.keys():
        yield Mismatch(file, place, "row", "missing", "asked for by this config")


def _unequal(stored: Any, found: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Values of both that are not the same; what only one version of the tables has is skipped."""
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        old, new = cast("Mapping[str, Any]", stored), cast("Mapping[str, Any]", found)
        for key in old:
            if key in new and key not in _NOT_COMPARED:
                yield from _unequal(old[key], new[key], f"{name}.{key}" if name else key)
    elif isinstance(stored, list) and isinstance(found, list):
        first, second = cast("list[Any]", stored), cast("list[Any]", found)
        if len(first) != len(second):
            yield f"{name} (how many)", len(first), len(second)
            return
        for place, (a, b) in enumerate(zip(first, second, strict=True)):
            yield from _unequal(a, b, f"{name}.{place}")
    elif isinstance(stored, str) and not isinstance(found, str):
        value = _cell(stored, found)
        if value != found:
            yield name, value, found
    elif stored != found:
        yield name, stored, found


def _cell(text: str, like: Any) -> Any:
    """What a cell of `scores.csv` says, in the type of what it is compared with."""
    if text == "":
        return None
    if isinstance(like, bool):
        return {"True": True, "False": False}.get(text, text)
    try:
        return float(text)
    except ValueError:
        return text


# ---------------------------------------------------------------------- read


def _lines(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            version = row["schema_version"]
            _ = [row["unit"], row["explainer"], row["explanation_key"]]
            names = ("score", "key", "status", "design", "reason")
            _ = [score[name] for score in row["scores"].values() for name in names]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise AutointerpError(f"{path}, line {number}: {error!r}; {_again(path)}") from error
        if version != TABLES_VERSION:
            raise AutointerpError(
                f"{path} is of version {version}, this autointerp reads {TABLES_VERSION}: "
                f"{_again(path)}"
            )
        yield row


def _cells(path: Path) -> Sequence[_Row]:
    try:
        found = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        _ = [(row["unit"], row["explainer"], row["scorer"]) for row in found]
    except (ValueError, KeyError, csv.Error) as error:
        raise AutointerpError(f"{path}: {error!r}; {_again(path)}") from error
    return found


def _summary(path: Path) -> dict[str, Any]:
    from autointerp.analysis.loaded import checked_object

    return checked_object(path)


def _again(path: Path) -> str:
    return f"`autointerp run {path.parent / 'config.yaml'}` writes the tables anew"
