"""The protocol of unit sources and the two forms in which they give activations."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from autointerp.records import UnitId


@dataclass(frozen=True)
class Dense:
    """Raw values of every unit that was asked for, on every token."""

    values: Tensor
    """[n_tokens, n_units] float32, signed; columns count from the start of the range."""


@dataclass(frozen=True)
class Sparse:
    """Only the values that are not zero, in no particular order, each (token, unit) once."""

    tokens: Tensor
    """[n_values] int64: row of the hidden state."""

    units: Tensor
    """[n_values] int64: index of the unit, counted from the start of the range."""

    values: Tensor
    """[n_values] float32, signed."""


class UnitSource(Protocol):
    """A set of units read at one hook point of one subject."""

    name: str
    """Its name in the run's config; the `source` of its units."""

    subject: str
    """Name of its subject in the run's config."""

    read_at: str
    """Hook point whose value `encode` takes."""

    @property
    def write_at(self) -> str | None:
        """Hook point where `write_directions` are added; `None` where nothing is written."""
        ...

    @property
    def n_units(self) -> int:
        """Number of indices; a signed source has two units per index."""
        ...

    polarities: tuple[int, ...]
    """(1,) for sources whose values are never negative, (1, -1) for signed ones."""

    def encode(self, hidden: Tensor, units: slice | None = None) -> Dense | Sparse:
        """Raw values of units from the hidden state [n_tokens, d_in] at `read_at`.

        Args:
            units: half-open range of indices, such as slice(0, 4096); `None` for all. Columns and
                indices of the result count from its start. The values are those that the whole
                source has: a range of a top-k dictionary holds the winners among all latents.
        """
        ...

    def write_directions(self, indices: list[int]) -> Tensor | None:
        """[len(indices), d_out] what each unit adds at `write_at`, or `None`."""
        ...

    def fingerprint(self) -> str:
        """Hash of everything that determines `encode`."""
        ...


def range_of(units: slice | None, n_units: int) -> tuple[int, int]:
    """First index and one past the last of a range of units; all where it is `None`."""
    start, stop, step = (units or slice(None)).indices(n_units)
    assert step == 1, "a range of units has no step"
    return start, max(start, stop)


def unit_rows(source: UnitSource) -> list[UnitId]:
    """All units of a source in recording order: every index of +1 first, then of -1."""
    return [
        UnitId(source.name, index, polarity)
        for polarity in source.polarities
        for index in range(source.n_units)
    ]
