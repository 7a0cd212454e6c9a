"""How fast a provider is asked: requests and tokens per minute, and requests in flight.

A limit per minute is a bucket that fills steadily and holds one second's worth, so that no minute
sees more than the limit and that second. Concurrency goes down by half when the provider says that
it is asked too much, and up by one per round of good answers (additive increase, multiplicative
decrease: Chiu and Jain 1989).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Clock = Callable[[], float]

_ROUNDING = 1e-6
"""Less than this is missing by rounding only."""


class Bucket:
    """What may be taken per minute. It may be overdrawn by one taking, which is then waited for."""

    def __init__(self, per_minute: float | None, clock: Clock = time.monotonic) -> None:
        """Make a full one; `None` has no limit."""
        self._rate = None if per_minute is None else per_minute / 60
        self._holds = 0.0 if self._rate is None else max(1.0, self._rate)
        self._clock = clock
        self._level = self._holds
        self._at = clock()

    def delay(self) -> float:
        """Seconds until something may be taken."""
        if self._rate is None:
            return 0.0
        self._fill(self._rate)
        # As much as one taking must be there, or the limit would be passed by what it lacks.
        lacking = min(1.0, self._holds) - self._level
        return lacking / self._rate if lacking > _ROUNDING else 0.0

    def take(self, amount: float) -> None:
        """Take it, or give it back where it is negative."""
        if self._rate is not None:
            self._fill(self._rate)
            self._level = min(self._holds, self._level - amount)

    def _fill(self, rate: float) -> None:
        now = self._clock()
        self._level = min(self._holds, self._level + (now - self._at) * rate)
        self._at = now


class Limiter:
    """Admits requests in the order in which they come."""

    def __init__(
        self,
        concurrency: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Set the limits.

        Args:
            concurrency: most requests in flight.
            requests_per_minute: `None` for no limit.
            tokens_per_minute: prompt and answer; `None` for no limit.
            clock: seconds; for tests.
            sleep: how waiting is done; for tests.
        """
        self.concurrency = concurrency
        self.allowed = float(concurrency)
        """Requests that may be in flight now."""
        self.in_flight = 0
        self._requests = Bucket(requests_per_minute, clock)
        self._tokens = Bucket(tokens_per_minute, clock)
        self._clock, self._sleep = clock, sleep
        self._paused_until = -1.0
        self._slowed_at = -1.0
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.Task[None] | None = None

    async def acquire(self, tokens: float) -> "Slot":
        """Wait until a request of about so many tokens may be sent. `release` what is returned."""
        if not self._waiting and self._has_room() and self._delay() <= 0:
            return self._take(tokens)
        place = _Waiting(asyncio.get_running_loop().create_future(), tokens)
        self._waiting.append(place)
        self._admit()
        try:
            return await place.slot
        except asyncio.CancelledError:
            if not place.slot.cancelled():
                # Admitted in the moment of giving up: nothing is sent.
                slot = place.slot.result()
                slot.used = 0.0
                self.release(slot)
            raise

    def release(self, slot: "Slot") -> None:
        """The request is no longer in flight."""
        self.in_flight -= 1
        self._tokens.take(slot.used - slot.reserved)
        self._admit()

    def _admit(self) -> None:
        """Admit all who wait and may go, at once: one by one, the next would wait for a turn of the
        event loop each, and under load a turn is long."""
        while self._waiting and self._has_room():
            if (delay := self._delay()) > 0:
                self._admit_after(delay)
                return
            place = self._waiting.popleft()
            if not place.slot.done():
                place.slot.set_result(self._take(place.tokens))

    def _admit_after(self, delay: float) -> None:
        if self._timer is None or self._timer.done():
            self._timer = asyncio.get_running_loop().create_task(self._wait(delay))

    async def _wait(self, delay: float) -> None:
        await self._sleep(delay)
        self._timer = None
        self._admit()

    def _has_room(self) -> bool:
        return not self.in_flight or self.in_flight + 1 <= self.allowed

    def _take(self, tokens: float) -> "Slot":
        self.in_flight += 1
        self._requests.take(1)
        self._tokens.take(tokens)
        return Slot(self._clock(), tokens, tokens)

    def went_well(self) -> None:
        """An answer came: a little more may be in flight."""
        if self.allowed < self.concurrency:
            self.allowed = min(self.concurrency, self.allowed + 1 / self.allowed)
            self._admit()

    def slow_down(self, sent_at: float, pause: float | None) -> None:
        """The provider is asked too much.

        Args:
            sent_at: when the request was sent that it said so to. Of a whole round of requests
                that are turned away together only the first counts.
            pause: seconds in which nothing may be sent.
        """
        now = self._clock()
        if sent_at > self._slowed_at:
            self.allowed = max(1.0, self.allowed / 2)
            self._slowed_at = now
        if pause is not None:
            self._paused_until = max(self._paused_until, now + pause)

    def _delay(self) -> float:
        pause = self._paused_until - self._clock()
        return max(pause, self._requests.delay(), self._tokens.delay())


@dataclass
class Slot:
    """One request in flight."""

    sent_at: float
    """By the limiter's clock."""

    reserved: float
    """Tokens it was thought to take."""

    used: float
    """Tokens it took; to be corrected once they are known."""


@dataclass(frozen=True)
class _Waiting:
    """One request that waits to be admitted."""

    slot: "asyncio.Future[Slot]"
    tokens: float
