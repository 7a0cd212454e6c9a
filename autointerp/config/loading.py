"""Reads a YAML file into a config model; says what is wrong in the file's own words."""

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeGuard, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from autointerp.names import did_you_mean, meant
from autointerp.records import UsageError

T = TypeVar("T", bound=BaseModel)
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80

_OF_UNION = re.compile(r"bool|str|int|float|(list|dict|literal)\[.*")
"""What pydantic adds to a location for a member of a union that is no model."""

_EXPECTED = {
    "int_parsing": "should be a whole number in digits, such as 200000 or 200_000",
    "dict_type": "should be a section: names, and under each its own keys",
}
"""What is said instead of pydantic's words, by the type of the problem."""


class _Loader(yaml.SafeLoader):
    """A key that is given twice is a problem: YAML would take the last one without a word."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                said = f"the key {name!r} is given twice: keep one"
                raise yaml.MarkedYAMLError(problem=said, problem_mark=key.start_mark)
            if name is not None:
                seen.add(name)
        return node


def load_config(path: str | Path, model: type[T], changes: Mapping[str, Any] | None = None) -> T:
    """Read a YAML file into a config.

    Args:
        path: of the file.
        model: what it must follow.
        changes: keys of the top level that take the place of the file's.

    Raises:
        UsageError: naming the file, the key's path, the value and what is allowed.
    """
    place = Path(path).expanduser()
    try:
        # A safe loader: tags that would make objects are refused.
        data = yaml.load(place.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        hint = ""
        if (place / "config.yaml").is_file():
            hint = f"; it is a run's folder, whose config is {str(place / 'config.yaml')!r}"
        raise UsageError(f"config {str(path)!r} cannot be read: {error.strerror}{hint}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: text that is not UTF-8, a date such as 2024-13-45, an endless number.
        raise UsageError(f"config {str(path)!r} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"config {str(path)!r} holds no keys: see the example in the README")
    return parse_config(data | dict(changes or {}), model, str(path), folder=place.parent)


def parse_config(
    data: dict[str, Any], model: type[T], origin: str, *, folder: Path | None = None
) -> T:
    """Check a mapping against a config model; errors as in `load_config`.

    Args:
        folder: where relative paths are looked for before the working folder.
    """
    try:
        return model.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        problems = _problems([dict(detail) for detail in error.errors()], model)
        raise UsageError(f"{origin}:\n" + "\n".join(f"  {line}" for line in problems)) from None


def _problems(details: list[dict[str, Any]], model: type[BaseModel]) -> list[str]:
    """A line for each; a missing key that was mistyped is told of once, where it was."""
    found = [(detail, *_follow(model, detail["loc"])) for detail in details]
    mistyped = [
        [*path[:-1], meant(path[-1], _keys(current))]
        for detail, path, current in found
        if detail["type"] == "extra_forbidden"
    ]
    return [
        _problem(detail, path, current)
        for detail, path, current in found
        if not (detail["type"] == "missing" and path in mistyped)
    ]


def _keys(annotation: Any) -> list[str]:
    return sorted(annotation.model_fields) if _is_model(annotation) else []


def _problem(detail: dict[str, Any], path: list[str], current: Any) -> str:
    where = ".".join(path) or "(the whole file)"
    if detail["type"] == "extra_forbidden":
        known = _keys(current)
        return f"{where}: unknown key{did_you_mean(path[-1], known)} Known here: {', '.join(known)}"
    if detail["type"] in ("union_tag_not_found", "union_tag_invalid"):
        tags = [str(tag) for option in _options(current) for tag in _tags(option)]
        if detail["type"] == "union_tag_not_found":
            return f"{where}.type: missing; one of {', '.join(tags)}"
        tag = str(detail["ctx"]["tag"])
        said = f"{_SHORT.repr(tag)} is no type{did_you_mean(tag, tags)}"
        return f"{where}.type: {said} Known here: {', '.join(tags)}"
    if detail["type"] == "missing":
        return f"{where}: missing, and needed"
    message = _EXPECTED.get(detail["type"], str(detail["msg"]).removeprefix("Value error, "))
    if detail["type"] == "model_type" and _is_model(current):
        message = f"should be a section with keys of its own ({', '.join(current.model_fields)})"
    if detail["type"] == "string_pattern_mismatch":
        message += ": a letter, then letters, digits, `_`, `.` or `-`"
    if detail["type"] == "value_error":
        return f"{where}: {message}"
    # Not `repr`: a few aliases can stand for more text than memory holds.
    return f"{where}: {message}; found {_SHORT.repr(detail['input'])}"


def _follow(model: type[BaseModel], loc: tuple[Any, ...]) -> tuple[list[str], Any]:
    """The keys of a location as the file writes them, and the annotation at the last known one.

    pydantic adds the `type` of a chosen option to the location; the file does not.
    """
    path: list[str] = []
    current: Any = model
    for part in loc:
        options = _options(current)
        chosen = [option for option in options if part in _tags(option)]
        if chosen and len(options) > 1:
            current = chosen[0]
            continue
        if len(options) > 1 and _OF_UNION.fullmatch(str(part)):
            continue
        path.append(str(part))
        steps = (_step_into(option, part) for option in options)
        current = next((step for step in steps if step is not None), current)
    models = [option for option in _options(current) if _is_model(option)]
    return path, models[0] if len(models) == 1 else current


def _step_into(annotation: Any, part: Any) -> Any:
    """The annotation of a model's field, or of the items of a dict or list; else `None`."""
    if _is_model(annotation):
        found = annotation.model_fields.get(str(part))
        return found.annotation if found else None
    if get_origin(annotation) in (dict, list):
        return get_args(annotation)[-1]
    return None


def _options(annotation: Any) -> list[Any]:
    """The members of a union, also within `Annotated`; anything else alone."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [option for member in get_args(annotation) for option in _options(member)]
    return [annotation]


def _tags(option: Any) -> tuple[Any, ...]:
    """The values of `type` that choose a model in a union."""
    field = option.model_fields.get("type") if _is_model(option) else None
    return get_args(field.annotation) if field else ()


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
