"""The ledger: what every kind of request cost, and what is on its way and may cost something yet.

A row of `in_flight` is committed before a request is sent and turned into spending when its answer
is safe. What a killed process leaves there was perhaps paid and never seen: it is counted as lost,
at the most it can have cost. So at any moment

    what the provider charged <= spent + lost + in flight.
"""

import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TABLES = """
CREATE TABLE IF NOT EXISTS spending (
    purpose TEXT NOT NULL, model TEXT NOT NULL, mode TEXT NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0, input_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0, cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0,
    usd REAL NOT NULL DEFAULT 0, unpriced_requests INTEGER NOT NULL DEFAULT 0,
    refused_requests INTEGER NOT NULL DEFAULT 0, lost_requests INTEGER NOT NULL DEFAULT 0,
    lost_tokens INTEGER NOT NULL DEFAULT 0, lost_usd REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (purpose, model, mode)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS in_flight (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, purpose TEXT NOT NULL,
    model TEXT NOT NULL,
    mode TEXT NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL,
    at REAL NOT NULL);
"""

# AUTOINCREMENT: a ticket is never given twice, so nobody settles another's.

_SUMS = (
    *(
        "requests",
        "input_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "output_tokens",
        "seconds",
    ),
    *("usd", "unpriced_requests", "refused_requests", "lost_requests", "lost_tokens", "lost_usd"),
)

_ADD = (
    f"INSERT INTO spending (purpose, model, mode, {', '.join(_SUMS)}) "
    f"VALUES (?, ?, ?, {', '.join('?' * len(_SUMS))}) ON CONFLICT (purpose, model, mode) "
    f"DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _SUMS)}"
)


@dataclass(frozen=True)
class Reservation:
    """The most that requests on their way can cost."""

    key: str
    """Of the response; of the batch in mode `batch`."""

    purpose: str
    model: str
    tokens: int
    """Prompt and answer together."""

    usd: float | None
    """`None` where the price is unknown."""

    mode: str = "live"
    """`live` or `batch`."""

    requests: int = 1


@dataclass(frozen=True)
class Spending:
    """What requests of one purpose, model and mode cost: one row of the ledger."""

    purpose: str
    model: str
    mode: str = "live"
    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    """Of the requests with a known price."""
    unpriced_requests: int = 0
    """Requests whose price is unknown: their money is not in `usd`."""
    refused_requests: int = 0
    """Attempts that the provider turned down: free."""
    lost_requests: int = 0
    """Attempts whose answer never came: the provider may have charged for them."""
    lost_tokens: int = 0
    """The most tokens these can have taken."""
    lost_usd: float = 0.0
    """The most money these can have cost, where the price is known."""


class Ledger:
    """The tables `spending` and `in_flight` of a run's `results.sqlite`. Safe with threads."""

    def __init__(self, path: Path) -> None:
        """Open it; the tables are made where they are missing, an older form is taken over."""
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        with self.transaction():
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._take_over()

    def _take_over(self) -> None:
        """Move the rows of the table `ledger` of earlier versions over."""
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(ledger)")}
        if "requests" not in columns:
            return
        self._db.execute(
            "INSERT OR IGNORE INTO spending (purpose, model, mode, requests, input_tokens, "
            "cached_tokens, output_tokens, seconds) SELECT purpose, model, 'live', SUM(requests), "
            "SUM(input_tokens), SUM(cached_tokens), SUM(output_tokens), SUM(seconds) FROM ledger "
            "GROUP BY purpose, model"
        )
        self._db.execute("DROP TABLE ledger")

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """All or nothing; nests."""
        with self._lock:
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk may have rolled it back already
                    self._db.execute("ROLLBACK")
                raise

    def reserve(self, rows: Sequence[Reservation]) -> list[int]:
        """Commit that requests are about to be sent; returns a ticket for each row."""
        now = time.time()
        with self.transaction() as db:
            found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'in_flight'")
            first = 1 + next(found, (0,))[0]
            tickets = list(range(first, first + len(rows)))
            db.executemany(
                "INSERT INTO in_flight (id, key, purpose, model, mode, requests, tokens, usd, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (t, row.key, row.purpose, row.model, row.mode, row.requests, row.tokens,
                     row.usd, now)
                    for t, row in zip(tickets, rows, strict=True)
                ],
            )  # fmt: skip
        return tickets

    def settle(self, tickets: Sequence[int], spent: Sequence[Spending]) -> None:
        """Replace what was reserved by what was spent, in one transaction."""
        with self.transaction() as db:
            db.executemany("DELETE FROM in_flight WHERE id = ?", [(t,) for t in tickets])
            db.executemany(_ADD, _sums_by_kind(spent))

    def in_flight(self, mode: str | None = None) -> dict[int, Reservation]:
        """What was sent and not settled, by ticket."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, key, purpose, model, tokens, usd, mode, requests FROM in_flight "
                "WHERE ? IS NULL OR mode = ? ORDER BY id",
                (mode, mode),
            ).fetchall()
        return {row[0]: Reservation(*row[1:]) for row in rows}

    def rows(self) -> list[Spending]:
        """Everything spent, per purpose, model and mode."""
        with self._lock:
            found = self._db.execute(
                f"SELECT purpose, model, mode, {', '.join(_SUMS)} FROM spending "
                "ORDER BY purpose, model, mode"
            ).fetchall()
        return [Spending(*row) for row in found]

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()


def _sums_by_kind(spent: Sequence[Spending]) -> list[tuple[Any, ...]]:
    """One row to add for each purpose, model and mode."""
    sums: dict[tuple[str, str, str], list[Any]] = {}
    for row in spent:
        values = [getattr(row, name) for name in _SUMS]
        so_far = sums.get(kind := (row.purpose, row.model, row.mode))
        sums[kind] = (
            values if so_far is None else [a + b for a, b in zip(so_far, values, strict=True)]
        )
    return [(*kind, *values) for kind, values in sums.items()]


def lost(row: Reservation) -> Spending:
    """A reservation whose answer never came."""
    return Spending(
        row.purpose,
        row.model,
        row.mode,
        lost_requests=row.requests,
        lost_tokens=row.tokens,
        lost_usd=row.usd or 0.0,
    )


def read_spending(db: sqlite3.Connection) -> tuple[list[dict[str, Any]], int]:
    """The ledger of a run that may be running, and requests in flight; writes nothing."""
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    if "spending" not in names:
        return [], 0
    columns = ("purpose", "model", "mode", *_SUMS)
    rows = db.execute(f"SELECT {', '.join(columns)} FROM spending ORDER BY purpose, model, mode")
    spending = [dict(zip(columns, row, strict=True)) for row in rows]
    (flying,) = db.execute("SELECT COALESCE(SUM(requests), 0) FROM in_flight").fetchone()
    return spending, int(flying)
