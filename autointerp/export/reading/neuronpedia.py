"""Neuronpedia's rows (features, activations, explanations) and SAEDashboard's batches."""

from collections.abc import Iterator
from typing import Any

from autointerp.export.reading.found import (
    Found,
    FoundExplanation,
    RefusedError,
    explainer_of,
    objects_of,
    text_of,
    unit_of,
    window_of,
    windows_of,
)


def is_row(value: dict[str, Any]) -> bool:
    """Whether it is a row of a bulk export, or a feature of the web interface."""
    return "modelId" in value and ("layer" in value or "source" in value)


def row(value: dict[str, Any]) -> Iterator[Found | RefusedError]:
    """What a row holds: an explanation, an activation, or a feature with lists of both.

    A feature row of a bulk export has neither and gives nothing.
    """
    if isinstance(value.get("features"), list):
        for number, feature in enumerate(value["features"]):
            if not isinstance(feature, dict):
                yield RefusedError(f"feature {number}: not an object")
                continue
            own = {"modelId": value["modelId"], "layer": _layer(value)}
            yield from _within(f"feature {number}: ", feature | own)
        return
    unit = unit_of(_layer(value), value.get("index"))
    if "description" in value:
        name = explainer_of(value.get("typeName"), value.get("explanationModelName"))
        yield FoundExplanation(unit, name, text_of(value["description"]))
    if "tokens" in value:
        yield window_of(unit, value["tokens"], value.get("values"))
    context = {"modelId": value["modelId"], "layer": _layer(value), "index": value.get("index")}
    for name in ("explanations", "activations"):
        for number, inner in enumerate(objects_of(value, name)):
            if not isinstance(inner, dict):
                yield RefusedError(f"{name} {number}: not an object")
                continue
            yield from _within(f"{name} {number}: ", _renamed(inner) | context)


def _renamed(inner: dict[str, Any]) -> dict[str, Any]:
    """The fields of an upload body under the names of the bulk rows."""
    old = {"text": "description", "methodName": "typeName", "modelName": "explanationModelName"}
    return {old.get(name, name): value for name, value in inner.items()
            if name not in ("explanations", "activations", "features")}  # fmt: skip


def _within(where: str, value: dict[str, Any]) -> Iterator[Found | RefusedError]:
    try:
        for found in row({k: v for k, v in value.items() if k != "features"}):
            yield RefusedError(f"{where}{found}") if isinstance(found, RefusedError) else found
    except RefusedError as error:
        yield RefusedError(f"{where}{error}")


def _layer(value: dict[str, Any]) -> str:
    layer = value.get("layer", value.get("source"))
    if isinstance(layer, bool) or not isinstance(layer, str | int):
        raise RefusedError("`layer` is no name of a source")
    return str(layer)


def is_batch(value: dict[str, Any]) -> bool:
    """Whether it is a batch of SAEDashboard."""
    return "sae_set" in value and isinstance(value.get("features"), list)


def batch(value: dict[str, Any]) -> Iterator[Found | RefusedError]:
    """All windows of all features; the same window of a feature is given once."""
    source = f"{value.get('layer', '')}-{value.get('sae_set')}"
    if value.get("sae_id_suffix"):
        source += f"__{value['sae_id_suffix']}"
    for number, feature in enumerate(value["features"]):
        try:
            if not isinstance(feature, dict):
                raise RefusedError("not an object")
            unit = unit_of(source, feature.get("feature_index"))
            activations = objects_of(feature, "activations")
        except RefusedError as error:
            yield RefusedError(f"feature {number}: {error}")
            continue
        yield from windows_of(unit, activations, "values", f"feature {number}, activation")
