"""Units and statuses as the numbers that the index sorts by."""

from autointerp.records import Status, UnitId

SOURCE_SHIFT = 33
"""An index has 31 bits, a polarity one: units of a source are neighbours in the index."""

STATUSES: tuple[Status, ...] = tuple(Status)
"""A status is stored as its place here."""


def unit_code(unit: UnitId, sources: list[str]) -> int:
    """One number per unit, ordered by source (in the config's order), index and polarity."""
    return (sources.index(unit.source) << SOURCE_SHIFT) | (unit.index << 1) | int(unit.polarity < 0)


def unit_of_code(code: int, sources: list[str]) -> UnitId:
    """The inverse of `unit_code`."""
    index = (code & ((1 << SOURCE_SHIFT) - 1)) >> 1
    return UnitId(sources[code >> SOURCE_SHIFT], index, -1 if code & 1 else 1)


def source_bounds(place: int) -> tuple[int, int]:
    """Codes of a source's units: first, and one past the last."""
    return place << SOURCE_SHIFT, (place + 1) << SOURCE_SHIFT
