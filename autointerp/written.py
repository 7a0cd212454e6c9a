"""Keeps what the units of a run write into the logits beside their records, once per source."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from autointerp.config import RecordConfig
from autointerp.progress import Reporter
from autointerp.records import content_key
from autointerp.store import RunStore

if TYPE_CHECKING:
    from autointerp.subject import Subject
    from autointerp.units import UnitSource
    from autointerp.units.nearest import NearestUnits
    from autointerp.units.output_side import Written

T = TypeVar("T")

VERSION = 1
"""Raised where the output side of the same unit comes to mean something else."""


def keep_output_side(
    source: "UnitSource",
    subject: "Subject",
    store: RunStore,
    settings: RecordConfig,
    vocabulary_size: int,
    reporter: Reporter,
    nearest: "NearestUnits | None" = None,
) -> None:
    """Write promoted and suppressed tokens and neighbours of a source that are not there yet.

    Args:
        vocabulary_size: tokens of the subject's tokenizer.
        nearest: of at least `settings.neighbours`, which may have found them already.
    """
    from autointerp.units.output_side import output_side

    key = content_key(
        "output side",
        version=VERSION,
        source=source.fingerprint(),
        subject=subject.fingerprint,
        n_tokens=settings.output_tokens,
        n_neighbours=settings.neighbours,
        vocabulary_size=vocabulary_size,
    )
    if store.output_side_key(source.name) == key:
        return
    found = (
        output_side(
            source,
            subject,
            n_tokens=settings.output_tokens,
            n_neighbours=settings.neighbours,
            vocabulary_size=vocabulary_size,
            nearest=nearest,
        )
        if settings.output_tokens or settings.neighbours
        else None
    )
    if found is None:
        store.remove_output_side(source.name)
        return
    reporter.stage("output side", source.n_units, "units")
    units = _with_word(found, source, reporter) if settings.output_tokens else found
    store.write_output_side(source.name, key, _counted(units, reporter), subject.tokenizer_name)


def _with_word(
    units: "Iterable[Written]", source: "UnitSource", reporter: Reporter
) -> "Iterator[Written]":
    """The units, and a word where no way from them to the logits is known."""
    for place, unit in enumerate(units):
        if place == 0 and unit.promoted is None:
            reporter.note(
                f"{source.name}: no way from {source.write_at} to the logits is known, so what its "
                "units promote is left out"
            )
        yield unit


def _counted(units: Iterable[T], reporter: Reporter) -> Iterator[T]:
    """The units, each reported when it was taken."""
    for unit in units:
        yield unit
        reporter.advance(1)
