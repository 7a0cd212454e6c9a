"""Opens `results.sqlite` for reading: it is never made, and never written."""

import sqlite3
from pathlib import Path

from autointerp.records import AutointerpError

_NEEDS_FILES = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
"""What SQLite says where it may not make the files beside a database that readers share."""


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A run's database for any thread; also on a disk that cannot be written.

    Raises:
        AutointerpError: where there is none, or it is no database of a run.
    """
    if not path.is_file():
        raise AutointerpError(
            f"{str(path.parent)!r} holds no run's results: no {path.name}; put it back from a "
            "copy, or give the run's config.yaml to `autointerp run` again"
        )
    try:
        try:
            return _opened(path, "mode=ro")
        except sqlite3.OperationalError as error:
            log = path.with_name(f"{path.name}-wal")
            if error.sqlite_errorcode & 0xFF not in _NEEDS_FILES:
                raise
            if log.exists() and log.stat().st_size:
                raise AutointerpError(
                    f"{path} cannot be read without writing beside it, for {log.name} holds what "
                    "was written last: make its folder writable, or copy it to where it is"
                ) from error
            # Without a log nobody is writing: the file is all there is, and nothing need be shared.
            return _opened(path, "immutable=1")
    except sqlite3.DatabaseError as error:
        raise AutointerpError(
            f"{path} cannot be read as a run's results ({error}): put it back from a copy, or move "
            "it away and run again"
        ) from error


def _opened(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, timeout=30, check_same_thread=False
    )
    try:
        connection.execute("SELECT value FROM meta LIMIT 1").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
