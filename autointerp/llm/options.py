"""How a hosted model is reached: what the config's `llm:` says besides the model's name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True)
class ClientOptions:
    """Settings of one hosted model. Local models have none of them."""

    base_url: str | None = None
    """Where the server is; `None` for the vendor's own. With `/v1` for `openai/…`, without for
    `anthropic/…`."""

    server: str | None = None
    """What stands behind `base_url`, in a word. It replaces the address in the keys of answers, so
    that a server that moved to another port is still the same model."""

    api_key_env: str | None = None
    """Environment variable that holds the key. `None`: `OPENAI_API_KEY` or `ANTHROPIC_API_KEY` for
    the vendor's own address, no key for any other."""

    max_concurrency: int = 16
    """Most requests in flight."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Prompt and answer together."""

    timeout: float = 120.0
    """Seconds for one attempt, from the first byte sent to the last received."""

    max_attempts: int = 8
    """Attempts at a request that fails while others succeed."""

    retry_wait: float = 1.0
    """Seconds after the first failure; a random time up to twice as long after each further one,
    at most a minute. A provider's own `Retry-After` goes before it."""

    give_up_after: float = 1800.0
    """Seconds without a single answer, errors only, after which a run stops."""

    answer_format: Literal["auto", "schema", "tool", "prompt"] = "auto"
    """How an answer is made to follow a JSON schema: the server's constrained decoding, a forced
    tool call, or words in the prompt. `auto`: what the model is known to do, else words."""

    reasoning_effort: str | None = None
    """Passed on where it is set."""

    extra_body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of every request's body, as the server knows them."""

    capabilities: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the model can do, where the table does not know it: fields of `Capabilities`."""

    @classmethod
    def of(cls, settings: Any) -> "ClientOptions":
        """The options among the fields of a config."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


DEFAULTS = ClientOptions()
"""The vendor's own address with everything as it comes."""
