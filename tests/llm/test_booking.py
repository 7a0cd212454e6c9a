"""Bookings of one turn of the event loop: one transaction, nothing lost, no budget passed."""

import asyncio
from pathlib import Path

import pytest

from autointerp.llm import Message, Request
from autointerp.llm.booking import Bookings
from autointerp.llm.budget import BudgetSpentError, Limits, Meter, most_input_tokens
from autointerp.llm.prices import load_prices
from autointerp.store.ledger import Ledger, Spending

MODEL = "openai/test"
REQUEST = Request((Message("user", "question"),), 16, purpose="explain")


def meter(folder: Path, **limits: int) -> Meter:
    return Meter(Ledger(folder / "results.sqlite"), load_prices(), Limits(**limits))


def spent(n: int) -> Spending:
    return Spending("explain", MODEL, requests=1, input_tokens=n)


def test_what_begins_in_one_turn_is_one_transaction(tmp_path: Path) -> None:
    m = meter(tmp_path)
    commits: list[str] = []
    m.ledger._db.set_trace_callback(commits.append)  # pyright: ignore[reportPrivateUsage]
    books = Bookings(m)

    async def work() -> list[int]:
        begun = [books.begin(str(i), REQUEST, MODEL, vendor=True) for i in range(20)]
        return await asyncio.gather(*begun)

    tickets = asyncio.run(work())
    assert len(set(tickets)) == 20 and commits.count("COMMIT") == 1
    assert {row.key for row in m.ledger.in_flight().values()} == {str(i) for i in range(20)}


def test_what_is_settled_makes_room_for_what_begins_in_the_same_turn(tmp_path: Path) -> None:
    worst = most_input_tokens(REQUEST) + REQUEST.max_tokens
    m = meter(tmp_path, tokens=2 * worst)
    books = Bookings(m)

    async def begin(n: int) -> list[int | BaseException]:
        begun = [books.begin("k", REQUEST, MODEL, vendor=True) for _ in range(n)]
        return await asyncio.gather(*begun, return_exceptions=True)

    async def work() -> None:
        first, second, third = await begin(3)
        assert isinstance(third, BudgetSpentError)  # who comes first is served first
        assert isinstance(first, int) and isinstance(second, int)
        again, *_ = await asyncio.gather(
            begin(2), books.settle(first, spent(0)), books.settle(second, spent(1))
        )
        assert isinstance(again[0], int) and isinstance(again[1], BudgetSpentError)

    asyncio.run(work())
    assert [row.requests for row in m.ledger.in_flight().values()] == [1]
    assert m.ledger.rows() == [Spending("explain", MODEL, requests=2, input_tokens=1)]


def test_an_error_of_the_disk_reaches_everybody_who_waits(tmp_path: Path) -> None:
    m = meter(tmp_path)
    m.ledger.close()
    books = Bookings(m)

    async def work() -> list[int | BaseException]:
        begun = [books.begin("k", REQUEST, MODEL, vendor=True) for _ in range(3)]
        return await asyncio.gather(*begun, return_exceptions=True)

    assert all(isinstance(found, Exception) for found in asyncio.run(work()))


def test_tickets_are_never_given_twice(tmp_path: Path) -> None:
    m = meter(tmp_path)
    first = m.begin("k", REQUEST, MODEL)
    m.settle(first, [])
    m.ledger.close()
    assert meter(tmp_path).begin("k", REQUEST, MODEL) > first


@pytest.mark.parametrize("n", [1, 3])
def test_spending_of_one_kind_is_added_up(tmp_path: Path, n: int) -> None:
    ledger = Ledger(tmp_path / "results.sqlite")
    for _ in range(2):
        ledger.settle([], [spent(5)] * n)
    assert ledger.rows() == [Spending("explain", MODEL, requests=2 * n, input_tokens=10 * n)]
