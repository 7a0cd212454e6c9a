"""The record stage of a run: one streaming pass over the corpus per subject."""

from typing import TYPE_CHECKING

from autointerp.executor import EXECUTORS
from autointerp.records import content_key

if TYPE_CHECKING:
    from autointerp.runner import Run
    from autointerp.units import UnitSource
    from autointerp.units.nearest import NearestUnits


def records_key(run: "Run", source: str) -> str:
    """Hash of everything the records of one source depend on."""
    if source in run.parts.imported:
        return content_key("records", imported=run.parts.imported[source].fingerprint())
    unit_source = run.parts.sources[source]
    return content_key(
        "records",
        subject=run.parts.subject(unit_source.subject).fingerprint,
        source=unit_source.fingerprint(),
        name=source,
        corpus=run.corpus_stage.key,
        design=run.design.key(),
    )


def is_recorded(run: "Run", source: str) -> bool:
    """Whether a source has records under its key."""
    return run.store.records_key(source) == records_key(run, source)


def record(run: "Run") -> None:
    """Record every source that has no records under its key yet."""
    from autointerp.units.nearest import NearestUnits

    for name, imported in run.parts.imported.items():
        if not is_recorded(run, name):
            run.store.write_records(name, records_key(run, name), imported.units)
    sources = [source for name, source in run.parts.sources.items() if not is_recorded(run, name)]
    nearest = NearestUnits(max(1, run.config.record.neighbours))
    for subject in sorted({source.subject for source in sources}):
        _record_pass(run, subject, [s for s in sources if s.subject == subject], nearest)
    _keep_output_sides(run, nearest)


def _record_pass(
    run: "Run", subject: str, sources: list["UnitSource"], nearest: "NearestUnits"
) -> None:
    """One streaming pass over the corpus for all sources of one subject."""
    from autointerp.recording.first_use import try_dictionaries
    from autointerp.recording.memory import range_size
    from autointerp.recording.passes import record_corpus
    from autointerp.recording.windows import WindowTable

    assert run.config.corpus is not None
    reader = run.parts.subject(subject)
    sequences = run.store.read_sequences(reader.tokenizer_name)
    settings, record = run.config.corpus, run.config.record
    try_dictionaries(sources, reader, sequences, run.store, run.reporter)
    size = range_size(
        sources,
        run.design,
        record.batch_tokens,
        unit_range_size=record.unit_range_size,
        memory_gb=record.memory_gb,
    )
    finished = record_corpus(
        WindowTable.of(sequences, settings.window_length, settings.n_masked_start),
        run.store.read_vocabulary(reader.tokenizer_name),
        reader,
        {records_key(run, source.name): source for source in sources},
        run.design,
        checkpoint=run.store.records_folder / ".recording",
        shard_tokens=record.shard_tokens,
        batch_tokens=record.batch_tokens,
        executor=EXECUTORS[run.config.executor](),
        reporter=run.reporter,
        unit_range_size=size,
        nearest=nearest,
    )
    for key, source, tables in finished:
        run.store.write_record_tables(source.name, key, tables)


def _keep_output_sides(run: "Run", nearest: "NearestUnits") -> None:
    """What the units of every source write into the logits, beside their records."""
    from autointerp.written import keep_output_side

    for source in run.parts.sources.values():
        subject = run.parts.subject(source.subject)
        n_tokens = len(run.store.read_vocabulary(subject.tokenizer_name))
        keep_output_side(
            source, subject, run.store, run.config.record, n_tokens, run.reporter, nearest
        )
