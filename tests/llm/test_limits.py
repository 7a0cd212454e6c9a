"""Limits by a clock that only waiting moves."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.llm.limits import Limiter
from autointerp.llm.retries import retry_after


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def sent_at(n: int, tokens: float = 0.0, **limits) -> list[float]:
    """When each of `n` requests was admitted."""
    clock = Clock()
    limiter = Limiter(limits.pop("concurrency", 4), **limits, clock=clock, sleep=clock.sleep)
    times: list[float] = []

    async def one() -> None:
        slot = await limiter.acquire(tokens)
        times.append(clock())
        limiter.release(slot)

    async def everyone() -> None:
        await asyncio.gather(*(one() for _ in range(n)))

    asyncio.run(everyone())
    return times


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(start <= t < start + 60 for t in times) for start in times)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 600), st.integers(1, 80))
def test_no_minute_sees_more_requests_than_the_limit_and_one_second_of_it(limit, n):
    times = sent_at(n, requests_per_minute=limit)
    assert most_in_a_minute(times) <= limit + max(1, limit / 60)
    # Nor is it slower than it need be.
    assert times[-1] - times[0] <= n * 60 / limit + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(100, 10_000), st.integers(1, 500), st.integers(2, 60))
def test_no_minute_sees_more_tokens_than_the_limit_and_one_taking_of_it(limit, tokens, n):
    times = sent_at(n, tokens, tokens_per_minute=limit)
    most = most_in_a_minute(times) * tokens
    assert most <= limit + max(1, limit / 60) + 2 * tokens


def test_tokens_that_were_not_used_are_given_back():
    async def both() -> float:
        clock = Clock()
        limiter = Limiter(1, tokens_per_minute=600, clock=clock, sleep=clock.sleep)
        slot = await limiter.acquire(600)
        slot.used = 10
        limiter.release(slot)
        await limiter.acquire(1)
        return clock.now - 1000.0

    assert asyncio.run(both()) < 1.0


def test_requests_without_limits_wait_for_nothing():
    times = sent_at(200)
    assert times[0] == times[-1]


def test_never_more_are_in_flight_than_allowed_and_all_come_in_order():
    order, most = [], 0

    async def one(limiter: Limiter, number: int) -> None:
        nonlocal most
        slot = await limiter.acquire(0)
        most = max(most, limiter.in_flight)
        order.append(number)
        await asyncio.sleep(0)
        limiter.release(slot)

    async def everyone() -> None:
        limiter = Limiter(3)
        await asyncio.gather(*(one(limiter, i) for i in range(50)))
        assert limiter.in_flight == 0

    asyncio.run(everyone())
    assert most == 3
    assert order == list(range(50))


def test_a_round_turned_away_halves_concurrency_once_and_good_answers_raise_it_by_one_a_round():
    async def work() -> None:
        clock = Clock()
        limiter = Limiter(16, clock=clock, sleep=clock.sleep)
        slots = [await limiter.acquire(0) for _ in range(16)]
        clock.now += 1
        for slot in slots:
            limiter.slow_down(slot.sent_at, None)
            limiter.release(slot)
        assert limiter.allowed == 8
        for _ in range(8):
            limiter.went_well()
        assert 8.9 <= limiter.allowed <= 9.0
        for _ in range(1000):
            limiter.went_well()
        assert limiter.allowed == 16
        for _ in range(20):
            clock.now += 1
            limiter.slow_down(clock.now, None)
        assert limiter.allowed == 1

    asyncio.run(work())


def test_a_pause_holds_everybody():
    async def work() -> float:
        clock = Clock()
        limiter = Limiter(4, clock=clock, sleep=clock.sleep)
        limiter.slow_down(clock.now, 30.0)
        for _ in range(4):
            limiter.release(await limiter.acquire(0))
        return clock.now - 1000.0

    assert asyncio.run(work()) == pytest.approx(30.0)


def test_who_gives_up_waiting_leaves_the_others_their_turn():
    async def work() -> None:
        limiter = Limiter(1)
        slot = await limiter.acquire(0)
        waiting = [asyncio.create_task(limiter.acquire(0)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        limiter.release(slot)
        limiter.release(await waiting[1])
        limiter.release(await waiting[2])
        assert limiter.in_flight == 0

    asyncio.run(work())


def test_places_that_become_free_together_are_given_away_together():
    async def work() -> None:
        limiter = Limiter(8)
        slots = [await limiter.acquire(0) for _ in range(8)]
        waiting = [asyncio.create_task(limiter.acquire(0)) for _ in range(8)]
        await asyncio.sleep(0)
        for slot in slots:
            limiter.release(slot)
        assert limiter.in_flight == 8
        await asyncio.sleep(0)
        assert all(task.done() for task in waiting)

    asyncio.run(work())


def test_who_gives_up_in_the_moment_of_being_admitted_leaves_no_place_taken():
    async def work() -> None:
        limiter = Limiter(1, tokens_per_minute=60)
        slot = await limiter.acquire(0)
        waiting = asyncio.create_task(limiter.acquire(1))
        await asyncio.sleep(0)
        limiter.release(slot)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled() and limiter.in_flight == 0

    asyncio.run(work())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Sun, 22 Nov 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 00:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_every_way_to_say_retry_after_is_understood(headers, seconds):
    now = 1795305600.0  # 2026-11-22 00:00:00 UTC
    assert retry_after(headers, now) == seconds
