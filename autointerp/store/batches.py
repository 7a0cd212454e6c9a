"""The log of batches: written before a batch is sent, so that none is ever paid for twice.

    intended ─► submitted ─► fetched
        └──► dropped (it never reached the provider)

An intent is committed with the keys of its requests and the most they can cost, in the transaction
that reserves the money. What is found `intended` was perhaps sent.
"""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autointerp.store.ledger import Ledger, Spending

_TABLES = (
    "CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, client TEXT NOT NULL, "
    "model TEXT NOT NULL, state TEXT NOT NULL, provider_id TEXT, ticket INTEGER NOT NULL, "
    "n INTEGER NOT NULL, created REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS batch_requests (batch TEXT NOT NULL, key TEXT NOT NULL, "
    "purpose TEXT NOT NULL, tokens INTEGER NOT NULL, usd REAL, PRIMARY KEY (batch, key)) "
    "WITHOUT ROWID",
)


@dataclass(frozen=True)
class BatchRequest:
    """One request of a batch."""

    key: str
    purpose: str
    tokens: int
    """The most it can take, prompt and answer."""

    usd: float | None
    """The most it can cost; `None` where the price is unknown."""


@dataclass(frozen=True)
class BatchRow:
    """One batch."""

    id: str
    """Our own name for it: the intent."""

    client: str
    """Fingerprint of the client that sends it."""

    model: str
    state: str
    """`intended`, `submitted`, `fetched` or `dropped`."""

    provider_id: str | None
    ticket: int
    """Of the money reserved for it."""

    n: int
    """Requests in it."""

    created: float
    """Unix time of the intent, by this machine's clock."""


class BatchLog:
    """The tables `batches` and `batch_requests`, in the ledger's database."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        with ledger.transaction() as db:
            for statement in _TABLES:
                db.execute(statement)

    def intend(
        self, intent: str, client: str, model: str, ticket: int, requests: Sequence[BatchRequest]
    ) -> BatchRow:
        """Commit that a batch is about to be sent."""
        row = BatchRow(intent, client, model, "intended", None, ticket, len(requests), time.time())
        with self.ledger.transaction() as db:
            db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (row.id, client, model, row.state, None, ticket, row.n, row.created),
            )
            db.executemany(
                "INSERT INTO batch_requests VALUES (?, ?, ?, ?, ?)",
                [(intent, r.key, r.purpose, r.tokens, r.usd) for r in requests],
            )
        return row

    def submitted(self, intent: str, provider_id: str) -> None:
        """Commit by which name the provider knows a batch."""
        with self.ledger.transaction() as db:
            db.execute(
                "UPDATE batches SET state = 'submitted', provider_id = ? WHERE id = ?",
                (provider_id, intent),
            )

    def finish(self, row: BatchRow, state: str, spent: Sequence[Spending]) -> None:
        """Commit that a batch is over, with what it cost."""
        with self.ledger.transaction() as db:
            db.execute("UPDATE batches SET state = ? WHERE id = ?", (state, row.id))
            db.execute("DELETE FROM batch_requests WHERE batch = ?", (row.id,))
            self.ledger.settle([row.ticket], spent)

    def open(self, client: str | None = None) -> list[BatchRow]:
        """Batches that are neither fetched nor dropped, oldest first."""
        with self.ledger.transaction() as db:
            return _open(db, client)

    def get(self, intent: str) -> BatchRow | None:
        """One batch."""
        with self.ledger.transaction() as db:
            row = db.execute("SELECT * FROM batches WHERE id = ?", (intent,)).fetchone()
        return None if row is None else BatchRow(*row)

    def known_ids(self) -> set[str]:
        """The provider's names of all batches that are ours for certain."""
        with self.ledger.transaction() as db:
            rows = db.execute(
                "SELECT provider_id FROM batches WHERE provider_id IS NOT NULL"
            ).fetchall()
        return {row[0] for row in rows}

    def requests(self, intent: str) -> Mapping[str, BatchRequest]:
        """The requests of an open batch, by key."""
        with self.ledger.transaction() as db:
            rows = db.execute(
                "SELECT key, purpose, tokens, usd FROM batch_requests WHERE batch = ?", (intent,)
            ).fetchall()
        return {row[0]: BatchRequest(*row) for row in rows}


def read_open(db: sqlite3.Connection) -> list[BatchRow]:
    """Batches that are neither fetched nor dropped, of a database that is only read."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    return _open(db) if "batches" in tables else []


def _open(db: sqlite3.Connection, client: str | None = None) -> list[BatchRow]:
    rows = db.execute(
        "SELECT * FROM batches WHERE state IN ('intended', 'submitted') "
        "AND (? IS NULL OR client = ?) ORDER BY created, id",
        (client, client),
    ).fetchall()
    return [BatchRow(*row) for row in rows]
