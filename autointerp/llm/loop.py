"""The event loop that all hosted models share: one background thread, so that it works in Jupyter.

Connection pools belong to the loop that made them. So every request of a process runs in this one,
whoever asks: synchronous code, a notebook whose own loop is running, or another loop.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_current: "_Background | None" = None


class _Background:
    """A loop in a daemon thread, and what lives in it."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.shared: dict[Any, Any] = {}
        threading.Thread(target=self.loop.run_forever, name="autointerp-llm", daemon=True).start()


def _background() -> _Background:
    global _current
    with _lock:
        # A forked child has the loop's memory but not its thread.
        if _current is None or _current.process != os.getpid():
            _current = _Background()
        return _current


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop; started when it is first asked for."""
    return _background().loop


def shared(key: Any, make: Callable[[], T]) -> T:
    """What there is one of in this process under `key`, made when it is first asked for."""
    home = _background()
    with _lock:
        if key not in home.shared:
            home.shared[key] = make()
        return home.shared[key]


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background and wait for it. Cancelled where the wait is interrupted.

    Raises:
        RuntimeError: when called from the background loop itself, which would wait for ever.
    """
    loop = background_loop()
    if _running_loop() is loop:
        work.close()
        raise RuntimeError("the synchronous call was made from the loop that has to answer it")
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def in_background(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background loop from whatever loop this is."""
    loop = background_loop()
    if _running_loop() is loop:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


async def side_by_side(workers: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines together; the first error ends all of them and is raised by itself."""
    failed: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker)
    except ExceptionGroup as errors:
        failed = errors.exceptions[0]
    if failed is not None:
        # Outside of `except`, so that it does not carry the group along.
        raise failed


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
