"""Answers on disk: what was paid for once is never asked again.

One SQLite file in WAL mode, safe with several processes. An answer is committed before `put_many`
returns, so a killed process repeats at most what was in flight. The first answer to a key stays.
"""

import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autointerp.llm.base import Response, ResponseStatus, TokenLogprobs, Usage
from autointerp.records import SCHEMA_VERSION, AutointerpError

_log = logging.getLogger(__name__)

_KEYS_PER_QUERY = 500
"""Below the 999 variables that old SQLite builds allow."""

_WAIT_SECONDS = 60.0
"""How long another process's transaction is waited for."""


class ResponseCache:
    """Responses by key. Failed ones are not kept: they are to be asked again."""

    def __init__(self, path: str | Path) -> None:
        """Open the cache, or make it.

        Raises:
            AutointerpError: where the file is no cache, or one of another version.
        """
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise AutointerpError(
                f"the response cache {str(self.path)!r} cannot be opened: {error}; move the file "
                "away to start an empty one"
            ) from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("BEGIN IMMEDIATE")
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version == 0 and tables == 0:
            self._connection.execute(
                "CREATE TABLE responses (key TEXT PRIMARY KEY, response TEXT NOT NULL, "
                "created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID"
            )
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            self._connection.execute("ROLLBACK")
            raise AutointerpError(
                f"the response cache {str(self.path)!r} has version {version}, this autointerp "
                f"reads version {SCHEMA_VERSION}: move the file away to start an empty one"
            )
        self._connection.execute("COMMIT")

    def get_many(self, keys: Iterable[str]) -> dict[str, Response]:
        """The responses there are; a row that cannot be read is dropped with a warning."""
        wanted = list(dict.fromkeys(keys))
        rows: list[tuple[str, str]] = []
        with self._lock:
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                part = wanted[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, response FROM responses WHERE key IN ({marks})"
                rows.extend(self._connection.execute(query, part))
        found: dict[str, Response] = {}
        for key, text in rows:
            try:
                found[key] = _from_json(text)
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("response cache %s: row %s is corrupt (%r)", self.path, key, error)
                with self._lock:
                    self._connection.execute("DELETE FROM responses WHERE key = ?", (key,))
        return found

    def put_many(self, responses: Mapping[str, Response]) -> None:
        """Store responses in one transaction, committed on return; failed ones are left out."""
        rows = [
            (key, json.dumps(asdict(response), ensure_ascii=False))
            for key, response in responses.items()
            if response.status is not ResponseStatus.FAILED
        ]
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(
                    "INSERT INTO responses (key, response) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    rows,
                )
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT count(*) FROM responses").fetchone()[0])

    def close(self) -> None:
        """Close the file; the cache cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> "ResponseCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _from_json(text: str) -> Response:
    """The inverse of `asdict` for a response.

    Raises:
        ValueError, KeyError, TypeError: where the text is none.
    """
    fields: dict[str, Any] = json.loads(text)
    answer, logprobs = fields["text"], fields["logprobs"]
    if answer is not None and not isinstance(answer, str):
        raise TypeError(f"the answer is {type(answer).__name__}, not a string")
    return Response(
        text=answer,
        status=ResponseStatus(fields["status"]),
        usage=Usage(**fields["usage"]),
        reason=fields["reason"],
        model=fields["model"],
        logprobs=None if logprobs is None else tuple(_logprobs(item) for item in logprobs),
    )


def _logprobs(item: dict[str, Any]) -> TokenLogprobs:
    top = tuple((str(token), float(logprob)) for token, logprob in item["top"])
    return TokenLogprobs(item["token"], float(item["logprob"]), top)
