"""The page of a finished run: one file that needs nothing else, and runs nothing.

Corpus text and what models wrote is hostile: every text is escaped by the template, control and
direction characters are written out, and the page's own policy forbids scripts, requests and any
style but its one style sheet.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autointerp.analysis.figure import INK
from autointerp.analysis.results import RunResults, UnitResult
from autointerp.analysis.sentences import explain_score
from autointerp.analysis.values import Outcome, outcome_of
from autointerp.analysis.wording import interval_text, number, p_text, percent, plural
from autointerp.presets.published import preset_title
from autointerp.records import ActivationRecord, Explanation, Interval, Score, Split, Status, Strata
from autointerp.store import write_text
from autointerp.viewer.svg import inline_svg
from autointerp.viewer.tokens import (
    Cell,
    LevelScale,
    cells_of,
    direction,
    level_scale,
    plain,
    shown_text,
)

UNITS_PER_RANK = 2
"""Units with the highest, median and lowest lift shown in full, of every source."""

EXAMPLES_PER_UNIT = 4
MAX_TABLE_UNITS = 400
"""More units than this are left to `explanations.jsonl`."""

MAX_TEXT = 600
"""Characters of an explanation, a reason or a name; a longer one is cut."""

SHORTEST_STAGE = 0.5
"""Seconds below which a stage is not worth a mention."""

LOOKUP_TOKENS = 6
"""Tokens of a look-up table that are shown."""

WRITTEN_TOKENS = 6
"""Tokens a unit promotes, and suppresses, that are shown."""

SHOWN_NEIGHBOURS = 3
"""Units that write most alike that are shown."""

WITHOUT_LLM = ("top_tokens", "token_lookup", "promoted_tokens", "n2g", "fixed")
"""Explainer types that need no language model."""

CONCLUSIONS = {
    "a_higher": "Mean lift is higher for {a} than for {b}",
    "b_higher": "Mean lift is higher for {b} than for {a}",
    "not_shown": "No difference shown between {a} and {b}",
    "unclear": "Unclear whether {a} and {b} differ",
    "not_measured": "{a} and {b} could not be compared",
}

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Line:
    """One unit under one explainer."""

    explainer: str
    is_baseline: bool
    text: str
    """The explanation, or an empty text."""

    status: Status
    value: float | None
    interval: Interval | None
    lift: float | None
    lift_interval: Interval | None
    control_mean: float | None
    sentence: str


@dataclass(frozen=True)
class Example:
    """One scored window."""

    stratum: str
    document: str
    direction: str
    cells: tuple[Cell, ...]
    label: str
    """What a screen reader says for the coloured tokens."""

    maximum: float
    """Largest true activation in it."""

    level_there: float | None
    """Predicted level on that token."""


@dataclass(frozen=True)
class UnitView:
    """One unit as it is shown."""

    name: str
    rank: str
    """`highest lift`, `median lift` or `lowest lift`; empty in tables."""

    density: float
    status: Status
    n_test_documents: int | None
    """Test documents in which it is active, of the whole corpus."""

    maximum: float
    writes: tuple[tuple[str, str], ...]
    """(name, words) of what it promotes, what it suppresses and its nearest units."""

    lines: tuple[Line, ...]
    examples: tuple[Example, ...]
    scale: LevelScale | None


def write_report(
    results: RunResults,
    summary: Mapping[str, Any],
    comparisons: Sequence[Mapping[str, Any]],
    figure_svg: str,
    path: str | Path,
) -> None:
    """Write the page of a run, whole or not at all.

    Args:
        results: the run as the scorer of the headline sees it (`RunResults.under`).
        summary: from `analysis.aggregate.summarise`.
        comparisons: from `analysis.compare.compare_scorers`; may be empty.
        figure_svg: the text of the SVG from `analysis.figure.draw_comparison`, or an empty text.
        path: where to write, `report.html`.
    """
    write_text(Path(path), render_report(results, summary, comparisons, figure_svg))


def render_report(
    results: RunResults,
    summary: Mapping[str, Any],
    comparisons: Sequence[Mapping[str, Any]],
    figure_svg: str,
) -> str:
    """The page as a text; see `write_report`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalised,
    )
    environment.filters.update(
        number=number, interval=interval_text, percent=percent, duration=_duration, p=p_text
    )
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    featured = summary["best_explainer"]
    own = [c for c in comparisons if c["scorer"] == summary["scorer"]]
    return environment.get_template("report.html.j2").render(
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        title=f"autointerp: {results.name}",
        results=results,
        summary=summary,
        intro=_intro(results),
        notes=_notes(results),
        featured=featured,
        figure=inline_svg(figure_svg, INK, _figure_label(results)) if figure_svg else None,
        forest=_forest_of(summary, own),
        comparisons=_ordered(own, featured),
        others=list(_other_scorers(summary, comparisons)),
        sources=[(source, list(_ranked(results, source, featured))) for source in results.sources],
        table=[_view(results, unit, "", None) for unit in results.units[:MAX_TABLE_UNITS]],
        n_left_out=max(0, len(results.units) - MAX_TABLE_UNITS),
        statuses=[status for status in Status if _occurs(summary, status)],
        conclusions=CONCLUSIONS,
        provenance=list(_flat(results.provenance)),
        config=json.dumps(results.config, indent=2, ensure_ascii=False, default=str),
        shades=range(11),
        plural=plural,
        Status=Status,
    )


# ------------------------------------------------------------------ what was done


def _intro(results: RunResults) -> dict[str, Any]:
    config = results.config
    subjects: Mapping[str, Any] = config.get("subjects") or {}
    corpus: Mapping[str, Any] = config.get("corpus") or {}
    simulator: Mapping[str, Any] = config.get("simulator") or {}
    counts = [_corpus_size(unit) for unit in results.units]
    n_tokens, n_documents = max(counts, default=(0, 0))
    settings = {entry["name"]: entry for entry in config.get("explainers") or ()}
    return {
        "subjects": [str(subject.get("model", name)) for name, subject in subjects.items()],
        "corpus": " + ".join(
            str(part.get("path") or part.get("dataset")) for part in corpus.get("mix") or [corpus]
        )
        if corpus
        else None,
        "n_tokens": n_tokens,
        "n_documents": n_documents,
        "sources": [
            {
                "name": source,
                "kind": _source_kind((config.get("sources") or {}).get(source) or {}),
                "n": len(results.of_source(source)),
                "recorded": results.recorded.get(source, {}).get("n_units"),
            }
            for source in results.sources
        ],
        "explainers": [
            {"name": name, "kind": _explainer_kind(str(settings.get(name, {}).get("type", "")))}
            for name in results.explainers
        ],
        "simulator": simulator.get("name"),
        "simulator_model": simulator.get("model")
        if simulator.get("name") == "all_at_once"
        else None,
        "when": next(
            (
                results.provenance[key]
                for key in ("finished", "finished_at", "created", "created_at", "date", "started")
                if results.provenance.get(key)
            ),
            None,
        ),
        "seconds": sum(results.seconds.values()) or None,
        "stages": [(stage, s) for stage, s in results.seconds.items() if s >= SHORTEST_STAGE],
        "model_seconds": sum(float(entry.get("seconds") or 0) for entry in results.ledger) or None,
    }


def _corpus_size(unit: UnitResult) -> tuple[int, int]:
    statistics = unit.record.statistics.values()
    return sum(s.n_tokens for s in statistics), sum(s.n_documents for s in statistics)


def _source_kind(settings: Mapping[str, Any]) -> str:
    kind = {
        "sae": "sparse autoencoder latents",
        "neurons": "MLP neurons",
        "directions": _DIRECTIONS.get(str(settings.get("kind")), "directions"),
        "attention_heads": "attention heads",
        "recorded": "units recorded elsewhere",
    }.get(str(settings.get("type")), str(settings.get("type") or "units"))
    if settings.get("sparsify"):
        kind = f"{kind}, the {settings['sparsify']['l0']} strongest of every token,"
    place = settings.get("hook_point")
    return f"{kind} at {place}" if place else kind


_DIRECTIONS = {
    "basis": "channels",
    "random": "random directions",
    "pca": "principal components",
    "file": "directions of a file",
}


def _explainer_kind(kind: str) -> str:
    return {
        "token_activation_pairs": "a language model reads windows with activations",
        "top_tokens": "lists the tokens with the highest mean activation, without a language model",
        "token_lookup": "baseline: a table of every token's mean activation",
        "n2g": "baseline: patterns of tokens, without a language model",
        "promoted_tokens": "lists the tokens it makes likelier, without a language model",
        "fixed": "texts from a file",
        "highlights": "a language model reads windows of its whole range with highlights",
        "summary": "a language model reads windows and their strongest tokens",
        "max_act_logits": "a language model reads its strongest and its promoted tokens",
        "contrastive": "a language model reads windows beside similar silent ones",
        "short": "a language model reads short excerpts with highlights",
        "intervals": "a language model reads windows of all intervals, random and silent ones",
        "clusters": "a language model labels groups of windows; the union is the explanation",
    }.get(kind, kind)


def _notes(results: RunResults) -> list[str]:
    config = results.config
    simulation: Mapping[str, Any] = config.get("simulator") or {}
    prompted = simulation.get("name") == "all_at_once"
    simulator = str(simulation.get("model", "")) if prompted else ""
    explainers = config.get("explainers") or ()
    with_llm = [e for e in explainers if e.get("type") not in WITHOUT_LLM]
    llm = str((config.get("llm") or {}).get("model", "")) if with_llm else ""
    roles = [
        role for role, model in (("explainer", llm), ("simulator", simulator)) if "smollm2" in model
    ]
    preset: Any = results.provenance.get("preset")
    notes = [f"This run follows a {preset_title(preset)}."] if preset else []
    if not roles:
        return notes
    without = [str(e.get("name")) for e in explainers if e.get("type") in WITHOUT_LLM]
    note = (
        f"SmolLM2-135M is a weak {' and a weak '.join(roles)}: it is what runs anywhere, without a "
        "key or a network. A low number here says at least as much about it as about the unit."
    )
    if without:
        note += (
            f" What a good label looks like is shown by the explainers that need no language "
            f"model: {' and '.join(without)}."
        )
    return [*notes, note]


def _figure_label(results: RunResults) -> str:
    return (
        f"Lift of every unit of {' and '.join(results.sources)} under "
        f"{', '.join(results.explainers)}, with intervals, and lift against firing rate. The "
        "numbers are in the tables of this page."
    )


# ------------------------------------------------------------------ units


def _ranked(results: RunResults, source: str, featured: str | None) -> Iterator[UnitView]:
    """Units with the highest, median and lowest lift (score where nothing has a lift)."""
    if featured is None:
        return
    units = [(_merit(outcome_of(u, featured)), u) for u in results.of_source(source)]
    with_merit = [(merit, unit) for merit, unit in units if merit is not None]
    ordered = [unit for _, unit in sorted(with_merit, key=lambda row: -row[0])]
    for rank, places in _places(len(ordered)).items():
        for place in places:
            yield _view(results, ordered[place], rank, featured)


def _merit(outcome: Outcome) -> float | None:
    return outcome.value if outcome.lift is None else outcome.lift


def _places(n: int, per_rank: int = UNITS_PER_RANK) -> dict[str, list[int]]:
    """Places of the highest, median and lowest of `n`; none twice."""
    best = list(range(min(per_rank, n)))
    worst = [place for place in range(max(0, n - per_rank), n) if place not in best]
    middle = sorted(range(n), key=lambda place: abs(place - (n - 1) / 2))
    free = [place for place in middle if place not in (*best, *worst)]
    return {
        "highest lift": best,
        "median lift": sorted(free[:per_rank]),
        "lowest lift": worst,
    }


def _view(results: RunResults, unit: UnitResult, rank: str, featured: str | None) -> UnitView:
    test = unit.record.statistics.get(Split.TEST)
    simulations = unit.simulations.get(featured, ()) if featured else ()
    scale = level_scale(simulations)
    return UnitView(
        name=str(unit.unit),
        rank=rank,
        density=unit.density,
        status=unit.status,
        n_test_documents=test.n_active_documents if test else None,
        maximum=unit.record.explain_maximum(),
        writes=tuple(_writes(unit)),
        lines=tuple(_line(results, unit, explainer) for explainer in results.explainers),
        examples=tuple(_examples(results, unit, featured, scale)) if featured else (),
        scale=scale,
    )


def _writes(unit: UnitResult) -> Iterator[tuple[str, str]]:
    record = unit.record
    for name, tokens in (("promotes", record.promoted), ("suppresses", record.suppressed)):
        if tokens:
            shown = (
                f"“{_cut(shown_text(t.token), 24)}” {number(t.logit)}"
                for t in tokens[:WRITTEN_TOKENS]
            )
            yield name, ", ".join(shown)
    if record.neighbours:
        near = (f"{n.unit} {number(n.cosine)}" for n in record.neighbours[:SHOWN_NEIGHBOURS])
        yield "writes most like (cosine)", ", ".join(near)


def _line(results: RunResults, unit: UnitResult, explainer: str) -> Line:
    outcome = outcome_of(unit, explainer)
    score: Score | None = unit.scores.get(explainer)
    explanation = unit.explanations.get(explainer)
    is_baseline = explainer in results.baseline_explainers
    return Line(
        explainer=explainer,
        is_baseline=is_baseline,
        text=_explanation_text(explanation, is_table=is_baseline),
        status=outcome.status,
        value=outcome.value,
        interval=score.interval if score and outcome.status is Status.OK else None,
        lift=outcome.lift,
        lift_interval=score.lift_interval if score and outcome.is_scored else None,
        control_mean=score.control_mean if score and outcome.is_scored else None,
        sentence=explain_score(unit, explainer, results.baseline_explainers),
    )


def _explanation_text(explanation: Explanation | None, *, is_table: bool) -> str:
    if explanation is None or explanation.text is None:
        return ""
    return _table_text(explanation.text) if is_table else _cut(explanation.text)


def _table_text(text: str) -> str:
    """A look-up table in words; the text itself where it is none."""
    try:
        table = json.loads(text)
        means = sorted(table["token_means"].items(), key=lambda row: -float(row[1]))
        default = float(table["default"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return _cut(text)
    shown = ", ".join(
        f"“{_cut(str(token), 24)}” {number(float(mean))}" for token, mean in means[:LOOKUP_TOKENS]
    )
    more = f", … {plural(len(means), 'token')}" if len(means) > LOOKUP_TOKENS else ""
    return f"{shown}{more}; any other {number(default)}"


def _examples(
    results: RunResults, unit: UnitResult, featured: str, scale: LevelScale | None
) -> Iterator[Example]:
    simulations = unit.simulations.get(featured, ())
    windows = unit.scored_windows
    maximum = unit.record.explain_maximum()
    for place in _shown_windows(windows):
        if windows[place].kind != "token":
            continue
        simulation = simulations[place] if len(simulations) == len(windows) else None
        cells = cells_of(results, windows[place], simulation, maximum, scale)
        yield _example(results, windows[place], tuple(cells))


def _shown_windows(windows: Sequence[ActivationRecord]) -> list[int]:
    """Places of the windows shown: active ones from the top down, and a silent one last."""
    active = [i for i, window in enumerate(windows) if Strata.is_active(window.stratum)]
    silent = [i for i in range(len(windows)) if i not in active]
    n_silent = min(1, len(silent))
    n_active = min(len(active), EXAMPLES_PER_UNIT - n_silent)
    if n_active < 2:
        return [*active[:n_active], *silent[:n_silent]]
    steps = [round(i * (len(active) - 1) / (n_active - 1)) for i in range(n_active)]
    return [*(active[step] for step in steps), *silent[:n_silent]]


def _example(results: RunResults, window: ActivationRecord, cells: tuple[Cell, ...]) -> Example:
    facts = results.sequence_texts.get(window.window.sequence_id, {})
    strongest = max(cells, key=lambda cell: cell.true, default=None)
    text = "".join(cell.text for cell in cells)
    top = [cell for cell in sorted(cells, key=lambda cell: -cell.true)[:3] if cell.true > 0]
    spoken = "; ".join(f"{cell.text.strip()}: {cell.title}" for cell in top)
    return Example(
        stratum=stratum_text(window.stratum),
        document=_cut(facts.get("document_name", "") or window.document_id, 60),
        direction=direction(text),
        cells=cells,
        label=f"{_cut(text, 200)} Strongest tokens: {spoken or 'none is active'}.",
        maximum=window.maximum,
        level_there=strongest.level if strongest and strongest.true > 0 else None,
    )


def stratum_text(stratum: str) -> str:
    """A stratum in words."""
    if stratum.startswith("interval_"):
        place = int(stratum.removeprefix("interval_"))
        return f"{10 * place - 10}–{10 * place} % of maximum"
    return {
        Strata.TOP: "top",
        Strata.HARD: "silent here, active elsewhere in the sequence",
        Strata.SILENT: "silent",
        Strata.RANDOM: "random",
    }.get(stratum, stratum)


# ------------------------------------------------------------------ tables


@dataclass(frozen=True)
class Forest:
    """Places of intervals on one common scale, for small drawings in tables."""

    low: float
    high: float
    width: int = 150

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        inside = min(max(value, self.low), self.high)
        return round(4 + (self.width - 8) * (inside - self.low) / (self.high - self.low), 1)


def _forest_of(summary: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]) -> Forest:
    ends = [-0.05, 0.3]
    for source in summary["sources"].values():
        for group in source["explainers"].values():
            found = group["lift"]["excluded"] if group["lift"] else {"mean": None, "interval": None}
            ends += _ends(found["mean"], found["interval"])
    for comparison in comparisons:
        found = comparison["excluded"]
        ends += _ends(found["difference"], found["interval"])
    return Forest(max(-2.0, min(ends)), min(2.0, max(ends)))


def _other_scorers(
    summary: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Every scorer but the headline's: its facts, a scale for its lifts, its comparisons."""
    for name, found in summary["scorers"].items():
        if name != summary["scorer"]:
            own = [c for c in comparisons if c["scorer"] == name]
            yield {
                "name": name,
                "found": found,
                "forest": _forest_of(found, own),
                "comparisons": _ordered(own, found["best_explainer"]),
            }


def _ends(point: float | None, interval: Mapping[str, Any] | None) -> list[float]:
    ends = [] if point is None else [point]
    return ends if interval is None else [*ends, interval["low"], interval["high"]]


def _ordered(
    comparisons: Sequence[Mapping[str, Any]], featured: str | None
) -> list[Mapping[str, Any]]:
    """The explainer shown in full first, baselines last."""
    return sorted(comparisons, key=lambda c: (c["explainer"] != featured, c["is_baseline"]))


def _occurs(summary: Mapping[str, Any], status: Status) -> bool:
    return status is Status.OK or any(
        group["counts"]["by_status"][str(status)]
        for source in summary["sources"].values()
        for group in source["explainers"].values()
    )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as (dotted path, value) rows."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, _cut(value if isinstance(value, str) else json.dumps(value, default=str))


# ------------------------------------------------------------------ texts


def _finalised(value: Any) -> Any:
    """Every text that enters the page: control and direction characters are written out."""
    return plain(value) if type(value) is str else value


def _cut(text: str, limit: int = MAX_TEXT) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
