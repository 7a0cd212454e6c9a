"""Config of the language model that explains and judges, and of what it may cost."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import Stage
from autointerp.records import UsageError


class BatchConfig(Stage):
    """How batches are sent and waited for (`llm.mode: batch`)."""

    poll_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two looks at a batch."""
    min_requests: int = Field(default=10, ge=1)
    """Fewer requests are asked live."""
    max_requests: int | None = Field(default=None, ge=1)
    """Most requests in a batch; the provider's limit if left out."""


class LlmConfig(Stage):
    """The explainer's language model."""

    model: str = "local/smollm2"
    """`local/smollm2`, `local/FOLDER`, `openai/MODEL` or `anthropic/MODEL`; see docs/llm.md.
    `device` and `dtype` are for models on this machine, the other keys but `cache` and `prices`
    for hosted ones."""
    device: str = "auto"
    """Where a `local/…` model runs: `auto`, `cpu`, `cuda:N` or `mps`. With `auto` for both, a
    subject that is the same model is shared."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of a `local/…` model: `auto` is bfloat16 on CUDA and float32 elsewhere."""
    base_url: str | None = None
    """Another server that speaks the vendor's protocol: `http://HOST:PORT/v1` for `openai/…`."""
    server: str | None = None
    """A word for what stands behind `base_url`; with it, a server that moved to another address
    keeps its answers."""
    api_key_env: str | None = None
    """Environment variable that holds the key. Left out: `OPENAI_API_KEY` or `ANTHROPIC_API_KEY`
    for the vendor's own address, no key for any other."""
    max_concurrency: int = Field(default=16, ge=1, le=1024)
    """Most requests in flight."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Your account's limit; none if left out."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Your account's limit, prompts and answers together; none if left out."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for one attempt, from the first byte sent to the last received."""
    max_attempts: int = Field(default=8, ge=1)
    """Attempts at a request that fails while others are answered."""
    retry_wait: float = Field(default=1.0, ge=0)
    """Seconds after a first failure; random, up to twice as long after each further one, at most a
    minute. What the provider asks for comes before it."""
    give_up_after: float = Field(default=1800.0, ge=0)
    """Seconds of nothing but errors after which the run stops, to be gone on with later."""
    answer_format: Literal["auto", "schema", "tool", "prompt"] = "auto"
    """How answers are made to follow a JSON schema: by the server's constrained decoding, a forced
    tool call, or words. `auto` is what the model is known to do, words for unknown ones."""
    reasoning_effort: str | None = None
    """Passed on if set: `low`, `medium`, …"""
    extra_body: dict[str, Any] = {}
    """Further fields of every request, as the server knows them."""
    capabilities: dict[str, Any] = {}
    """What a model can do that the table does not know: `logprobs: 20`, `json_schema: true`,
    `prompt_logprobs: true`, `stop: false`, `temperature: false`, `max_context: 8192`."""
    cache: str = "shared"
    """Answers that were paid for: `shared` by all runs in the folder above the run's, `off`,
    `read_only`, or the path of a file."""
    mode: Literal["live", "batch"] = "live"
    """`batch` asks through the provider's batch API: usually half the price, an answer within a
    day; what a batch did not answer is asked live."""
    batch: BatchConfig = BatchConfig()
    prices: str | None = None
    """A file of prices that come before the shipped ones; its form is that of
    `autointerp/llm/prices.yaml`."""

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        from autointerp.llm.keys import check_options

        try:
            check_options(self)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self


class BudgetConfig(Stage):
    """What a run may spend, over all its invocations; it stops before it would spend more."""

    usd: float | None = Field(default=None, ge=0)
    """US dollars, at the prices of `llm.prices`."""
    tokens: int | None = Field(default=None, ge=0)
    """Tokens of all language models, prompts and answers together."""
