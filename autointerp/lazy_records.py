"""Units' records, read when they are asked for: a dictionary's do not fit into memory together."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from autointerp.records import UnitId, UnitRecord
from autointerp.store import RunStore

_KEPT = 256
"""Units whose records are held: more than wait for answers at a time."""


class LazyRecords(Mapping[UnitId, UnitRecord]):
    """The records of some units of a run; the last ones that were read are kept."""

    def __init__(self, store: RunStore, units: Sequence[UnitId]) -> None:
        self._store = store
        self._units = units
        self._kept: OrderedDict[UnitId, UnitRecord] = OrderedDict()

    def __getitem__(self, unit: UnitId) -> UnitRecord:
        found = self._kept.get(unit)
        if found is None:
            (found,) = self._store.read_units([unit])
            self._kept[unit] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(unit)
        return found

    def __iter__(self) -> Iterator[UnitId]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)
