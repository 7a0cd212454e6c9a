"""Answers on disk: what was paid for once is never asked again.

One SQLite file in WAL mode, safe with several processes, shared by all runs under a results
folder. An answer is committed before `put_many` returns, so a killed process repeats at most what
was in flight. The first answer to a key stays.
"""

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.llm.base import Response, ResponseStatus, TokenLogprobs, Usage
from autointerp.records import SCHEMA_VERSION, AutointerpError

_log = logging.getLogger(__name__)

_KEYS_PER_QUERY = 500
"""Below the 999 variables that old SQLite builds allow."""

_ROWS_PER_STATEMENT = 400
"""Two variables each."""

_WAIT_SECONDS = 60.0
"""How long another process's transaction is waited for."""


class ResponseCache:
    """Responses by key. Failed ones are not kept: they are to be asked again."""

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        """Open the cache, or make it.

        Args:
            path: the file.
            read_only: what is there is used, nothing is added.

        Raises:
            AutointerpError: where the file is no cache, one of another version, or lies where it
                cannot be opened or shared.
        """
        self.path = Path(path)
        self.read_only = read_only
        self._read_lock, self._write_lock = threading.Lock(), threading.Lock()
        with self._explained("cannot be opened"):
            if not read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            # Two connections: in WAL mode readers need not wait for a writer's disk.
            self._writer = self._connect()
            self._prepare()
            self._reader = self._connect()

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self.read_only else "rwc"
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_WAIT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    def _prepare(self) -> None:
        if not self.read_only:
            (mode,) = self._writer.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise sqlite3.OperationalError(
                    f"its file system allows the journal mode {mode!r} only, not WAL (is it a "
                    "network drive?)"
                )
            self._writer.execute("PRAGMA synchronous = FULL")
            self._writer.execute("BEGIN IMMEDIATE")
        version = int(self._writer.execute("PRAGMA user_version").fetchone()[0])
        tables = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version == 0 and tables == 0 and not self.read_only:
            self._writer.execute(
                "CREATE TABLE responses (key TEXT PRIMARY KEY, response TEXT NOT NULL, "
                "created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID"
            )
            self._writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            if not self.read_only:
                self._writer.execute("ROLLBACK")
            raise AutointerpError(
                f"the response cache {str(self.path)!r} has version {version}, this autointerp "
                f"reads version {SCHEMA_VERSION}: move the file away to start an empty one, or "
                "name another with llm.cache"
            )
        if not self.read_only:
            self._writer.execute("COMMIT")

    def get_many(self, keys: Iterable[str]) -> dict[str, Response]:
        """The responses there are; a row that cannot be read is dropped with a warning.

        Raises:
            AutointerpError: where the file cannot be read.
        """
        wanted = list(dict.fromkeys(keys))
        rows: list[tuple[str, str]] = []
        with self._explained("cannot be read"), self._read_lock:
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                part = wanted[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, response FROM responses WHERE key IN ({marks})"
                rows.extend(self._reader.execute(query, part))
        found: dict[str, Response] = {}
        for key, text in rows:
            try:
                found[key] = _from_json(text)
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("response cache %s: row %s is corrupt (%r)", self.path, key, error)
                self._drop(key)
        return found

    def get(self, key: str) -> Response | None:
        """The response to a key, or `None`. Errors as in `get_many`."""
        return self.get_many((key,)).get(key)

    def _drop(self, key: str) -> None:
        if self.read_only:
            return
        with self._explained("cannot be written"), self._write_lock:
            self._writer.execute("DELETE FROM responses WHERE key = ?", (key,))

    def put_many(self, responses: Mapping[str, Response]) -> None:
        """Store responses in one transaction, committed on return; failed ones are left out.

        Raises:
            AutointerpError: where the file cannot be written, such as on a full disk.
        """
        self.put_rows(self.rows(responses))

    def rows(self, responses: Mapping[str, Response]) -> list[tuple[str, str]]:
        """What `put_rows` stores of responses: keys and texts."""
        return [
            (key, _to_json(response))
            for key, response in responses.items()
            if response.status is not ResponseStatus.FAILED
        ]

    def put_rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """As `put_many`, of responses that are written out already."""
        if self.read_only or not rows:
            return
        with self._explained("cannot be written"), self._write_lock:
            if len(rows) <= _ROWS_PER_STATEMENT:
                # One statement is one transaction: of a group that commits under load each
                # further one would wait for Python's lock again.
                self._writer.execute(*_insertion(rows))
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                for start in range(0, len(rows), _ROWS_PER_STATEMENT):
                    part = rows[start : start + _ROWS_PER_STATEMENT]
                    self._writer.execute(*_insertion(part))
                self._writer.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
                raise

    def __len__(self) -> int:
        with self._explained("cannot be read"), self._read_lock:
            return int(self._reader.execute("SELECT count(*) FROM responses").fetchone()[0])

    def close(self) -> None:
        """Close the file; the cache cannot be used afterwards."""
        with self._read_lock, self._write_lock:
            self._reader.close()
            self._writer.close()

    def __enter__(self) -> "ResponseCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _explained(self, what: str) -> Generator[None]:
        """Turn what SQLite and the file system say into what the user can do."""
        try:
            yield
        except (OSError, sqlite3.OperationalError, sqlite3.DatabaseError) as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                remedy = (
                    f"another process has held it for {_WAIT_SECONDS:g} seconds: wait for it, or "
                    "name another file with llm.cache"
                )
            elif "malformed" in text or "not a database" in text:
                remedy = (
                    "move the file away to start an empty one (`sqlite3 FILE .recover` may save "
                    "what it held)"
                )
            elif "full" in text:
                remedy = "make room on the disk and run again"
            elif "unable to open" in text and self.read_only:
                remedy = "llm.cache is read_only, so the file must be there"
            else:
                remedy = (
                    "put it on a disk of this machine with llm.cache: PATH, or move the file away "
                    "to start an empty one"
                )
            raise AutointerpError(
                f"the response cache {str(self.path)!r} {what}: {text}; {remedy}"
            ) from error


def open_cache(setting: str, results_folder: str | Path) -> ResponseCache | None:
    """The cache that a config's `llm.cache` names.

    Args:
        setting: `shared` (`responses.sqlite` in the results folder), `off`, `read_only` (the shared
            one, to which nothing is added) or the path of a file.
        results_folder: the folder that holds the folders of runs.

    Raises:
        AutointerpError: as `ResponseCache`.
    """
    shared = Path(results_folder) / "responses.sqlite"
    if setting == "off":
        return None
    if setting in ("shared", "read_only"):
        return ResponseCache(shared, read_only=setting == "read_only")
    return ResponseCache(Path(setting).expanduser())


def _insertion(rows: Sequence[tuple[str, str]]) -> tuple[str, list[str]]:
    """A statement and its variables. The first answer to a key stays."""
    marks = ", ".join(["(?, ?)"] * len(rows))
    return (
        f"INSERT INTO responses (key, response) VALUES {marks} ON CONFLICT DO NOTHING",
        [value for row in rows for value in row],
    )


def _to_json(response: Response) -> str:
    """A response as its row holds it."""
    fields = {**vars(response), "usage": vars(response.usage)}
    if response.logprobs is not None:
        fields["logprobs"] = [vars(item) for item in response.logprobs]
    return json.dumps(fields, ensure_ascii=False)


def _from_json(text: str) -> Response:
    """The inverse of `_to_json`.

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
