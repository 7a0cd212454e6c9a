"""The streaming recorder: one pass over the corpus, memory bounded by units × kept × window.

A shard is a run of whole documents. `record_shard` is a pure function of the shard; its `Buffers`
merge in any order into those of the corpus; `finish` turns them into unit records.

Memory: n_units · 4 splits · (about 20 groups · kept · (2 · window_length + 32 bytes)
+ 1.4 kB of statistics), whatever the length of the corpus.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from autointerp.recording.design import SILENT_SHARE, SamplingDesign, stratum_of
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
from autointerp.recording.statistics import SHOWN_TOKENS, SplitAccumulator, bucket_of
from autointerp.records import (
    SPLITS,
    ActivationRecord,
    AutointerpError,
    Sequence,
    Split,
    Strata,
    UnitId,
    UnitRecord,
    Window,
    derived_seed,
)
from autointerp.subject import Subject
from autointerp.units import Dense, Sparse, UnitSource
from autointerp.units.base import unit_rows


@dataclass(frozen=True)
class WindowTable:
    """All windows of the corpus, numbered in corpus order."""

    sequences: tuple[Sequence, ...]
    sequence: np.ndarray
    """[n_windows] int32 number of the sequence."""
    start: np.ndarray
    """[n_windows] int32 first token within it."""
    length: int
    hashes: np.ndarray
    """[n_windows] uint64: sequence id and start."""

    @classmethod
    def of(cls, sequences: list[Sequence], length: int, n_masked_start: int) -> "WindowTable":
        """Tile every sequence from its first unmasked token; a remainder shorter is left out."""
        rows, starts, hashes = [], [], []
        for number, sequence in enumerate(sequences):
            for start in range(n_masked_start, len(sequence.token_ids) - length + 1, length):
                rows.append(number)
                starts.append(start)
                name = f"{sequence.sequence_id}:{start}".encode()
                hashes.append(_hash64(name))
        return cls(
            tuple(sequences),
            np.asarray(rows, np.int32),
            np.asarray(starts, np.int32),
            length,
            np.asarray(hashes, np.uint64),
        )

    def window(self, number: int) -> Window:
        """Where window `number` lies."""
        start = int(self.start[number])
        sequence = self.sequences[self.sequence[number]]
        return Window(sequence.sequence_id, start, start + self.length)


@dataclass(frozen=True)
class Shard:
    """A work item: sequences `first` to `last` (exclusive), whole documents."""

    number: int
    first: int
    last: int


def shards_of(sequences: tuple[Sequence, ...], shard_tokens: int) -> list[Shard]:
    """Cut a corpus into shards of about `shard_tokens` tokens at document boundaries."""
    shards: list[Shard] = []
    first = n_tokens = 0
    for number, sequence in enumerate(sequences):
        is_new = number > first and sequence.document_id != sequences[number - 1].document_id
        if is_new and n_tokens >= shard_tokens:
            shards.append(Shard(len(shards), first, number))
            first, n_tokens = number, 0
        n_tokens += len(sequence.token_ids)
    if first < len(sequences):
        shards.append(Shard(len(shards), first, len(sequences)))
    return shards


@dataclass
class SplitBuffers:
    """What is kept of all units of a source in one split."""

    samples: Samples
    group_counts: np.ndarray
    """[n_units, N_GROUPS] int64: windows seen in every home group."""
    statistics: SplitAccumulator


@dataclass
class Buffers:
    """What is kept of all units of one source."""

    splits: dict[Split, SplitBuffers]
    largest_bucket: np.ndarray
    """[n_units] int16 highest half octave of a window maximum, over all splits."""

    @classmethod
    def empty(cls, n_units: int, window_length: int, vocabulary_size: int) -> "Buffers":
        """Nothing seen."""
        return cls(
            {
                split: SplitBuffers(
                    Samples.empty(window_length),
                    np.zeros((n_units, N_GROUPS), np.int64),
                    SplitAccumulator.empty(n_units, vocabulary_size),
                )
                for split in SPLITS
            },
            np.zeros(n_units, np.int16),
        )

    def merge(self, other: "Buffers", design: SamplingDesign) -> "Buffers":
        """The buffers of both corpora; does not depend on which is which."""
        largest = np.maximum(self.largest_bucket, other.largest_bucket)
        merged = {}
        for split in SPLITS:
            a, b = self.splits[split], other.splits[split]
            merged[split] = SplitBuffers(
                a.samples.merge(b.samples, capacities(design, split), largest),
                a.group_counts + b.group_counts,
                a.statistics.merge(b.statistics),
            )
        return Buffers(merged, largest)

    def save(self, path: Path) -> None:
        """Write as one safetensors file, whole or not at all."""
        arrays = {"largest_bucket": self.largest_bucket}
        for split, part in self.splits.items():
            named = {
                **{f"samples.{k}": v for k, v in vars(part.samples).items()},
                **{f"statistics.{k}": v for k, v in part.statistics.arrays().items()},
                "group_counts": part.group_counts,
            }
            arrays |= {f"{split}.{k}": np.asarray(v, order="C") for k, v in named.items()}
        partial = path.with_suffix(".partial")
        save_file(arrays, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Buffers":
        """The inverse of `save`."""
        arrays = load_file(path)
        splits = {}
        for split in SPLITS:
            own = _under(arrays, f"{split}.")
            samples = Samples(**_under(own, "samples."))
            statistics = SplitAccumulator.from_arrays(_under(own, "statistics."))
            splits[split] = SplitBuffers(samples, own["group_counts"], statistics)
        return cls(splits, arrays["largest_bucket"])


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def capacities(design: SamplingDesign, split: Split) -> np.ndarray:
    """[N_GROUPS] samples that every group of one split keeps."""
    quota = design.quotas[split]
    capacity = np.full(N_GROUPS, design.kept_per_bucket(split))
    capacity[RANDOM] = quota.random
    capacity[TOP] = quota.top
    return capacity


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
    unit_hashes = np.asarray([_hash64(str(unit).encode()) for unit in unit_rows(source)], np.uint64)
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


def finish(
    buffers: Buffers,
    windows: WindowTable,
    source: UnitSource,
    design: SamplingDesign,
    vocabulary: list[str],
) -> Iterator[UnitRecord]:
    """Unit records in recording order; a unit dead in `explain` has statistics and no records."""
    rows = {
        split: np.searchsorted(part.samples.unit, np.arange(len(buffers.largest_bucket) + 1))
        for split, part in buffers.splits.items()
    }
    for row, unit in enumerate(unit_rows(source)):
        statistics = {
            split: part.statistics.of_unit(row, vocabulary)
            for split, part in buffers.splits.items()
        }
        for split in statistics.keys() - {Split.EXPLAIN}:
            shown = statistics[split].top_tokens[:SHOWN_TOKENS]
            statistics[split] = replace(statistics[split], top_tokens=shown)
        explain_maximum = statistics[Split.EXPLAIN].maximum
        records: list[ActivationRecord] = []
        for split, part in buffers.splits.items():
            if explain_maximum <= 0:
                break
            samples = part.samples.take(np.arange(rows[split][row], rows[split][row + 1]))
            n_windows = int(part.statistics.n_windows)
            counts = part.group_counts[row]
            chosen = draw(
                samples,
                counts,
                n_windows,
                int(buffers.largest_bucket[row]),
                explain_maximum,
                design,
                split,
                unit,
            )
            records += [
                _record(unit, split, samples, place, stratum, probability, windows, vocabulary)
                for place, stratum, probability in chosen
            ]
        yield UnitRecord(unit, tuple(records), statistics)


def draw(
    samples: Samples,
    counts: np.ndarray,
    n_windows: int,
    largest_bucket: int,
    explain_maximum: float,
    design: SamplingDesign,
    split: Split,
    unit: UnitId,
) -> list[tuple[int, str, float]]:
    """Second phase: sort one unit's kept windows of a split into strata and draw the quotas.

    Args:
        samples: the unit's samples in this split.
        counts: [N_GROUPS] windows seen in every home group, before pooling.
        n_windows: all windows of the split.

    Returns:
        (position in `samples`, stratum, inclusion probability). Over the partition (all strata but
        `random`) the sum of y / probability is an unbiased estimate of the sum of y over all
        windows, for any y, where every stratum has a quota (Horvitz and Thompson 1952).
    """
    top = np.flatnonzero(samples.group == TOP)
    passing = samples.maximum[top] > SILENT_SHARE * explain_maximum
    top = top[passing]
    chosen = [(int(place), Strata.TOP, 1.0) for place in top]
    random = np.flatnonzero(samples.group == RANDOM)
    chosen += [(int(place), Strata.RANDOM, len(random) / n_windows) for place in random]

    # First phase: what is left of every group when the top windows are taken out.
    groups = lowered(np.arange(N_GROUPS, dtype=np.int16), np.full(N_GROUPS, largest_bucket))
    seen = np.zeros(N_GROUPS, np.int64)
    np.add.at(seen, groups, counts)
    seen_top = np.bincount(groups[samples.home[top]], minlength=N_GROUPS)
    in_partition = (samples.group != TOP) & (samples.group != RANDOM)
    is_top = np.isin(samples.window, samples.window[top])
    pool = np.flatnonzero(in_partition & ~is_top)
    kept = np.bincount(samples.group[pool], minlength=N_GROUPS)
    capacity = design.kept_per_bucket(split)
    first_phase = {
        group: float(kept[group] / (seen[group] - seen_top[group]))
        * (1 - _chance_of_none(int(seen[group]), int(seen_top[group]), capacity))
        for group in np.flatnonzero(kept).tolist()
    }
    strata: dict[str, list[int]] = {}
    for place in pool.tolist():
        name = stratum_of(
            float(samples.maximum[place]),
            explain_maximum,
            active_in_sequence=float(samples.context_maximum[place])
            > SILENT_SHARE * explain_maximum,
        )
        strata.setdefault(name, []).append(place)

    seed = derived_seed(design.seed, "draw", unit, split)
    generator = np.random.default_rng(seed)
    owed = max(0, design.quotas[split].top - len(top))
    for names, wanted in design.draws(split):
        found = sorted(
            (int(samples.window[place]), place, name)
            for name in names
            for place in strata.get(name, [])
        )
        take = min(wanted + owed, len(found))
        owed = wanted + owed - take
        for drawn in generator.permutation(len(found))[:take].tolist():
            _, place, name = found[drawn]
            probability = first_phase[int(samples.group[place])] * take / len(found)
            chosen.append((place, name, probability))
    return chosen


def _chance_of_none(n_seen: int, n_top: int, capacity: int) -> float:
    """Chance that a group's `capacity` random windows of `n_seen` are all among its `n_top`.

    Then nothing stands for the others, so where something does it stands for a little more.
    """
    if n_top < capacity or n_seen <= capacity:
        return 0.0
    return math.prod((n_top - i) / (n_seen - i) for i in range(capacity))


def _record(
    unit: UnitId,
    split: Split,
    samples: Samples,
    place: int,
    stratum: str,
    probability: float,
    windows: WindowTable,
    vocabulary: list[str],
) -> ActivationRecord:
    number = int(samples.window[place])
    sequence = windows.sequences[windows.sequence[number]]
    window = windows.window(number)
    span = slice(window.start, window.stop)
    return ActivationRecord(
        unit=unit,
        window=window,
        document_id=sequence.document_id,
        split=split,
        stratum=stratum,
        probability=probability,
        tokens=tuple(vocabulary[i] for i in sequence.token_ids[span].tolist()),
        activations=samples.maximum[place] * samples.activations[place].astype(np.float32),
        masked=sequence.masked[span],
    )


def _hash64(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
