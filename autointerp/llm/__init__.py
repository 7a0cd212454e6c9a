"""Language models that answer: one client protocol, the cache, the driver of generators."""

from typing import TYPE_CHECKING

from autointerp.llm.base import (
    Capabilities,
    HostedLlmClient,
    LlmClient,
    Message,
    Request,
    Response,
    ResponseStatus,
    TokenLogprobs,
    Usage,
    check_capabilities,
    request_key,
)
from autointerp.llm.cache import ResponseCache
from autointerp.llm.cached import CachedClient
from autointerp.llm.driver import drive, drive_async
from autointerp.llm.options import ClientOptions
from autointerp.records import AutointerpError

if TYPE_CHECKING:
    from autointerp.subject import Subject

__all__ = [
    "CachedClient",
    "Capabilities",
    "ClientOptions",
    "HostedLlmClient",
    "LlmClient",
    "Message",
    "Request",
    "Response",
    "ResponseCache",
    "ResponseStatus",
    "TokenLogprobs",
    "Usage",
    "check_capabilities",
    "drive",
    "drive_async",
    "load_client",
    "request_key",
]


def load_client(
    name: str, options: ClientOptions | None = None, *, subject: "Subject | None" = None
) -> LlmClient:
    """Make a client by name.

    Args:
        name: `local/smollm2` (the embedded model), `local/FOLDER` (a folder in Hugging Face
            layout), `openai/MODEL` (OpenAI, or any server that speaks its protocol, at
            `options.base_url`) or `anthropic/MODEL`. What follows the first slash is the model,
            further slashes included.
        options: how a hosted model is reached.
        subject: a local model that is loaded already; used where it is the one that is named.

    Raises:
        AutointerpError: for an unknown provider, a missing key, or where the model cannot be
            loaded.
    """
    provider, _, model = name.partition("/")
    if provider == "openai" and model:
        from autointerp.llm.openai import OpenAiClient

        return OpenAiClient(model, options)
    if provider == "anthropic" and model:
        from autointerp.llm.anthropic import AnthropicClient

        return AnthropicClient(model, options)
    if provider != "local" or not model:
        raise AutointerpError(
            f"there is no language model called {name!r}: write local/smollm2 for the embedded "
            "model, local/FOLDER for a folder in Hugging Face layout, openai/MODEL (with "
            "llm.base_url for other servers that speak its protocol) or anthropic/MODEL"
        )
    from autointerp.llm.local import LocalClient  # late: it imports torch
    from autointerp.subject import load_subject

    return LocalClient(subject if subject and subject.name == model else load_subject(model))
