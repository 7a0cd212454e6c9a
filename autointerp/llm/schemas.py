"""JSON schemas of answers: how a server is asked to follow one, and whether an answer does."""

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_FENCED = re.compile(r"\A\s*```(?:json|JSON)?[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)


class MalformedAnswerError(ValueError):
    """An answer that does not follow its schema; the message says where, for the model to read."""


def unfenced(text: str) -> str:
    """The text without a code fence around all of it."""
    fenced = _FENCED.match(text)
    return fenced[1] if fenced else text


def parse_answer(text: str, schema: Mapping[str, Any]) -> Any:
    """The value in an answer.

    Strict: the whole answer is one JSON value that follows the schema, with no key twice, no number
    that JSON does not know and no half of a surrogate pair. A code fence around all of it is taken
    off.

    Raises:
        MalformedAnswerError: naming the place and what was expected.
    """
    try:
        value = json.loads(
            unfenced(text),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        _refuse_half_characters(value)
    except json.JSONDecodeError as error:
        raise MalformedAnswerError(
            f"the answer is not JSON: {error.msg} at character {error.pos}"
        ) from None
    except RecursionError:
        raise MalformedAnswerError("the answer is nested too deeply") from None
    errors = _validator(json.dumps(schema, sort_keys=True)).iter_errors(value)
    first = next(iter(errors), None)
    if first is not None:
        place = "".join(f"[{json.dumps(part)}]" for part in first.absolute_path)
        message = first.message if len(first.message) <= 300 else first.message[:300] + "…"
        raise MalformedAnswerError(f"the answer{place} does not follow the schema: {message}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MalformedAnswerError(f"the answer has the key {twice!r} twice")
    return found


def _refuse_half_characters(value: Any) -> None:
    """Half a surrogate pair is no character: no tokenizer could read it, and no file hold it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise MalformedAnswerError("the answer holds half of a surrogate pair") from None


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise MalformedAnswerError(f"the answer holds {digits[:20]}, which is Infinity")
    return value


def _refuse_constant(name: str) -> Any:
    raise MalformedAnswerError(f"the answer holds {name}, which is no JSON number")


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator  # late: half the package needs none

    return Draft202012Validator(json.loads(schema))


def strict_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The schema, and whether it is within what OpenAI's strict mode takes.

    Strict mode wants an object on top, and of every object all properties required and no others.
    """
    plain = dict(schema)
    return plain, plain.get("type") == "object" and _is_strict(plain)


def _is_strict(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(_is_strict(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required", ())) != set(properties):
            return False
    return all(_is_strict(value) for value in schema.values())


def schema_in_words(message: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A message that also asks for JSON, for servers that can be asked in no other way."""
    asked = (
        f"{message['content']}\n\nAnswer with one JSON value and nothing else. It must follow this "
        f"JSON schema:\n{json.dumps(schema, ensure_ascii=False)}"
    )
    return {**message, "content": asked}
