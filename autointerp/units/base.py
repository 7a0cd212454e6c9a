"""The protocol of unit sources and the two forms in which they give activations."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from autointerp.records import UnitId


@dataclass(frozen=True)
class Dense:
    """Raw values of every unit on every token."""

    values: Tensor
    """[n_tokens, n_units] float32, signed."""


@dataclass(frozen=True)
class Sparse:
    """Only the values that are not zero, in no particular order, each (token, unit) once."""

    tokens: Tensor
    """[n_values] int64: row of the hidden state."""

    units: Tensor
    """[n_values] int64: index of the unit."""

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

    def encode(self, hidden: Tensor) -> Dense | Sparse:
        """Raw values of all units from the hidden state [n_tokens, d_in] at `read_at`."""
        ...

    def write_directions(self, indices: list[int]) -> Tensor | None:
        """[len(indices), d_out] what each unit adds at `write_at`, or `None`."""
        ...

    def fingerprint(self) -> str:
        """Hash of everything that determines `encode`."""
        ...


def unit_rows(source: UnitSource) -> list[UnitId]:
    """All units of a source in recording order: every index of +1 first, then of -1."""
    return [
        UnitId(source.name, index, polarity)
        for polarity in source.polarities
        for index in range(source.n_units)
    ]
