"""The streaming recorder: one pass over the corpus, memory bounded by units × kept × window.

A shard is a run of whole documents. `record_shard` adds one to the `Buffers` of every source;
buffers merge in any order into those of the corpus; `finish` turns them into unit records. What it
takes in memory is in `recording.memory`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autointerp.recording.activity import Activity, DenseActivity, SparseActivity, Tokens
from autointerp.recording.buffers import Buffers
from autointerp.recording.design import SamplingDesign
from autointerp.recording.hardness import Hardness, Neighbours, TopTokenIndex
from autointerp.recording.sampling import WindowFacts, add_batch
from autointerp.recording.windows import Shard, WindowTable, hash64
from autointerp.records import SPLITS, AutointerpError, Split, derived_seed
from autointerp.subject import Subject
from autointerp.units import Dense, Sparse, UnitSource
from autointerp.units.base import unit_rows


@dataclass
class Recording:
    """One source while it is recorded: what is kept of it, and what its units need to be hard."""

    source: UnitSource
    buffers: Buffers
    hardness: Hardness
    unit_hashes: np.ndarray
    """[n_rows] uint64."""
    rows: slice
    """The units recorded, of all in recording order; a part where not all fit into memory."""
    n_pilot_seen: int = 0
    """Sequences of the pilot that have been recorded."""

    @classmethod
    def of(
        cls,
        source: UnitSource,
        design: SamplingDesign,
        vocabulary_size: int,
        *,
        rows: slice | None = None,
        hardness: Hardness | None = None,
    ) -> "Recording":
        """A recording that has seen nothing.

        Args:
            rows: units to record, as a range of the recording order; all if left out.
            hardness: of these units; if left out, neighbours are found here, and top tokens when
                the pilot has been recorded.
        """
        units = unit_rows(source)
        rows = rows or slice(0, len(units))
        hashes = np.asarray([hash64(str(unit).encode()) for unit in units[rows]], np.uint64)
        buffers = Buffers.empty(len(hashes), design, vocabulary_size)
        hardness = hardness or Hardness(Neighbours.of(source).part(rows))
        return cls(source, buffers, hardness, hashes, rows)

    def end_pilot(self, windows: WindowTable) -> None:
        """From here on top tokens are known.

        Raises:
            ValueError: where not all of the pilot was recorded: every shard must know the same.
        """
        if self.hardness.top_tokens is not None or not windows.n_pilot:
            return
        if self.n_pilot_seen != windows.n_pilot:
            raise ValueError("record the shards of the pilot first, or give the hardness they gave")
        statistics = self.buffers.splits[Split.EXPLAIN].statistics
        index = TopTokenIndex.of_pilot(statistics.table, len(statistics.token_counts))
        self.hardness = Hardness(self.hardness.neighbours, index)

    @property
    def is_part(self) -> bool:
        """Whether other passes record other units of the source."""
        n_units = self.source.n_units * len(self.source.polarities)
        return self.rows != slice(0, n_units)


@dataclass
class BatchSize:
    """How many tokens go through the subject at once; halved where memory does not suffice."""

    tokens: int


def record_shard(
    shard: Shard,
    windows: WindowTable,
    subject: Subject,
    recordings: Mapping[str, Recording],
    design: SamplingDesign,
    *,
    batch: BatchSize,
) -> None:
    """Run one shard through the subject and add it to the buffers of every source, in place.

    Args:
        recordings: by the name of their source.
        batch: tokens per forward pass; made smaller, for good, where that does not fit.

    Raises:
        AutointerpError: where a value on an unmasked token is NaN or infinite.
    """
    for recording in recordings.values():
        if shard.first >= windows.n_pilot:
            recording.end_pilot(windows)
        else:
            recording.n_pilot_seen += shard.last - shard.first
    documents = {name: _Documents(recording.buffers) for name, recording in recordings.items()}
    seed = derived_seed(design.seed, "windows")
    first = shard.first
    while first < shard.last:
        last = _batch_end(windows, first, shard.last, batch.tokens)
        try:
            facts = window_facts(windows, first, last)
            found = _activities(facts, windows, first, last, subject, recordings)
        except torch.OutOfMemoryError:
            if last - first == 1:
                raise
            batch.tokens //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        for name, recording in recordings.items():
            activity, neighbour_active = found.pop(name)
            if len(facts.numbers):
                add_batch(
                    recording.buffers,
                    activity,
                    facts,
                    neighbour_active,
                    recording.hardness.top_tokens,
                    recording.unit_hashes,
                    seed,
                )
                documents[name].add(activity, facts, windows)
        first = last
    for seen in documents.values():
        seen.close()


def _batch_end(windows: WindowTable, first: int, last: int, batch_tokens: int) -> int:
    """One past the last of the sequences whose padded size stays within `batch_tokens`."""
    longest = 0
    for number in range(first, last):
        longest = max(longest, len(windows.sequences[number].token_ids))
        if number > first and longest * (number + 1 - first) > batch_tokens:
            return number
    return last


def window_facts(windows: WindowTable, first: int, last: int) -> WindowFacts:
    """The windows of sequences `first` to `last` (exclusive), those of a split together."""
    a, b = np.searchsorted(windows.sequence, [first, last])
    numbers = np.arange(a, b)
    split = np.asarray(
        [SPLITS.index(windows.sequences[i].split) for i in windows.sequence[a:b].tolist()], np.int64
    )
    numbers = numbers[np.argsort(split, kind="stable")]
    sequence = windows.sequence[numbers]
    ids = np.zeros((len(numbers), windows.length), np.int32)
    masked = np.zeros((len(numbers), windows.length), bool)
    for row, (number, parent) in enumerate(zip(numbers.tolist(), sequence.tolist(), strict=True)):
        span = slice(int(windows.start[number]), int(windows.start[number]) + windows.length)
        ids[row] = windows.sequences[parent].token_ids[span]
        masked[row] = windows.sequences[parent].masked[span]
    return WindowFacts(
        numbers,
        windows.hashes[numbers],
        sequence,
        np.sort(split),
        Tokens(ids, masked),
        sequence < windows.n_pilot,
    )


@torch.inference_mode()
def _activities(
    facts: WindowFacts,
    windows: WindowTable,
    first: int,
    last: int,
    subject: Subject,
    recordings: Mapping[str, Recording],
) -> dict[str, tuple[Activity, np.ndarray | None]]:
    """What the units of every source did in a batch, and whether their neighbours were active."""
    points = sorted({recording.source.read_at for recording in recordings.values()})
    ids, mask = _padded(windows, first, last)
    # Causal attention never looks right, so padding there changes nothing; a batch without
    # padding needs no mask and takes the faster kernel.
    found = subject.run(ids, points, None if bool(mask.all()) else mask)
    rows = torch.from_numpy(facts.sequence.astype(np.int64) - first)[:, None]
    starts = torch.from_numpy(windows.start[facts.numbers].astype(np.int64))
    columns = starts[:, None] + torch.arange(windows.length)
    unmasked = torch.from_numpy(~facts.tokens.masked.reshape(-1))
    activities: dict[str, tuple[Activity, np.ndarray | None]] = {}
    for point in points:
        value = found.pop(point)
        place = (rows.to(value.device), columns.to(value.device))
        hidden = value[place].flatten(0, 1).float()
        del value
        for name, recording in recordings.items():
            source = recording.source
            if source.read_at == point:
                # Checked before encoding too: NaN is in no top k, so it would pass for silence.
                place_name = f"{subject.name} gives NaN or infinity at {point}"
                _check_finite(hidden, unmasked, source, place_name)
                activities[name] = _activity(recording, hidden, facts.tokens.masked, unmasked)
    return activities


def _padded(windows: WindowTable, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Token ids [n_sequences, longest] and the mask of what is not padding."""
    sequences = [windows.sequences[row].token_ids for row in range(first, last)]
    longest = max(len(ids) for ids in sequences)
    ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for place, row_ids in enumerate(sequences):
        ids[place, : len(row_ids)] = torch.from_numpy(row_ids.astype(np.int64))
        mask[place, : len(row_ids)] = 1
    return ids, mask


def _check_finite(values: Tensor, unmasked: Tensor, source: UnitSource, what: str) -> None:
    """Refuse NaN and infinity in values [n_tokens, n] or [n_tokens] of unmasked tokens."""
    # One number first: a sum over finite float32 values of a batch does not reach 3e38.
    if bool(torch.isfinite(values.sum())):
        return
    bad = ~torch.isfinite(values).reshape(len(values), -1).all(dim=1) & unmasked.to(values.device)
    if bool(bad.any()):
        raise AutointerpError(
            f"unit source {source.name!r}: {what}, on {int(bad.sum())} of {int(unmasked.sum())} "
            "tokens; load the subject with `dtype: float32` or `bfloat16` (float16 overflows at "
            "65504), and check the weights"
        )


def _activity(
    recording: Recording, hidden: Tensor, masked: np.ndarray, unmasked: Tensor
) -> tuple[Activity, np.ndarray | None]:
    """relu(polarity · x) of the recorded units, and whether the nearest unit of each is active."""
    source, rows = recording.source, recording.rows
    encoded = source.encode(hidden)
    what = "its activations are NaN or infinite"
    if isinstance(encoded, Sparse):
        _check_finite(encoded.values, unmasked[encoded.tokens.cpu()], source, what)
        whole: Activity = _sparse(encoded, source, masked)
    else:
        assert isinstance(encoded, Dense)
        _check_finite(encoded.values, unmasked, source, what)
        # Masked tokens are set to zero, maybe in `hidden` itself: nobody reads them.
        (values,) = on_host(encoded.values.float())
        whole = DenseActivity(values, masked, tuple(source.polarities))
    nearest = recording.hardness.neighbours.nearest
    neighbour_active = None
    if (nearest >= 0).any():
        neighbour_active = (whole.maxima > 0)[:, nearest] & (nearest >= 0)
    return (whole.part(rows) if recording.is_part else whole), neighbour_active


def on_host(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """Tensors as arrays. From a GPU all copies go at once, through pinned memory, with one wait."""
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    copies = [
        _copy_begun(tensor) if tensor.device in devices else tensor.cpu() for tensor in tensors
    ]
    for device in devices:
        torch.cuda.synchronize(device)
    return tuple(copy.numpy() for copy in copies)


def _copy_begun(tensor: Tensor) -> Tensor:
    """A copy in pinned memory that is whole once its device has been waited for."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)


def _sparse(encoded: Sparse, source: UnitSource, masked: np.ndarray) -> SparseActivity:
    tokens, units, values = on_host(encoded.tokens, encoded.units, encoded.values.float())
    n_units = source.n_units
    if source.polarities == (1,):
        fired = values > 0
        if not fired.all():
            tokens, units, values = tokens[fired], units[fired], values[fired]
        return SparseActivity(tokens, units, values, masked, n_units)
    parts = [
        (tokens[fired], units[fired] + side * n_units, np.abs(values[fired]))
        for side, polarity in enumerate(source.polarities)
        for fired in [values * polarity > 0]
    ]
    tokens, units, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return SparseActivity(tokens, units, values, masked, n_units * len(source.polarities))


class _Documents:
    """Counts whole documents, whose sequences may lie in several batches."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._open: dict[str, tuple[int, np.ndarray]] = {}
        """Document → its split and the units active in it so far."""

    def add(self, activity: Activity, facts: WindowFacts, windows: WindowTable) -> None:
        """Add a batch; documents that do not reach its last sequence are complete."""
        owners = [windows.sequences[i].document_id for i in facts.sequence.tolist()]
        has_tokens: np.ndarray = np.any(~facts.tokens.masked, axis=1)
        rows_of: dict[str, list[int]] = {}
        for row, owner in enumerate(owners):
            rows_of.setdefault(owner, []).append(row)
        for owner, rows in rows_of.items():
            if not has_tokens[rows].any():
                continue
            active: np.ndarray = activity.maxima[rows].max(axis=0) > 0
            if owner in self._open:
                active = active | self._open[owner][1]
            self._open[owner] = (int(facts.split[rows[0]]), active)
        last = owners[int(np.argmax(facts.sequence))]
        for owner in [name for name in self._open if name != last]:
            self._close(owner)

    def close(self) -> None:
        """The shard is over, and so is every document."""
        for owner in list(self._open):
            self._close(owner)

    def _close(self, owner: str) -> None:
        split, active = self._open.pop(owner)
        self._buffers.splits[SPLITS[split]].statistics.add_document(active)
