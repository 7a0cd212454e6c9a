"""What takes longer than a page may: done beside the server's loop, one piece after another."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """One thread that models and files of its own are opened in."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "autointerp-view")

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Do it after what was submitted before."""
        return self._pool.submit(work)

    def close(self) -> None:
        """Forget what has not begun; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
