"""The rows of a run's records, built from arrays: one Arrow table for thousands of units."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from autointerp.recording.design import SamplingDesign
from autointerp.recording.finish import HARD_KINDS, STRATA, Drawn, draw, samples_of_units
from autointerp.recording.recorder import Recording
from autointerp.recording.samples import Samples, runs
from autointerp.recording.statistics import SHOWN_TOKENS, SplitAccumulator
from autointerp.recording.windows import WindowTable
from autointerp.records import SPLITS, Split, UnitRecord
from autointerp.store.rows import RECORD_SCHEMA, UNIT_SCHEMA, unit_of, window_rows

UNITS_A_TABLE = 2048
"""Units whose rows are built together: some hundred thousand records, tens of megabytes."""


def finished_tables(
    recording: Recording, windows: WindowTable, design: SamplingDesign, vocabulary: list[str]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(rows of windows, rows of units) of consecutive units, in recording order.

    A unit that is dead in `explain` has statistics and no windows. `row_group` is left at -1.
    """
    buffers = recording.buffers
    samples = {split: buffers.samples(split) for split in SPLITS}
    texts = pa.array(vocabulary, pa.string())
    ids = pa.array([sequence.sequence_id for sequence in windows.sequences], pa.string())
    n_units = len(recording.unit_hashes)
    for start in range(0, n_units, UNITS_A_TABLE):
        units = slice(start, min(start + UNITS_A_TABLE, n_units))
        largest = buffers.largest_bucket[units]
        maximum = buffers.splits[Split.EXPLAIN].statistics.maxima[units]
        parts: list[tuple[Split, Samples, Drawn]] = []
        for split in SPLITS:
            own = samples_of_units(samples[split], units)
            part = buffers.splits[split]
            drawn = draw(
                own,
                part.group_counts[units],
                int(part.statistics.n_windows),
                largest,
                maximum,
                recording.unit_hashes[units],
                windows.hashes[own.window],
                design,
                split,
            )
            parts.append((split, own, drawn))
        yield (
            _window_rows(recording, units, parts, windows, ids),
            _unit_rows(recording, units, texts),
        )


def finished_units(
    recording: Recording, windows: WindowTable, design: SamplingDesign, vocabulary: list[str]
) -> Iterator[UnitRecord]:
    """Unit records in recording order, as they are read back from a run's files."""
    parents = {sequence.sequence_id: sequence for sequence in windows.sequences}
    for rows, units in finished_tables(recording, windows, design, vocabulary):
        by_unit: dict[tuple[int, int], list[dict[str, object]]] = {}
        for row in window_rows(rows):
            by_unit.setdefault((row["index"], row["polarity"]), []).append(row)
        for unit in units.to_pylist():
            own = by_unit.get((unit["index"], unit["polarity"]), [])
            yield unit_of(recording.source.name, unit, own, parents, vocabulary)


def _ids(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """[n_units of the source] index and polarity in recording order."""
    n = recording.source.n_units
    polarities = np.asarray(recording.source.polarities, np.int8)
    return np.tile(np.arange(n, dtype=np.int32), len(polarities)), np.repeat(polarities, n)


def _window_rows(
    recording: Recording,
    units: slice,
    parts: list[tuple[Split, Samples, Drawn]],
    windows: WindowTable,
    ids: pa.Array,
) -> pa.Table:
    """Rows of RECORD_SCHEMA, ordered by unit, then split."""
    chosen = [samples.take(drawn.place) for _, samples, drawn in parts]
    both = Samples.joined(chosen)
    split = np.repeat(np.arange(len(parts)), [len(part) for part in chosen])
    order = np.argsort(both.unit, kind="stable")
    both = both.take(order)

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(drawn, name) for _, _, drawn in parts])[order]

    index, polarity = _ids(recording)
    row = both.unit + (recording.rows.start + units.start)
    start = windows.start[both.window]
    hard_by = column("hard_by")
    ends = np.r_[0, np.cumsum(both.n_active, dtype=np.int64)].astype(np.int32)
    return pa.Table.from_arrays(
        [
            pa.array(index[row]),
            pa.array(polarity[row]),
            _words(split[order], [str(name) for name, _, _ in parts]),
            _words(column("stratum"), list(STRATA)),
            pa.array(column("probability").astype(np.float32)),
            ids.take(pa.array(windows.sequence[both.window])),
            pa.array(start),
            pa.array(start + np.int32(windows.length)),
            pa.array(both.maximum),
            pa.ListArray.from_arrays(ends, pa.array(both.position)),
            pa.ListArray.from_arrays(ends, pa.array(both.share)),
            _words(np.zeros(len(both), np.int8), ["token"]),
            _words(hard_by, [str(kind) for kind in HARD_KINDS]),
        ],
        schema=RECORD_SCHEMA,
    )


def _words(numbers: np.ndarray, words: list[str]) -> pa.Array:
    """A column of words from their numbers; -1 is null."""
    places = pa.array(numbers.astype(np.int8), mask=numbers < 0)
    return pa.DictionaryArray.from_arrays(places, pa.array(words, pa.string()))


def _unit_rows(recording: Recording, units: slice, texts: pa.Array) -> pa.Table:
    """Rows of UNIT_SCHEMA."""
    index, polarity = _ids(recording)
    rows = slice(recording.rows.start + units.start, recording.rows.start + units.stop)
    nearest = recording.hardness.neighbours.nearest[units]
    cosine = recording.hardness.neighbours.cosine[units]
    explain = recording.buffers.splits[Split.EXPLAIN].statistics
    n_tokens = max(1, int(explain.n_tokens))
    n = units.stop - units.start
    columns = [
        _split_rows(split, recording.buffers.splits[split].statistics, units, texts)
        for split in SPLITS
    ]
    # Split by split; a unit's four stand together in its list.
    interleaved = np.arange(len(SPLITS) * n).reshape(len(SPLITS), n).T.reshape(-1)
    statistics = pa.concat_arrays(columns).take(pa.array(interleaved))
    ends = np.arange(0, len(SPLITS) * n + 1, len(SPLITS), dtype=np.int32)
    lonely = nearest < 0
    return pa.Table.from_arrays(
        [
            pa.array(index[rows]),
            pa.array(polarity[rows]),
            pa.array(explain.n_active[units] / n_tokens),
            pa.array(explain.n_active_documents[units]),
            pa.array(explain.maxima[units].astype(np.float64)),
            pa.array(np.full(n, -1, np.int32)),
            pa.array(index[nearest], mask=lonely),
            pa.array(polarity[nearest], mask=lonely),
            pa.array(cosine, mask=lonely),
            pa.ListArray.from_arrays(ends, statistics),
        ],
        schema=UNIT_SCHEMA,
    )


def _split_rows(
    split: Split, statistics: SplitAccumulator, units: slice, texts: pa.Array
) -> pa.StructArray:
    """The statistics of some units in one split, as the lists of UNIT_SCHEMA hold them."""
    n = units.stop - units.start
    n_tokens = int(statistics.n_tokens)
    moments = statistics.power_sums[:, units].T / max(1, n_tokens)
    start, lengths, counts = _trimmed(statistics.histogram[units])
    field = UNIT_SCHEMA.field("statistics").type.value_type
    top = statistics.top_tokens(units)
    if split != Split.EXPLAIN:
        # For display alone: what is looked up is of `explain`.
        shown = top.rank < SHOWN_TOKENS
        top = top.of(shown)
    token_ends = np.r_[0, np.cumsum(np.bincount(top.unit, minlength=n))].astype(np.int32)
    mean, mean_upper = float32_bounds(top.mean, top.mean_upper)
    tokens = pa.StructArray.from_arrays(
        [
            texts.take(pa.array(top.token)),
            pa.array(mean),
            pa.array(mean_upper, mask=mean_upper == mean),
            pa.array(top.count),
            pa.array(top.maximum),
        ],
        fields=list(field.field("top_tokens").type.value_type),
    )
    return pa.StructArray.from_arrays(
        [
            pa.array([str(split)] * n, pa.string()),
            pa.array(np.full(n, n_tokens, np.int64)),
            pa.array(statistics.n_active[units]),
            pa.array(np.full(n, int(statistics.n_documents), np.int64)),
            pa.array(statistics.n_active_documents[units]),
            pa.array(statistics.maxima[units].astype(np.float64)),
            pa.ListArray.from_arrays(
                np.arange(0, 4 * n + 1, 4, dtype=np.int32), pa.array(moments.reshape(-1))
            ),
            pa.array(start.astype(np.int32)),
            pa.ListArray.from_arrays(
                np.r_[0, np.cumsum(lengths)].astype(np.int32), pa.array(counts)
            ),
            pa.ListArray.from_arrays(token_ends, tokens),
        ],
        fields=list(field),
    )


_UPPER_BITS = np.uint32(0xFFF)
"""Digits of an upper bound that are rounded away: 1 part in 2,048, and half of its size on disk."""


def float32_bounds(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both bounds as float32, rounded apart where they differ: they enclose what they enclosed.

    No bound is negative. Where they differ, the upper one is rounded up to 12 binary digits.
    """
    low, high = lower.astype(np.float32), upper.astype(np.float32)
    apart = lower < upper
    low = np.where(apart & (low > lower), np.nextafter(low, np.float32(-np.inf)), low)
    high = np.where(high < upper, np.nextafter(high, np.float32(np.inf)), high)
    short = ((high.view(np.uint32) + _UPPER_BITS) & ~_UPPER_BITS).view(np.float32)
    return low, np.where(apart, short, upper.astype(np.float32))


def _trimmed(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First used bucket and number of buckets up to the last used, [n_units], and their counts."""
    used = histogram > 0
    any_used = used.any(axis=1)
    start = np.where(any_used, used.argmax(axis=1), 0)
    stop = np.where(any_used, histogram.shape[1] - used[:, ::-1].argmax(axis=1), 0)
    lengths = stop - start
    flat = runs(np.arange(len(histogram)) * histogram.shape[1] + start, lengths)
    return start, lengths, histogram.reshape(-1)[flat]
