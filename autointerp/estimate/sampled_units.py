"""The units whose prompts are built, recorded or made up, and how many units they stand for."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from autointerp.record_stage import is_recorded
from autointerp.records import UnitRecord

if TYPE_CHECKING:
    from autointerp.runner import Run


class SampledUnits:
    """A few of the units that a run explains."""

    def __init__(self, run: "Run", n: int) -> None:
        self.run = run
        self.is_recorded = run.store.corpus_key() is not None and all(
            is_recorded(run, name) for name in run.config.sources
        )
        self.is_real = self.is_recorded or bool(run.parts.imported)
        self.n_units = len(run.units.chosen) if self.is_recorded else n_units_of(run)
        """Units they stand for."""
        self.records = self._records(min(n, max(1, self.n_units)))

    @property
    def scale(self) -> float:
        """Units for each of the sample."""
        return self.n_units / len(self.records)

    @property
    def n_donors(self) -> int:
        """Other units that every unit is compared with."""
        return min(self.run.config.score.shuffled_donors, max(0, self.n_units - 1))

    def _records(self, n: int) -> list[UnitRecord]:
        if self.is_recorded:
            units = self.run.units.chosen
            step = max(1, len(units) // n)
            return list(self.run.store.read_units(units[::step][:n]))
        if self.run.parts.imported:
            found = [u for one in self.run.parts.imported.values() for u in one.units]
            return found[:: max(1, len(found) // n)][:n]
        from autointerp.dry_run import made_up_unit

        return [made_up_unit(self.run, number, self.sequences) for number in range(n)]

    @cached_property
    def sequences(self) -> list[Any]:
        """Of one tokenizer: the others cut the same texts once more."""
        run = self.run
        source = next(iter(run.parts.sources.values()), None)
        if run.store.corpus_key() == run.corpus_stage.key:
            name = None if source is None else run.parts.subject(source.subject).tokenizer_name
            return run.store.read_sequences(name)
        from autointerp.recording.corpus import sequences_of_corpus

        assert run.config.corpus is not None and source is not None
        settings = run.config.corpus
        return sequences_of_corpus(
            run.parts.corpus,
            run.parts.subject(source.subject).tokenizer,
            length=settings.sequence_length,
            n_masked_start=settings.n_masked_start,
            min_length=settings.n_masked_start + settings.window_length,
            max_tokens=settings.max_tokens,
            max_tokens_per_document=settings.max_tokens_per_document,
        )


def n_units_of(run: "Run") -> int:
    """How many units will be explained: at most, where the sample's frame is not known yet."""
    chosen = run.units.names or run.config.units.ids
    if chosen:
        return len(chosen)
    sizes = [source.n_units * len(source.polarities) for source in run.parts.sources.values()]
    sizes += [len(imported.units) for imported in run.parts.imported.values()]
    sample = run.config.units.sample
    return sum(size if sample is None else min(size, sample) for size in sizes)
