"""The units of a source that write most alike, found once for all who ask.

Recording wants the nearest of every unit, for hard windows; the output side a few. It is the one
part of either whose time grows with the square of the dictionary.
"""

from dataclasses import dataclass, field

from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.base import UnitSource
from autointerp.units.neighbours import nearest_by_cosine


@dataclass(frozen=True)
class Near:
    """For every index of a source the other indices that write most alike, nearest first."""

    indices: Tensor
    """[n_units, k] int64."""

    cosines: Tensor
    """[n_units, k] float32. Below 0 in a signed source: near with the opposite polarity."""


@dataclass(frozen=True)
class NearestUnits:
    """The nearest units of sources, found when they are first asked for."""

    k: int
    """How many of each unit; fewer where a source has fewer."""

    _found: dict[str, Near | None] = field(default_factory=dict[str, Near | None])
    """By the source's name."""

    def of(self, source: UnitSource) -> Near | None:
        """The nearest units by the cosine of directions; in a signed source by its size.

        Returns:
            `None` where there are no directions or no other unit.

        Raises:
            AutointerpError: where directions are not finite.
        """
        if source.name not in self._found:
            self._found[source.name] = self._find(source)
        return self._found[source.name]

    def _find(self, source: UnitSource) -> Near | None:
        directions = source.write_directions(list(range(source.n_units)))
        if directions is None or source.n_units < 2:
            return None
        try:
            found = nearest_by_cosine(directions, self.k, either_sign=-1 in source.polarities)
        except ValueError as error:
            raise AutointerpError(
                f"unit source {source.name!r}: {error}; check the decoder's weights"
            ) from error
        return Near(*(tensor.cpu() for tensor in found))
