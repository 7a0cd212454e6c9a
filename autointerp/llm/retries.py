"""What went wrong at a provider, and whether asking again can help.

Asked again: time-outs, 408, 409, 429, 5xx, lost connections, replies that cannot be read.
Never: 400, 401, 403, 404 and what else is in the 4xx, an account without money, our own bugs.
"""

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autointerp.llm.keys import scrub
from autointerp.records import AutointerpError

RETRIED = frozenset({408, 409, 429})
"""Statuses below 500 that are asked again."""

_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_LONGEST_REASON = 500
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""Errors of the HTTP library before anything of a request is sent."""


class ProviderDownError(AutointerpError):
    """A provider gave nothing but errors for longer than `give_up_after`."""


class BadReplyError(Exception):
    """A reply with a good status that cannot be read; another may be better."""


@dataclass(frozen=True)
class Problem:
    """Why an attempt failed."""

    kind: Literal["again", "request", "refused", "everything"]
    """Ask again; only this request is at fault; its input was flagged; or no request would do
    better and the user must mend something."""

    reason: str
    """In a sentence, without keys."""

    status: int | None = None
    retry_after: float | None = None
    """Seconds the provider wants to be left alone."""

    busy: bool = False
    """Whether the provider says that it is asked too much."""

    sent: bool = True
    """Whether the request can have reached the provider: where no connection came about, nothing
    is charged."""


class ProviderError(Exception):
    """A problem on its way to whoever handles it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


def problem_of(error: BaseException) -> Problem | None:
    """What is wrong at the provider; `None` for an error of our own, which nobody may hide."""
    if isinstance(error, ProviderError):
        return error.problem
    if isinstance(error, BadReplyError):
        return Problem("again", scrub(str(error)))
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        # The SDKs let these through where a body says that it is JSON and is not.
        return Problem("again", f"the reply cannot be read: {type(error).__name__}")
    if isinstance(error, TimeoutError):
        return Problem("again", "no whole answer within the time-out")
    if type(error).__module__.split(".")[0] not in ("openai", "anthropic"):
        return None
    status = getattr(error, "status_code", None)
    name = type(error).__name__
    if isinstance(status, int) and name != "APIResponseValidationError":
        body = getattr(error, "body", None)
        headers = getattr(getattr(error, "response", None), "headers", None)
        return _problem_of_status(status, body, str(error), headers or {})
    if name == "APITimeoutError":
        sent = type(error.__cause__).__name__ not in _NOT_SENT
        return Problem("again", "no whole answer within the time-out", sent=sent)
    if name == "APIConnectionError":
        cause = error.__cause__
        text = f": {cause}" if cause is not None and str(cause) else ""
        sent = type(cause).__name__ not in _NOT_SENT
        return Problem("again", _short(f"the connection failed{text}"), sent=sent)
    if name in ("APIError", "APIResponseValidationError"):
        return Problem("again", _short(f"the reply cannot be read: {error}"))
    return None


def problem_of_error_body(error: Any) -> None:
    """Raise what a reply with a good status says of an error, as proxies such as OpenRouter do.

    Raises:
        ProviderError: where there is an error.
    """
    if error is None:
        return
    fields: Any = error if isinstance(error, Mapping) else {"message": str(error)}
    code = fields.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    raise ProviderError(_problem_of_status(status, fields, str(fields.get("message", "")), {}))


def _problem_of_status(status: int, body: Any, text: str, headers: Mapping[str, str]) -> Problem:
    fields = _error_fields(body)
    message = fields.get("message")
    reason = _short(f"HTTP {status}: {message if isinstance(message, str) else text}")
    code, kind = str(fields.get("code")), str(fields.get("type"))
    if status == 402 or code in _NO_MONEY or kind in (*_NO_MONEY, "billing_error"):
        return Problem("everything", f"{reason} (the account has no money or quota left)", status)
    if "credit balance is too low" in reason:
        return Problem("everything", reason, status)
    if status in RETRIED or status >= 500:
        busy = status in (429, 503, 529)
        return Problem("again", reason, status, retry_after(headers), busy)
    flagged = fields.get("metadata")
    if status == 403 and isinstance(flagged, Mapping) and "flagged_input" in flagged:
        return Problem("refused", reason, status)
    if code in ("content_policy_violation", "content_filter"):
        return Problem("refused", reason, status)
    if status in (401, 403, 404, 407):
        return Problem("everything", reason, status)
    return Problem("request", reason, status)


def _error_fields(body: Any) -> Mapping[str, Any]:
    """The fields of an error body, in or out of its `error` envelope."""
    inner = body.get("error") if isinstance(body, Mapping) else None
    found = inner if isinstance(inner, Mapping) else body
    return found if isinstance(found, Mapping) else {}


def _short(text: str) -> str:
    clean = " ".join(scrub(text).split())
    return clean if len(clean) <= _LONGEST_REASON else clean[:_LONGEST_REASON] + "…"


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or an HTTP date).

    `None` where there is neither, or one that cannot be read.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return max(0.0, seconds)
    if not text:
        return None
    try:
        date = email.utils.parsedate_to_datetime(text)
        return max(0.0, date.timestamp() - (time.time() if now is None else now))
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
