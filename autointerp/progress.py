"""What long work says while it runs; silent unless somebody listens."""

from typing import Protocol


class Reporter(Protocol):
    """Listens to a run. The command line draws bars; a notebook may pass its own."""

    def stage(self, name: str, total: int, unit: str) -> None:
        """A stage begins; `total` of `unit` are to be done."""
        ...

    def advance(self, done: int) -> None:
        """So many more are done."""
        ...

    def note(self, text: str) -> None:
        """A fact worth a line."""
        ...


class Silent:
    """Says nothing."""

    def stage(self, name: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, done: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
