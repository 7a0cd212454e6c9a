"""Everything that the page of one unit shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from autointerp.analysis.results import SIMULATION, UnitResult
from autointerp.analysis.sentences import explain_score
from autointerp.analysis.wording import number
from autointerp.browser.drawing import activation_histogram
from autointerp.browser.opened import OpenedRun, UnitFacts
from autointerp.browser.strips import Strip, strip_of
from autointerp.browser.text import cut
from autointerp.records import (
    ActivationRecord,
    Explanation,
    Score,
    Simulation,
    Split,
    Status,
    Strata,
    UnitId,
    UnitRecord,
)
from autointerp.viewer.report import stratum_text
from autointerp.viewer.tokens import LevelScale, level_scale

SHOWN_SPLITS = (Split.TEST, Split.EXPLAIN, Split.CALIBRATE)
"""What is held back for audits is never shown."""

FEW = 3
"""Windows of a stratum that are shown unless all are asked for; five of the top."""

MAX_WORDS = 20_000
"""Characters of an explanation; a longer one is cut."""


@dataclass(frozen=True)
class Stored:
    """All that is read for one unit."""

    facts: UnitFacts
    rows: list[dict[str, Any]]
    record: UnitRecord | None
    scores: Mapping[str, Score]
    """By key."""

    simulations: Mapping[str, tuple[Simulation, ...]]
    """By explainer, on the scored windows."""


def read_unit(run: OpenedRun, unit: UnitId) -> Stored:
    """Read a unit: its rows, records, scores and simulations.

    Raises:
        AutointerpError: where there is no such unit.
    """
    facts = run.facts(unit)
    rows = run.rows(facts)
    record = run.record(unit)
    scores: dict[str, Score] = {}
    simulations: dict[str, tuple[Simulation, ...]] = {}
    if rows and (run.folder / "results.sqlite").exists():
        for row in rows:
            for name, own in row["scores"].items():
                score = run.store.get_score(own["key"]) if own["key"] else None
                if score is None:
                    continue
                scores[score.key] = score
                key = score.details.get("simulation_key")
                if name == SIMULATION and key:
                    parts = run.store.get_simulation(str(key))
                    if parts is not None:
                        simulations[row["explainer"]] = tuple(parts)
    return Stored(facts, rows, record, scores, simulations)


@dataclass(frozen=True)
class Group:
    """The windows of one stratum."""

    name: str
    strips: tuple[Strip, ...]
    n: int
    """Windows that there are."""


@dataclass(frozen=True)
class UnitPage:
    """One unit as its page shows it."""

    unit: UnitId
    density: float
    maximum: float | None
    """Largest activation in `explain`; `None` where the folder holds no records."""

    status: Status
    lines: list[dict[str, Any]]
    splits: list[dict[str, Any]]
    histogram: Markup | None
    top_tokens: list[Any]
    promoted: list[Any] | None
    suppressed: list[Any] | None
    neighbours: list[dict[str, Any]] | None
    groups: list[Group]
    split: Split
    n_hidden: int
    """Windows that there are and that are not shown."""

    shown_explainer: str
    """Whose simulation stands under the tokens; empty where there is none."""

    scale: LevelScale | None
    judged: list[str]
    """Scorers whose items can be shown."""


def unit_page(
    run: OpenedRun, stored: Stored, explainer: str, split: Split, *, every_window: bool = False
) -> UnitPage:
    """What is shown of a unit.

    Args:
        run: the run.
        stored: from `read_unit`.
        explainer: whose simulation is shown under the tokens.
        split: whose windows are shown.
        every_window: all of them.
    """
    record = stored.record
    maximum = record.explain_maximum() if record else stored.facts.maximum
    result = _result(run, stored)
    groups, n_hidden, shown, scale = _groups(
        run, stored, explainer, split, every_window=every_window
    )
    explain = record.statistics.get(Split.EXPLAIN) if record else None
    statuses = {Status(row["status"]) for row in stored.rows}
    dead = maximum is not None and maximum <= 0
    return UnitPage(
        unit=stored.facts.unit,
        density=stored.facts.density,
        maximum=maximum,
        status=Status.DEAD if dead else Status.OK if statuses else Status.NOT_RUN,
        lines=[_line(run, stored, row, result) for row in stored.rows],
        splits=_splits(record),
        histogram=activation_histogram(explain) if explain else None,
        top_tokens=list(explain.top_tokens[:12]) if explain else [],
        promoted=None if record is None or record.promoted is None else list(record.promoted),
        suppressed=None if record is None or record.suppressed is None else list(record.suppressed),
        neighbours=_neighbours(run, record, explainer),
        groups=groups,
        split=split,
        n_hidden=n_hidden,
        shown_explainer=shown,
        scale=scale,
        judged=_judged(run, stored),
    )


def _result(run: OpenedRun, stored: Stored) -> UnitResult | None:
    """The unit as sentences about its scores need it."""
    if stored.record is None:
        return None
    explanations: dict[str, Explanation] = {}
    scores: dict[str, Score] = {}
    for row in stored.rows:
        if row["explanation_key"]:
            explanations[row["explainer"]] = Explanation(
                stored.facts.unit, row["explainer"], row["explanation"], Status(row["status"]),
                row["explanation_key"], row["reason"],
            )  # fmt: skip
        own = row["scores"].get(SIMULATION)
        if own and own["key"] in stored.scores:
            scores[row["explainer"]] = stored.scores[own["key"]]
    dead = stored.record.explain_maximum() <= 0
    return UnitResult(
        stored.facts.unit,
        stored.record,
        stored.facts.density,
        explanations,
        scores,
        scored_windows(stored.record),
        stored.simulations,
        status=Status.DEAD if dead else Status.OK,
    )


def scored_windows(record: UnitRecord) -> tuple[ActivationRecord, ...]:
    """The windows that are simulated and scored, in the order of the simulations."""
    return tuple(r for r in record.of(Split.TEST) if r.stratum != Strata.RANDOM)


# ------------------------------------------------------------------ explanations


def _line(
    run: OpenedRun, stored: Stored, row: dict[str, Any], result: UnitResult | None
) -> dict[str, Any]:
    name = row["explainer"]
    sentence = ""
    if result is not None and SIMULATION in row["scores"]:
        sentence = explain_score(result, name, run.baselines)
    text = row["explanation"]
    return {
        "explainer": name,
        "is_baseline": row["is_baseline"],
        "text": None if text is None else cut(text, MAX_WORDS),
        "author": row.get("author"),
        "status": row["status"],
        "reason": cut(row["reason"] or "", 600),
        "sentence": sentence,
        "scores": [_score(run, stored, scorer, own) for scorer, own in row["scores"].items()],
    }


def _score(run: OpenedRun, stored: Stored, scorer: str, own: dict[str, Any]) -> dict[str, Any]:
    score = stored.scores.get(own["key"] or "")
    details = score.details if score else {}
    return {
        **own,
        "scorer": scorer,
        "type": run.scorers.get(scorer, {}).get("type", scorer),
        "details": [
            (name.replace("_", " "), number(value) if isinstance(value, float) else str(value))
            for name, value in details.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ],
    }


def _judged(run: OpenedRun, stored: Stored) -> list[str]:
    return [
        name
        for name in run.scorers
        if name != SIMULATION and any(name in row["scores"] for row in stored.rows)
    ]


# ------------------------------------------------------------------ what was recorded


def _splits(record: UnitRecord | None) -> list[dict[str, Any]]:
    if record is None:
        return []
    found: list[dict[str, Any]] = []
    for split in (Split.EXPLAIN, Split.CALIBRATE, Split.TEST):
        statistics = record.statistics.get(split)
        if statistics is not None:
            mean, square = statistics.moments[:2]
            found.append(
                {
                    "split": str(split),
                    "density": statistics.density,
                    "n_tokens": statistics.n_tokens,
                    "n_active": statistics.n_active,
                    "n_documents": statistics.n_documents,
                    "n_active_documents": statistics.n_active_documents,
                    "maximum": statistics.maximum,
                    "mean": mean,
                    "deviation": max(0.0, square - mean * mean) ** 0.5,
                }
            )
    return found


def _neighbours(
    run: OpenedRun, record: UnitRecord | None, explainer: str
) -> list[dict[str, Any]] | None:
    if record is None or record.neighbours is None:
        return None
    return [
        {
            "unit": one.unit,
            "cosine": one.cosine,
            "words": run.words(run.code(one.unit), explainer),
        }
        for one in record.neighbours
    ]


def _groups(
    run: OpenedRun,
    stored: Stored,
    explainer: str,
    split: Split,
    *,
    every_window: bool,
) -> tuple[list[Group], int, str, LevelScale | None]:
    if stored.record is None:
        return [], 0, "", None
    maximum = stored.record.explain_maximum()
    simulations = stored.simulations.get(explainer, ()) if split is Split.TEST else ()
    windows = scored_windows(stored.record)
    if len(simulations) != len(windows):
        simulations = ()
    scale = level_scale(simulations)
    by_window = {
        (w.window, w.stratum): simulation
        for w, simulation in zip(windows, simulations, strict=False)
    }
    strata: dict[str, list[ActivationRecord]] = {}
    for window in stored.record.of(split):
        strata.setdefault(window.stratum, []).append(window)
    groups: list[Group] = []
    n_hidden = 0
    for stratum, own in strata.items():
        few = 5 if stratum == Strata.TOP else FEW
        shown = own if every_window else own[:few]
        n_hidden += len(own) - len(shown)
        strips = tuple(
            strip_of(run.sequences, w, by_window.get((w.window, w.stratum)), maximum, scale)
            for w in shown
        )
        groups.append(Group(stratum_text(stratum), strips, len(own)))
    return groups, n_hidden, explainer if simulations else "", scale
