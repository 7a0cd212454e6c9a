"""API keys: read from the environment, handed to the SDK, and kept out of everything else.

A key is never an option, so it is in no config and no provenance. What a server says may repeat a
key, and so may an exception: such text passes `scrub` before it goes anywhere.
"""

import logging
import os
import re
from collections.abc import Mapping
from typing import Any, Protocol

from autointerp.llm.options import ClientOptions
from autointerp.records import UsageError

_DEFAULT_NAMES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
_BASE_URL_NAMES = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}

_SHORTEST = 6
"""A shorter value is no secret: hiding it would hole ordinary text."""

_secrets: set[str] = set()

_NO_KEY = "no-key"
"""What servers that ask for none are sent; the SDKs insist on something."""


def by_vendor(provider: str, options: ClientOptions) -> bool:
    """Whether requests go to the vendor's own address."""
    return options.base_url is None and not os.environ.get(_BASE_URL_NAMES[provider])


def api_key(provider: str, options: ClientOptions) -> str:
    """The key to send.

    The vendor's key is never sent to another address unless the config names its variable.

    Raises:
        UsageError: where the variable is not set, or holds what cannot be sent.
    """
    name = options.api_key_env
    if name is None:
        if options.base_url is not None:
            return _NO_KEY
        name = _DEFAULT_NAMES[provider]
    value = os.environ.get(name, "").strip()
    if not value:
        raise UsageError(
            f"{provider}/… needs a key: set the environment variable {name}"
            + ("" if options.api_key_env else ", or name another with llm.api_key_env")
        )
    if not (value.isascii() and value.isprintable()):
        raise UsageError(f"the environment variable {name} holds no API key: it has odd characters")
    if len(value) >= _SHORTEST:
        _secrets.add(value)
        _hide_in_logs()
    return value


class _Written(Protocol):
    """What of the options is written into a run's folder and could hide a key."""

    @property
    def base_url(self) -> str | None: ...
    @property
    def api_key_env(self) -> str | None: ...
    @property
    def extra_body(self) -> Mapping[str, Any]: ...


def check_options(options: _Written) -> None:
    """Refuse secrets where they would be written down.

    Raises:
        UsageError: where the address or the extra body carries what looks like a key.
    """
    url = options.base_url or ""
    if re.match(r"\w+://[^/]*@", url) or "?" in url:
        raise UsageError(
            "llm.base_url carries a user, a password or a query: an address is written into the "
            "run's folder. Put the key into an environment variable and name it with "
            "llm.api_key_env"
        )
    if url and not re.match(r"https?://[^/]+", url):
        raise UsageError(f"llm.base_url is {url!r}: write http://HOST:PORT/v1 or https://HOST/v1")
    env = options.api_key_env
    if env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", env):
        raise UsageError(
            "llm.api_key_env is no name of an environment variable: it names the variable that "
            "holds the key, never the key itself"
        )
    for field in options.extra_body:
        if re.search(r"api[-_]?key|authorization|secret|password|(^|_)token$", field, re.I):
            raise UsageError(
                f"llm.extra_body.{field} looks like a key: keys come from the environment only"
            )


def scrub(text: str) -> str:
    """The text with every known key replaced."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, "[key]")
    return text


def scrub_value(value: Any) -> Any:
    """A value with every known key in its texts replaced."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {scrub_value(key): scrub_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(scrub_value(item) for item in value)
    return value


class _Scrubber(logging.Filter):
    """Replaces keys in the messages of libraries that log what they send."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = scrub(message)
        if clean != message:
            record.msg, record.args = clean, None
        return True


def _hide_in_logs() -> None:
    """Scrub what the SDKs and the libraries under them log.

    A filter on a logger does not see what its children log, so all of them get one.
    """
    roots = ("openai", "anthropic", "httpx2", "httpcore2", "autointerp")
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in roots]
    for name in {*roots, *names}:
        logger = logging.getLogger(name)
        if not any(isinstance(one, _Scrubber) for one in logger.filters):
            logger.addFilter(_Scrubber())
