"""What units are grouped by, and what has to be alike for runs to be put together."""

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.analysis.loaded import ExplanationRow, LoadedRun
from autointerp.analysis.token_entropy import bin_of
from autointerp.records import UsageError

KNOWN = (
    "source", "run", "explainer", "layer", "width", "subject", "density", "token_entropy",
)  # fmt: skip
"""What `--by` knows by name; anything else is a key of the sources' config, or of the config."""

_WITHIN = ("explainer", "run", "density", "token_entropy")
"""Groupings that are made inside every source: their groups share sources."""


@dataclass(frozen=True)
class Placed:
    """One row with the groups it belongs to."""

    run: LoadedRun
    row: ExplanationRow
    group: str
    """Label of its group."""

    order: tuple[int, float, str]
    """Where the group stands among the others."""

    within: str
    """What it is compared inside of: a source, like values of `within`, or nothing."""

    @property
    def key(self) -> Hashable:
        """The same for the same unit, recorded in the same way, in any run."""
        return self.run.records_key(self.row.source), self.row.index, self.row.polarity


def placed_rows(
    runs: Sequence[LoadedRun],
    by: str,
    *,
    within: str | None = None,
    sources: Sequence[str] = (),
    explainers: Sequence[str] = (),
) -> tuple[list[Placed], list[str]]:
    """Every row with its group, and what has to be said about those that have none.

    Where several runs hold the same unit under the same explainer and are not what is compared,
    the first run's row is taken.

    Args:
        runs: finished ones.
        by: what makes the groups.
        within: groups are compared inside of like values of this, such as `density`.
        sources: those taken; all if empty.
        explainers: those taken; all if empty.

    Raises:
        UsageError: where no row has the attribute, or a name is not there.
    """
    _check_names(runs, "source", sources)
    _check_names(runs, "explainer", explainers)
    found: list[Placed] = []
    n_without = n_twice = 0
    seen: set[Hashable] = set()
    for run in runs:
        for row in run.rows:
            if (sources and row.source not in sources) or (
                explainers and row.explainer not in explainers
            ):
                continue
            value = attribute(run, row, by, several=len(runs) > 1)
            inside = attribute(run, row, within) if within else None
            if value is None or (within and inside is None):
                n_without += 1
                continue
            label, order = value
            places = [row.source] if by in _WITHIN else []
            places += [inside[0]] if inside else []
            placed = Placed(run, row, label, order, ", ".join(places))
            identity = (placed.key, row.explainer, run.name if by == "run" else label)
            if identity in seen:
                n_twice += 1
                continue
            seen.add(identity)
            found.append(placed)
    if not found:
        asked = f"--by {by}" + (f" --within {within}" if within else "")
        raise UsageError(
            f"{asked}: no unit has it; there are {', '.join(KNOWN)}, and keys of a source in the "
            f"config such as {', '.join(_keys(runs)[:8]) or 'type'}"
        )
    notes: list[str] = []
    if n_without:
        what = f"{by} or no {within}" if within else by
        notes.append(f"{n_without} rows have no {what} and are left out.")
    if n_twice:
        notes.append(
            f"{n_twice} rows are of units that an earlier run holds under the same explainer; the "
            "earlier run's are used."
        )
    return found, notes


def attribute(
    run: LoadedRun, row: ExplanationRow, by: str, *, several: bool = False
) -> tuple[str, tuple[int, float, str]] | None:
    """Label and order of the group of a row; `None` where it has no such attribute."""
    if by == "explainer":
        return _label(row.explainer)
    if by == "run":
        return _label(run.name)
    if by == "source":
        return _label(f"{run.name}:{row.source}" if several else row.source)
    if by == "density":
        return _decade(row.firing_rate)
    if by == "token_entropy":
        return None if row.token_entropy is None else _entropy(row.token_entropy)
    value = _looked_up(run, row, by)
    return None if value is None else _label(value)


def layer_of(run: LoadedRun, row: ExplanationRow) -> float | None:
    """Block of the subject that a unit is read at; `None` where it is not known."""
    value = _looked_up(run, row, "layer")
    return float(value) if isinstance(value, int | float) else None


def differences(runs: Sequence[LoadedRun]) -> tuple[list[str], list[str]]:
    """What makes runs incomparable, and what else differs between them.

    Returns:
        (differences of design, for which a comparison is refused; others, which are told), each in
        words with the values seen.
    """
    first = runs[0]
    refused: list[str] = []
    told: list[str] = []
    for other in runs[1:]:
        for name, value in _design(first).items():
            seen = _design(other)[name]
            if seen != value:
                refused.append(f"{name} is {value!r} in {first.name} and {seen!r} in {other.name}")
        for name, value in _instruments(first).items():
            seen = _instruments(other)[name]
            if seen != value:
                told.append(f"{name} differs between {first.name} and {other.name}")
        ours, theirs = _scorers(first), _scorers(other)
        told += [
            f"what the scorer {name} asks differs between {first.name} and {other.name}"
            for name in sorted(ours.keys() & theirs.keys())
            if ours[name] != theirs[name]
        ]
    return refused, told


def _design(run: LoadedRun) -> dict[str, Any]:
    """What decides which windows are scored, and against what."""
    record = run.config.get("record") or {}
    design = record.get("design") or {}
    corpus = run.config.get("corpus") or {}
    score = run.config.get("score") or {}
    quotas = design.get("quotas") or {}
    return {
        "record.design.name": design.get("name"),
        "record.design.quotas.test": quotas.get("test"),
        "corpus.window_length": corpus.get("window_length"),
        "score.windows": score.get("windows") or "partition",
        "score.shuffled_donors": score.get("shuffled_donors"),
        "score.min_active_documents": score.get("min_active_documents"),
    }


def _scorers(run: LoadedRun) -> dict[str, dict[str, Any]]:
    """The settings of every scorer that say something, by its name."""
    return {
        str(one.get("name")): {k: v for k, v in one.items() if v is not None}
        for one in run.config.get("scorers") or []
    }


def _instruments(run: LoadedRun) -> dict[str, Any]:
    provenance = run.provenance
    return {
        "the corpus": provenance.get("corpus_key"),
        "who simulates": provenance.get("simulators"),
        "the language model": provenance.get("llm"),
    }


def _looked_up(run: LoadedRun, row: ExplanationRow, name: str) -> Any:
    facts = run.source_facts(row.source)
    config = (run.config.get("sources") or {}).get(row.source) or {}
    if name == "layer" and facts.get("layer") is None:
        return layer_in(str(config.get("hook_point") or ""))
    if name == "subject":
        subjects = run.config.get("subjects") or {}
        return (subjects.get(config.get("subject")) or {}).get("model")
    for place in (facts, config, run.config):
        value = _dotted(place, name)
        if value is not None and not isinstance(value, Mapping | list):
            return value
    return {"polarity": row.polarity, "index": None}.get(name)


def layer_in(hook_point: str) -> int | None:
    """The block that a hook point names: 10 for `blocks.10.mlp.hook_post`."""
    match = re.search(r"(?:^|\.)(?:blocks|layers|h|layer|block)\.(\d+)(?:\.|$|:)", hook_point)
    return int(match[1]) if match else None


def _dotted(place: Mapping[str, Any], name: str) -> Any:
    value: Any = place
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _label(value: Any) -> tuple[str, tuple[int, float, str]]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value), (0, float(value), "")
    return str(value), (1, 0.0, "")


def _decade(rate: float) -> tuple[str, tuple[int, float, str]]:
    if rate <= 0:
        return "no token", (0, -math.inf, "")
    decade = min(-1, math.floor(math.log10(rate)))
    text = f"{10.0 ** (decade + 2):g} % to {10.0 ** (decade + 3):g} % of tokens"
    return text, (0, float(decade), "")


def _entropy(bits: float) -> tuple[str, tuple[int, float, str]]:
    label, low = bin_of(bits)
    return label, (0, low, "")


def _check_names(runs: Sequence[LoadedRun], kind: str, names: Sequence[str]) -> None:
    known = list(dict.fromkeys(str(getattr(row, kind)) for run in runs for row in run.rows))
    for name in names:
        if name not in known:
            raise UsageError(f"there is no {kind} {name!r}; there are {', '.join(known)}")


def _keys(runs: Sequence[LoadedRun]) -> list[str]:
    keys: dict[str, None] = {}
    for run in runs:
        for source in (run.config.get("sources") or {}).values():
            keys |= dict.fromkeys(k for k, v in source.items() if v is not None)
    return list(keys)
