"""Writes docs/config.md from the config models: `python -m autointerp.config_docs`."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from autointerp.config import (
    AttentionHeadsConfig,
    BatchConfig,
    BudgetConfig,
    CascadeConfig,
    CorpusConfig,
    DesignConfig,
    DirectionsConfig,
    ExplainerConfig,
    LlmConfig,
    MixPartConfig,
    NeuronsConfig,
    QuotaConfig,
    RecordConfig,
    RecordedConfig,
    RunConfig,
    SaeConfig,
    SaeDictionaryConfig,
    SaeTrainConfig,
    ScoreConfig,
    ScorerConfig,
    SimulatorConfig,
    SimulatorTrainConfig,
    SparsifyConfig,
    StopConfig,
    SubjectConfig,
    UnitsConfig,
)

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("A run", RunConfig),
    ("`subjects.NAME`", SubjectConfig),
    ("`corpus`", CorpusConfig),
    ("an entry of `corpus.mix`", MixPartConfig),
    ("`sources.NAME` with `type: neurons`", NeuronsConfig),
    ("`sources.NAME` with `type: sae`", SaeConfig),
    ("`sources.NAME` with `type: directions`", DirectionsConfig),
    ("`sparsify` of neurons and directions", SparsifyConfig),
    ("`sources.NAME` with `type: attention_heads`", AttentionHeadsConfig),
    ("`sources.NAME` with `type: recorded`", RecordedConfig),
    ("`record`", RecordConfig),
    ("`record.design`", DesignConfig),
    ("`record.design.quotas.SPLIT`", QuotaConfig),
    ("`units`", UnitsConfig),
    ("`llm`", LlmConfig),
    ("`llm.batch`", BatchConfig),
    ("`budget`", BudgetConfig),
    ("`explainers`, each", ExplainerConfig),
    ("`simulator`", SimulatorConfig),
    ("`score`", ScoreConfig),
    ("`score.stop`", StopConfig),
    ("`scorers`, each", ScorerConfig),
    ("`cascade`", CascadeConfig),
    ("`autointerp sae train`", SaeTrainConfig),
    ("`autointerp simulator train`", SimulatorTrainConfig),
    ("`dictionaries.NAME` of `autointerp sae train`", SaeDictionaryConfig),
)


def render() -> str:
    """The page: a table of keys, types, defaults and meanings per stage."""
    parts = [
        "# Every key of a config",
        "",
        "Made from the config models by `python -m autointerp.config_docs`. Unknown keys, wrong",
        "types and impossible values are refused with the key's path.",
    ]
    for title, model in _SECTIONS:
        parts += ["", f"## {title}", "", (model.__doc__ or "").strip(), ""]
        parts += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            meaning = " ".join((field.description or "").split())
            cells = (f"`{name}`", _type(field.annotation), _default(field), meaning)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


def _type(annotation: Any) -> str:
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(members[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in members)
    if origin in (Union, UnionType):
        return " or ".join("null" if m is NoneType else _type(m) for m in members)
    if origin is list:
        return f"list of {_type(members[0])}"
    if origin is dict:
        return f"{_type(members[0])}: {_type(members[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}.get(
        annotation, str(annotation)
    )


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else "–"
    if isinstance(field.default, BaseModel):
        return "its defaults"
    return "null" if field.default is None else f"`{field.default}`"


if __name__ == "__main__":
    print(render(), end="")
