"""What hosted models can do: a table by name, which the config may correct.

Nothing is found out by trying: a model that is not in the table has what every server has, and
`llm.capabilities` in the config declares the rest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from autointerp.llm.base import Capabilities, LlmClient
from autointerp.records import UsageError

_CHAT = Capabilities(logprobs=20, json_schema=True, max_context=128_000)
_REASONING = Capabilities(json_schema=True, stop=False, temperature=False)
_CLAUDE = Capabilities(json_schema=True, max_context=200_000)

_TABLE: tuple[tuple[str, Capabilities], ...] = (
    # OpenAI: models that reason take no temperature, no stop strings, and give no logprobs.
    (r"openai/gpt-4\.1(-.*)?", replace(_CHAT, max_context=1_000_000)),
    (r"openai/(gpt-4o(-mini)?|chatgpt-4o)(-(latest|\d.*))?", _CHAT),
    (r"openai/gpt-4-(turbo|0125|1106).*", replace(_CHAT, json_schema=False)),
    (r"openai/gpt-4(-0\d+)?", replace(_CHAT, json_schema=False, max_context=8_192)),
    (r"openai/gpt-3\.5-turbo.*", replace(_CHAT, json_schema=False, max_context=16_385)),
    (r"openai/gpt-5.*-chat-latest", replace(_REASONING, max_context=128_000)),
    (r"openai/gpt-[5-9].*", replace(_REASONING, max_context=400_000)),
    (r"openai/o[134](-mini|-pro)?(-\d.*)?", replace(_REASONING, max_context=200_000)),
    # Anthropic: no log-probabilities at all; later models choose their own temperature.
    (r"anthropic/claude-(haiku|sonnet|opus)-4-[1-6](-\d{8})?", _CLAUDE),
    (r"anthropic/claude-.*", replace(_CLAUDE, temperature=False)),
)

WITH_LOGPROBS = "local/…, openai/gpt-4.1, openai/gpt-4o, or a server of your own (vLLM, llama.cpp)"
"""Alternatives named where a model has no log-probabilities."""

WITH_PROMPT_LOGPROBS = "local/…, or a server of your own with completions and echo (vLLM)"
"""Alternatives named where a model has no log-probabilities of prompts."""


@dataclass(frozen=True)
class Needs:
    """What an explainer or scorer asks of its language model."""

    logprobs: int = 0
    """Alternatives per answer token."""

    prompt_logprobs: bool = False
    json_schema: bool = False


def check_needs(who: str, needs: Needs, client: LlmClient) -> None:
    """Refuse a model that cannot do what is needed of it, before a run starts.

    Raises:
        UsageError: naming who needs what, and which models have it.
    """
    able = client.capabilities
    if needs.logprobs > able.logprobs:
        lacks = f"{needs.logprobs} log-probabilities per answer token; {client.name} gives " + (
            f"at most {able.logprobs}" if able.logprobs else "none"
        )
        instead = f"{WITH_LOGPROBS}, and declare llm.capabilities.logprobs if it can after all"
    elif needs.prompt_logprobs and not able.prompt_logprobs:
        lacks = f"the log-probabilities of a prompt's own tokens; {client.name} gives none"
        instead = f"{WITH_PROMPT_LOGPROBS} with llm.capabilities.prompt_logprobs: true"
    elif needs.json_schema and not able.json_schema:
        lacks = f"answers that follow a JSON schema; {client.name} cannot be made to"
        instead = "any openai/… or anthropic/… model"
    else:
        return
    raise UsageError(f"{who} needs {lacks}: take {instead}, or leave {who} out")


@dataclass(frozen=True)
class Known:
    """A model's capabilities and whether the table knows the model."""

    capabilities: Capabilities
    in_table: bool


@lru_cache(maxsize=256)
def _in_table(name: str) -> Capabilities | None:
    return next((able for pattern, able in _TABLE if re.fullmatch(pattern, name)), None)


def capabilities_of(name: str, declared: Mapping[str, Any]) -> Known:
    """What a hosted model can do.

    Args:
        name: as in configs, `openai/gpt-4o`.
        declared: fields of `Capabilities` that correct the table.

    Raises:
        UsageError: where `declared` has a field that does not exist, or a value of another type.
    """
    found = _in_table(name)
    # Any server can be asked for JSON in words; the answer is checked, and asked for once more.
    base = found or Capabilities(json_schema=True)
    if not declared:
        return Known(base, found is not None)
    names = {field.name: field.type for field in fields(Capabilities)}
    for field_name, value in declared.items():
        if field_name not in names:
            raise UsageError(
                f"llm.capabilities.{field_name}: there is no such capability; known are "
                f"{', '.join(names)}"
            )
        expected = int if field_name in ("logprobs", "max_context") else bool
        if type(value) is not expected:
            wanted = "a number" if expected is int else "true or false"
            raise UsageError(f"llm.capabilities.{field_name} must be {wanted}, not {value!r}")
    return Known(replace(base, **declared), found is not None)
