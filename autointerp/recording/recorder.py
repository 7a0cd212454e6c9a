"""The streaming recorder: one pass over the corpus, memory bounded by units × kept × window.

A shard is a run of whole documents. `record_shard` is a pure function of the shard; its `Buffers`
merge in any order into those of the corpus; `finish` turns them into unit records.

Memory: n_units · 4 splits · (about 20 groups · kept · (2 · window_length + 32 bytes)
+ 3.1 kB of counts and statistics), whatever the length of the corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autointerp.recording.buffers import Buffers, SplitBuffers, capacities
from autointerp.recording.design import SILENT_SHARE, SamplingDesign
from autointerp.recording.samples import (
    BESIDE,
    N_GROUPS,
    RANDOM,
    TOP,
    Samples,
    lowered,
    smallest_keys,
    window_keys,
)
from autointerp.recording.statistics import SplitAccumulator, bucket_of
from autointerp.recording.windows import Shard, WindowTable, hash64
from autointerp.records import (
    SPLITS,
    AutointerpError,
    Sequence,
    derived_seed,
)
from autointerp.subject import Subject
from autointerp.units import Dense, Sparse, UnitSource
from autointerp.units.base import unit_rows


def record_shard(
    shard: Shard,
    windows: WindowTable,
    subject: Subject,
    sources: list[UnitSource],
    design: SamplingDesign,
    *,
    batch_tokens: int,
    vocabulary_size: int,
    so_far: dict[str, Buffers] | None = None,
) -> dict[str, Buffers]:
    """Run one shard through the subject and sample the windows of every source's units.

    Args:
        so_far: buffers already merged: what cannot enter them is left out early. Merging the
            result into them gives the same with and without.

    Returns:
        source name → buffers of this shard alone.

    Raises:
        AutointerpError: where a value on an unmasked token is NaN or infinite.
    """
    hidden = _hidden_of_windows(shard, windows, subject, sources, batch_tokens)
    numbers = np.flatnonzero((windows.sequence >= shard.first) & (windows.sequence < shard.last))
    facts = _WindowFacts.of(numbers, windows)
    unmasked = ~torch.from_numpy(facts.masked)
    recorded = {}
    for source in sources:
        # Checked before encoding too: NaN is in no top k, so it would pass for silence.
        place = f"{subject.name} gives NaN or infinity at {source.read_at}"
        _check_finite(hidden[source.read_at], unmasked, source, place)
        activations = _unit_activations(source, hidden[source.read_at])
        _check_finite(activations, unmasked, source, "its activations are NaN or infinite")
        recorded[source.name] = _sample_shard(
            activations,
            facts,
            source,
            design,
            vocabulary_size,
            None if so_far is None else so_far[source.name],
        )
    return recorded


@dataclass(frozen=True)
class _WindowFacts:
    """What is known of a shard's windows without the subject."""

    numbers: np.ndarray
    """[n_windows] their numbers in the corpus."""
    hashes: np.ndarray
    sequence: np.ndarray
    """[n_windows] number of the sequence."""
    document: np.ndarray
    """[n_windows] number of the document within the shard."""
    split: np.ndarray
    """[n_windows] position in SPLITS."""
    tokens: np.ndarray
    """[n_windows, window_length] ids."""
    masked: np.ndarray
    """[n_windows, window_length]."""

    @classmethod
    def of(cls, numbers: np.ndarray, windows: WindowTable) -> "_WindowFacts":
        parents = [windows.sequences[i] for i in windows.sequence[numbers]]
        spans = [slice(s, s + windows.length) for s in windows.start[numbers].tolist()]
        documents: dict[str, int] = {}
        for parent in parents:
            documents.setdefault(parent.document_id, len(documents))
        empty = np.zeros((0, windows.length))
        return cls(
            numbers,
            windows.hashes[numbers],
            windows.sequence[numbers],
            np.asarray([documents[p.document_id] for p in parents], np.int64),
            np.asarray([SPLITS.index(p.split) for p in parents], np.int64),
            np.stack([p.token_ids[s] for p, s in zip(parents, spans, strict=True)])
            if parents
            else empty.astype(np.int32),
            np.stack([p.masked[s] for p, s in zip(parents, spans, strict=True)])
            if parents
            else empty.astype(bool),
        )


def _hidden_of_windows(
    shard: Shard,
    windows: WindowTable,
    subject: Subject,
    sources: list[UnitSource],
    batch_tokens: int,
) -> dict[str, Tensor]:
    """Hook point → [n_windows, window_length, width] float32, windows in corpus order."""
    points = sorted({source.read_at for source in sources})
    parts: dict[str, list[Tensor]] = {point: [] for point in points}
    for rows in _batches(windows.sequences[shard.first : shard.last], shard.first, batch_tokens):
        sequences = [windows.sequences[row].token_ids for row in rows]
        longest = max(len(ids) for ids in sequences)
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for place, row_ids in enumerate(sequences):
            ids[place, : len(row_ids)] = torch.from_numpy(row_ids.astype(np.int64))
            mask[place, : len(row_ids)] = 1
        # Causal attention never looks right, so padding there changes nothing; a batch without
        # padding needs no mask and takes the faster kernel.
        found = subject.run(ids, points, None if bool(mask.all()) else mask)
        chosen = np.flatnonzero((windows.sequence >= rows[0]) & (windows.sequence <= rows[-1]))
        if not len(chosen):
            continue
        place = torch.from_numpy(windows.sequence[chosen].astype(np.int64) - rows[0])
        offsets = torch.from_numpy(windows.start[chosen].astype(np.int64))[:, None]
        columns = offsets + torch.arange(windows.length)
        for point in points:
            parts[point].append(found[point][place[:, None], columns].float())
    width = {point: subject.width_at(point) for point in points}
    return {
        point: torch.cat(values)
        if values
        else torch.zeros((0, windows.length, width[point]), device=subject.device)
        for point, values in parts.items()
    }


def _batches(sequences: tuple[Sequence, ...], first: int, batch_tokens: int) -> Iterator[list[int]]:
    """Runs of consecutive sequences whose padded size stays within `batch_tokens`."""
    rows: list[int] = []
    longest = 0
    for number, sequence in enumerate(sequences, start=first):
        longest = max(longest, len(sequence.token_ids))
        if rows and longest * (len(rows) + 1) > batch_tokens:
            yield rows
            rows, longest = [], len(sequence.token_ids)
        rows.append(number)
    if rows:
        yield rows


def _check_finite(values: Tensor, unmasked: Tensor, source: UnitSource, what: str) -> None:
    """Refuse NaN and infinity in values [n_windows, window_length, n] of unmasked tokens."""
    # One number first: a sum over finite float32 values of a few shards does not reach 3e38.
    if bool(torch.isfinite(values.sum())):
        return
    bad = ~torch.isfinite(values).all(dim=2) & unmasked.to(values.device)
    if bool(bad.any()):
        raise AutointerpError(
            f"unit source {source.name!r}: {what}, on {int(bad.sum())} of {int(unmasked.sum())} "
            "tokens; load the subject with `dtype: float32` or `bfloat16` (float16 overflows at "
            "65504), and check the weights"
        )


@torch.inference_mode()
def _unit_activations(source: UnitSource, hidden: Tensor) -> Tensor:
    """relu(polarity · x): [n_windows, window_length, n_units · n_polarities] float32."""
    n_windows, length, width = hidden.shape
    encoded = source.encode(hidden.reshape(-1, width))
    if isinstance(encoded, Sparse):
        values = hidden.new_zeros(n_windows * length, source.n_units, dtype=torch.float32)
        values[encoded.tokens, encoded.units] = encoded.values
    else:
        assert isinstance(encoded, Dense)
        values = encoded.values
    sides = [values.relu() if polarity > 0 else (-values).relu() for polarity in source.polarities]
    joined = sides[0] if len(sides) == 1 else torch.cat(sides, dim=1)
    return joined.reshape(n_windows, length, joined.shape[1])


@torch.inference_mode()
def _sample_shard(
    activations: Tensor,
    facts: _WindowFacts,
    source: UnitSource,
    design: SamplingDesign,
    vocabulary_size: int,
    so_far: Buffers | None,
) -> Buffers:
    """Statistics and samples of one source on one shard; activations [n_windows, length, n_units].

    `activations` is changed: masked tokens are set to zero.
    """
    n_units = activations.shape[2]
    buffers = Buffers.empty(n_units, design.window_length, vocabulary_size)
    if not len(facts.numbers):
        return buffers
    masked = torch.from_numpy(facts.masked).to(activations.device)
    activations.masked_fill_(masked[:, :, None], 0.0)
    maxima = activations.amax(dim=1)
    sequence = torch.from_numpy(facts.sequence - facts.sequence.min()).to(maxima.device).long()
    context = maxima.new_zeros(int(sequence.max()) + 1, n_units)
    context = context.scatter_reduce_(0, sequence[:, None].expand_as(maxima), maxima, "amax")[
        sequence
    ]
    beside = (maxima <= SILENT_SHARE * context) & (context > 0)
    home = torch.where(beside, BESIDE, bucket_of(maxima)).to(torch.int16).cpu().numpy()
    largest = bucket_of(maxima.amax(dim=0)).to(torch.int16).cpu().numpy()
    maxima_host, context_host = maxima.cpu().numpy(), context.cpu().numpy()
    unit_hashes = np.asarray([hash64(str(unit).encode()) for unit in unit_rows(source)], np.uint64)
    keys = window_keys(unit_hashes, facts.hashes, derived_seed(design.seed, "windows"))

    largest_known = largest if so_far is None else np.maximum(largest, so_far.largest_bucket)
    unmasked = ~facts.masked
    for place, split in enumerate(SPLITS):
        rows = np.flatnonzero(facts.split == place)
        if not len(rows):
            continue
        capacity = capacities(design, split)
        # A hash of its own: the random sample must not depend on the partition's draws.
        random_keys = (
            window_keys(unit_hashes, facts.hashes[rows], derived_seed(design.seed, "random"))
            if capacity[RANDOM]
            else None
        )
        candidates = _candidates(
            rows,
            home,
            keys,
            random_keys,
            maxima_host,
            context_host,
            facts.numbers,
            capacity,
            largest_known,
            None if so_far is None else so_far.splits[split].samples,
        )
        window = np.searchsorted(facts.numbers, candidates.window)
        chosen = activations[torch.from_numpy(window), :, torch.from_numpy(candidates.unit).long()]
        scale = torch.from_numpy(candidates.maximum).to(chosen.device)[:, None]
        candidates.activations = (chosen / scale.clamp_min(1e-30)).half().cpu().numpy()

        flat_groups = home[rows] + np.arange(n_units) * N_GROUPS
        counts = np.bincount(flat_groups.ravel(), minlength=n_units * N_GROUPS)
        counts = counts.reshape(n_units, N_GROUPS)
        chosen_tokens = unmasked[rows]
        flat = torch.from_numpy(chosen_tokens).to(activations.device)
        statistics = SplitAccumulator.of_shard(
            torch.from_numpy(facts.tokens[rows][chosen_tokens]).to(activations.device).long(),
            activations[torch.from_numpy(rows)][flat],
            torch.from_numpy(np.repeat(facts.document[rows], chosen_tokens.sum(1))),
            len(rows),
            vocabulary_size,
        )
        buffers.splits[split] = SplitBuffers(candidates, counts, statistics)
    buffers.largest_bucket = largest
    return buffers


def _candidates(
    rows: np.ndarray,
    home: np.ndarray,
    keys: np.ndarray,
    random_keys: np.ndarray | None,
    maxima: np.ndarray,
    context: np.ndarray,
    numbers: np.ndarray,
    capacity: np.ndarray,
    largest: np.ndarray,
    so_far: Samples | None,
) -> Samples:
    """The windows `rows` that a group may keep, without their activations."""
    n_units = keys.shape[1]
    units = np.arange(n_units)
    limits = (
        np.where(capacity > 0, np.inf, -np.inf)[None, :].repeat(n_units, 0)
        if so_far is None
        else so_far.thresholds(n_units, capacity)
    )
    groups = lowered(home[rows], np.broadcast_to(largest, (len(rows), n_units)))
    found: list[tuple[np.ndarray, ...]] = []

    def offer(group: np.ndarray, key: np.ndarray, allowed: np.ndarray) -> None:
        row, unit = np.nonzero(allowed & (key <= limits[units, group]))
        found.append((unit, group[row, unit], rows[row], key[row, unit]))

    everywhere = np.ones((len(rows), n_units), bool)
    offer(groups, keys[rows], everywhere)
    if random_keys is not None:
        offer(np.full_like(groups, RANDOM), random_keys, everywhere)
    offer(np.full_like(groups, TOP), -maxima[rows].astype(np.float64), maxima[rows] > 0)

    unit, group, row, key = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = smallest_keys(unit, group, key, numbers[row], capacity)
    unit, group, row, key = unit[kept], group[kept], row[kept], key[kept]
    return Samples(
        unit.astype(np.int32),
        group.astype(np.int16),
        home[row, unit],
        key,
        numbers[row].astype(np.int32),
        maxima[row, unit].astype(np.float32),
        context[row, unit].astype(np.float32),
        np.zeros((len(unit), 0), np.float16),
    )
