"""The units of a run: what was recorded of all, and which of them are explained and scored."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from autointerp.config import RunConfig
from autointerp.lazy_records import LazyRecords
from autointerp.parts import Parts
from autointerp.records import AutointerpError, UnitId, UnitRecord, refuse_text
from autointerp.selection import stratified_sample
from autointerp.store import RunStore, UnitSummary


class RunUnits:
    """All recorded units of a run's sources, and the chosen ones."""

    def __init__(
        self,
        config: RunConfig,
        parts: Parts,
        store: RunStore,
        names: Sequence[UnitId | str] | None,
    ) -> None:
        refuse_text(names, "units as a list, such as ['features/317']")
        self.config = config
        self.parts = parts
        self.store = store
        self.names = names
        """These units (`source/index`) instead of the config's."""

    def check_names(self) -> None:
        """Refuse units of a source that there is not, before anything is recorded."""
        self._named(self.names or self.config.units.ids or ())

    # ------------------------------------------------------------------ recorded

    @cached_property
    def summaries(self) -> dict[str, list[UnitSummary]]:
        """All recorded units of every source."""
        return {name: self.store.units(name) for name in self.config.sources}

    @cached_property
    def densities(self) -> dict[UnitId, float]:
        """Firing rate of every recorded unit in `explain`."""
        return {u.unit: u.density for units in self.summaries.values() for u in units}

    @cached_property
    def maxima(self) -> dict[UnitId, float]:
        """Largest activation of every recorded unit in `explain`."""
        return {u.unit: u.maximum for units in self.summaries.values() for u in units}

    def is_dead(self, unit: UnitId) -> bool:
        """Whether a recorded unit never fired in `explain`."""
        return self.maxima[unit] <= 0

    # ------------------------------------------------------------------ chosen

    @cached_property
    def chosen(self) -> tuple[UnitId, ...]:
        """The units that are explained and scored."""
        if self.names:
            return self._existing(self.names)
        if not self.configured:
            raise AutointerpError(
                "no unit is active in enough `explain` documents "
                f"(units.min_active_documents: {self.config.units.min_active_documents}); record "
                "a larger corpus or lower it"
            )
        return self.configured

    @cached_property
    def configured(self) -> tuple[UnitId, ...]:
        """The units the config asks for: those it lists, or a stratified sample."""
        frame = self.config.units
        if frame.ids is not None:
            return self._existing(frame.ids)
        return tuple(
            unit
            for summaries in self.summaries.values()
            for unit in stratified_sample(
                summaries, frame.sample, frame.min_active_documents, self.config.seed
            )
        )

    @property
    def known(self) -> tuple[UnitId, ...]:
        """The chosen units and the config's own."""
        return tuple(dict.fromkeys((*self.chosen, *self.configured)))

    @cached_property
    def records(self) -> Mapping[UnitId, UnitRecord]:
        """Everything recorded of the chosen units, read when it is asked for."""
        return LazyRecords(self.store, self.chosen)

    def directions(self) -> dict[UnitId, np.ndarray]:
        """What every chosen unit and possible donor writes, where that is known."""
        found: dict[UnitId, np.ndarray] = {}
        for name, source in self.parts.sources.items():
            units = [unit for unit in self.known if unit.source == name]
            rows = source.write_directions([unit.index for unit in units])
            if rows is not None:
                for unit, row in zip(units, rows.float().cpu().numpy(), strict=True):
                    found[unit] = unit.polarity * row
        return found

    # ------------------------------------------------------------------ by name

    def _named(self, names: Sequence[UnitId | str]) -> tuple[UnitId, ...]:
        """Units by name, each once; one of an unknown source is refused."""
        units = tuple(dict.fromkeys(UnitId.parse(text) for text in names))
        for unit in units:
            if unit.source not in self.config.sources:
                known = ", ".join(self.config.sources)
                raise AutointerpError(f"unit {unit}: there is no source but {known}")
        return units

    def _existing(self, names: Sequence[UnitId | str]) -> tuple[UnitId, ...]:
        """Units by name, each once; one that was not recorded is refused."""
        units = self._named(names)
        for unit in units:
            if unit not in self.densities:
                n = len(self.summaries[unit.source])
                raise AutointerpError(
                    f"unit {unit} does not exist: {unit.source} has {n} recorded units"
                )
        return units
