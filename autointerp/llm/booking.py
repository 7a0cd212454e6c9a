"""The meter's bookings of one turn of the event loop as one transaction.

With many requests in flight several begin and end in each turn. Committed one by one, their
transactions would take more time than everything else that is done for them.
"""

import asyncio
from collections.abc import Sequence

from autointerp.llm.base import Request
from autointerp.llm.budget import BudgetSpentError, Meter
from autointerp.llm.prices import Price
from autointerp.store.ledger import Reservation, Spending


class Bookings:
    """Begins and settles at a meter; both return once the ledger has it. For one event loop."""

    def __init__(self, meter: Meter) -> None:
        """Book at this meter."""
        self.meter = meter
        self._wanted: list[tuple[Reservation, Price | None]] = []
        self._tickets: list[asyncio.Future[int]] = []
        self._settled: list[tuple[int, Sequence[Spending]]] = []
        self._done: list[asyncio.Future[None]] = []
        self._is_due = False

    async def begin(self, key: str, request: Request, model: str, *, vendor: bool) -> int:
        """As `Meter.begin`."""
        ticket: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._wanted.append(self.meter.bound(key, request, model, vendor=vendor))
        self._tickets.append(ticket)
        self._book_soon()
        return await ticket

    async def settle(self, ticket: int, spent: Spending) -> None:
        """As `Meter.settle`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settled.append((ticket, [spent]))
        self._done.append(done)
        self._book_soon()
        await done

    def _book_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._book)

    def _book(self) -> None:
        wanted, tickets, self._wanted, self._tickets = self._wanted, self._tickets, [], []
        settled, done, self._settled, self._done = self._settled, self._done, [], []
        self._is_due = False
        try:
            booked = self.meter.book(settled, wanted)
        except Exception as error:
            for future in (*tickets, *done):
                if not future.done():
                    future.set_exception(error)
            return
        for future in done:
            if not future.done():
                future.set_result(None)
        for future, result in zip(tickets, booked, strict=True):
            if future.done():
                # Nobody sends it any more: its loop is coming to an end. Counted as lost later.
                continue
            if isinstance(result, BudgetSpentError):
                future.set_exception(result)
            else:
                future.set_result(result)
