"""Runs a stage's work items. Items are pure functions of their inputs; the caller merges results.

`local` runs them here, one after the other. Another executor must give the same results in the same
order, whatever it does in between.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Maps a pure function over work items, in order."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `work(item)` for every item, in order."""
        ...


class LocalExecutor:
    """One item at a time, in this process: the subject is held once."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `work(item)` for every item, in order."""
        return map(work, items)


EXECUTORS: dict[str, type[LocalExecutor]] = {"local": LocalExecutor}
"""By the name used in the config's `executor:`."""
