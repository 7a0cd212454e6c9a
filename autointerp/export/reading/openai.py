"""OpenAI's NeuronRecord and NeuronSimulationResults (Bills et al. 2023, and its later names)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from autointerp.export.reading.found import (
    Found,
    FoundExplanation,
    FoundWindow,
    RefusedError,
    numbers_of,
    objects_of,
    text_of,
    unit_of,
    windows_of,
)
from autointerp.names import as_name
from autointerp.records import UnitId

_WINDOWS = ("most_positive_activation_records", "random_sample")
_FOLDERS = ("neurons", "explanations")
NEGATIVE = "__negative"
"""What the export adds to a source's folder for the negative side of its units."""

_SCORES = ("ev_correlation_score", "rsquared_score", "absolute_dev_explained_score")


def is_record(value: dict[str, Any]) -> bool:
    """Whether it is a NeuronRecord."""
    return ("neuron_id" in value or "unit" in value) and any(name in value for name in _WINDOWS)


def is_results(value: dict[str, Any]) -> bool:
    """Whether it is a NeuronSimulationResults."""
    return "scored_explanations" in value or "scored_explanation_or_baseline_list" in value


def windows(value: dict[str, Any]) -> Iterator[Found | RefusedError]:
    """All windows of a record; the same window is given once."""
    unit = _unit(value)
    records = [r for name in _WINDOWS for r in objects_of(value, name)]
    for quantile in objects_of(value, "random_sample_by_quantile"):
        if not isinstance(quantile, list):
            raise RefusedError("`random_sample_by_quantile` is not a list of lists")
        records += quantile
    yield from windows_of(unit, records, "activations", "activation record")


def explanations(value: dict[str, Any]) -> Iterator[Found | RefusedError]:
    """All explanations of a unit, with the scores that were published."""
    unit = _unit(value)
    name = next(n for n in ("scored_explanations", "scored_explanation_or_baseline_list")
                if n in value)  # fmt: skip
    for number, scored in enumerate(objects_of(value, name)):
        try:
            if not isinstance(scored, dict):
                raise RefusedError("not an object")
            text = text_of(scored.get("explanation", scored.get("explanation_or_baseline")))
        except RefusedError as error:
            yield RefusedError(f"explanation {number}: {error}")
            continue
        scores = scored.get("scored_simulation")
        published = numbers_of(scores, *_SCORES) if isinstance(scores, dict) else {}
        yield FoundExplanation(unit, "openai", text, published)


def source_of(path: Path) -> tuple[str, int] | None:
    """The source and polarity that a file of our own export is of, told by its place.

    SOURCE/neurons/LAYER/INDEX.json and SOURCE/explanations/LAYER/INDEX.jsonl; the format itself has
    no word for two sources at one layer. OpenAI's own folders hold several layers: `None`.
    """
    kind = path.resolve().parent.parent
    if kind.name not in _FOLDERS or not _has_one_layer(kind.parent):
        return None
    name = kind.parent.name
    source = name.removesuffix(NEGATIVE)
    return (source, 1 if source == name else -1) if as_name(source) == source else None


def called(source: tuple[str, int], found: Iterator[Found]) -> Iterator[Found]:
    """What was found, as units of a source and polarity."""
    name, polarity = source
    for item in found:
        if isinstance(item, FoundExplanation | FoundWindow):
            item = replace(item, unit=UnitId(name, item.unit.index, polarity))
        yield item


def _has_one_layer(folder: Path) -> bool:
    kinds = [folder / kind for kind in _FOLDERS]
    layers = {child.name for kind in kinds if kind.is_dir() for child in kind.iterdir()}
    return all(kind.is_dir() for kind in kinds) and len(layers) == 1


def _unit(value: dict[str, Any]) -> UnitId:
    name = value.get("neuron_id", value.get("unit"))
    if not isinstance(name, dict):
        raise RefusedError("`neuron_id` is not an object")
    layer = name.get("layer_index", name.get("layer"))
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < 10_000:
        raise RefusedError("`neuron_id` has no layer_index from 0 to 9999")
    return unit_of(f"layer_{layer}", name.get("neuron_index", name.get("idx")))
