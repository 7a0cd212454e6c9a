"""The recording pass: shards one after the other, checkpointed, then finished.

Where the units do not fit into memory together, they go by ranges, one pass over the corpus each;
what a range gave waits on disk for the others.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from autointerp.executor import Executor
from autointerp.progress import Reporter
from autointerp.recording.buffers import Buffers
from autointerp.recording.design import SamplingDesign
from autointerp.recording.hardness import Hardness, Neighbours, TopTokenIndex
from autointerp.recording.recorder import BatchSize, Recording, record_shard
from autointerp.recording.tables import finished_tables
from autointerp.recording.windows import Shard, WindowTable, shards_of
from autointerp.store import write_text
from autointerp.subject import Subject
from autointerp.units import UnitSource
from autointerp.units.nearest import NearestUnits

_CHECKPOINT_SECONDS = 15.0
"""Between two saves, where a save takes no more than 1 % of that; else in proportion."""

Tables = Iterator[tuple[pa.Table, pa.Table]]


def record_corpus(
    windows: WindowTable,
    vocabulary: list[str],
    subject: Subject,
    sources: dict[str, UnitSource],
    design: SamplingDesign,
    *,
    checkpoint: Path,
    shard_tokens: int,
    batch_tokens: int,
    executor: Executor,
    reporter: Reporter,
    unit_range_size: int | None = None,
    nearest: NearestUnits | None = None,
) -> Iterator[tuple[str, UnitSource, Tables]]:
    """Record several sources of one subject in one pass, going on from `checkpoint`.

    Args:
        sources: by the key of what is recorded; a checkpoint of other keys is not used.
        checkpoint: folder for the unfinished pass; removed when the last source was taken.
        unit_range_size: units of every source recorded at once, one pass over the corpus for each
            range; all if left out. The records are the same.
        nearest: may have found the nearest units of sources already.

    Yields:
        (key, source, (rows of windows, rows of units) of its units in recording order).
    """
    ranges = {source.name: row_ranges(source, unit_range_size) for source in sources.values()}
    n_passes = max(len(own) for own in ranges.values())
    saved = _Checkpoint(
        checkpoint,
        {source.name: key for key, source in sources.items()},
        {"shard_tokens": shard_tokens, "unit_range_size": unit_range_size},
    )
    corpus_pass = _Pass(windows, vocabulary, subject, design, batch_tokens, executor, reporter)
    state = saved.load()
    shards = shards_of(windows.sequences, shard_tokens, windows.n_pilot)
    n_tokens = [_n_tokens(windows, shard) for shard in shards]
    reporter.stage("record", n_passes * sum(n_tokens), "tokens")
    reporter.advance(state.n_passes * sum(n_tokens) + sum(n_tokens[: state.n_shards]))
    nearest = nearest or NearestUnits(1)
    neighbours = {source.name: Neighbours.of(source, nearest) for source in sources.values()}
    recordings: dict[str, Recording] = {}
    # Where an earlier call went by ranges, what it recorded is on disk, though one range would do
    # for the sources that are left.
    in_parts = n_passes > 1 or state.n_passes > 0
    for number in range(state.n_passes, n_passes):
        recordings = {
            source.name: Recording.of(
                source,
                design,
                len(vocabulary),
                rows=ranges[source.name][number],
                hardness=Hardness(neighbours[source.name].part(ranges[source.name][number])),
            )
            for source in sources.values()
            if number < len(ranges[source.name])
        }
        done = state.n_shards if number == state.n_passes else 0
        if done:
            saved.load_recordings(recordings, windows.n_pilot)
        corpus_pass.run(shards, number, done, recordings, saved)
        if in_parts:
            for name, recording in recordings.items():
                tables = finished_tables(recording, windows, design, vocabulary)
                saved.save_part(name, number, tables)
            saved.end_pass(number + 1)
    for key, source in sources.items():
        if in_parts:
            yield key, source, saved.parts(source.name, len(ranges[source.name]))
        else:
            recording = recordings.pop(source.name)
            yield key, source, finished_tables(recording, windows, design, vocabulary)
    saved.remove()


def row_ranges(source: UnitSource, size: int | None) -> list[slice]:
    """Ranges of the recording order of a source, none across its two polarities; one if `None`."""
    n, n_sides = source.n_units, len(source.polarities)
    if size is None or size >= n * n_sides:
        return [slice(0, n * n_sides)]
    return [
        slice(side * n + start, side * n + min(start + size, n))
        for side in range(n_sides)
        for start in range(0, n, size)
    ]


@dataclass(frozen=True)
class _Pass:
    """What every pass over the corpus needs."""

    windows: WindowTable
    vocabulary: list[str]
    subject: Subject
    design: SamplingDesign
    batch_tokens: int
    executor: Executor
    reporter: Reporter

    def run(
        self,
        shards: list[Shard],
        number: int,
        n_done: int,
        recordings: dict[str, Recording],
        saved: "_Checkpoint",
    ) -> None:
        """Record the shards that are left, saving now and then."""
        batch = BatchSize(self.batch_tokens)

        def work(shard: Shard) -> Shard:
            record_shard(shard, self.windows, self.subject, recordings, self.design, batch=batch)
            return shard

        last_save, cost = time.monotonic(), 0.0
        for shard in self.executor.map(work, shards[n_done:]):
            started = time.monotonic()
            if started - last_save > _CHECKPOINT_SECONDS * max(1.0, cost / 0.15):
                saved.save(number, shard.number + 1, recordings)
                last_save = time.monotonic()
                cost = last_save - started
            self.reporter.advance(_n_tokens(self.windows, shard))


def _n_tokens(windows: WindowTable, shard: Shard) -> int:
    return sum(len(s.token_ids) for s in windows.sequences[shard.first : shard.last])


@dataclass(frozen=True)
class _State:
    """How far a pass has come."""

    n_passes: int = 0
    """Passes whose parts are on disk."""
    n_shards: int = 0
    """Shards of the next pass whose buffers are on disk."""


class _Checkpoint:
    """The buffers of an unfinished pass on disk: a folder per save, and a file that names one."""

    def __init__(self, folder: Path, keys: dict[str, str], cut: dict[str, int | None]) -> None:
        self.folder = folder
        self.keys = keys
        self.cut = cut
        """How the work is cut into shards and ranges."""
        self._state = _State()

    def load(self) -> _State:
        """How far an earlier call came; nothing, and no file, where what it left is of no use.

        Of use are the buffers of the same keys, work cut alike. A pass over more sources serves as
        well: the others were written before it was stopped.
        """
        path = self.folder / "state.json"
        if not path.exists():
            return self._state
        state = json.loads(path.read_text())
        if self.keys.items() <= state["keys"].items() and state.get("cut") == self.cut:
            self._state = _State(state["n_passes"], state["n_shards"])
            return self._state
        # Left there it would name a folder that this pass writes into.
        self.remove()
        return self._state

    def load_recordings(self, recordings: dict[str, Recording], n_pilot: int) -> None:
        """Put what was saved into recordings that have seen nothing."""
        place = self._place(self._state)
        for name, recording in recordings.items():
            recording.buffers = Buffers.load(place / f"{name}.safetensors")
            known = load_file(place / f"{name}.hardness.safetensors")
            size = len(next(iter(recording.buffers.splits.values())).statistics.token_counts)
            neighbours = recording.hardness.neighbours
            recording.n_pilot_seen = int(known["n_pilot_seen"])
            if "top_tokens" in known:
                index = TopTokenIndex.of(known["top_tokens"], size)
                recording.hardness = Hardness(neighbours, index)

    def save(self, n_passes: int, n_shards: int, recordings: dict[str, Recording]) -> None:
        """Write the buffers, then name them, then remove older ones."""
        state = _State(n_passes, n_shards)
        place = self._place(state)
        place.mkdir(parents=True, exist_ok=True)
        for name, recording in recordings.items():
            recording.buffers.save(place / f"{name}.safetensors")
            known = {"n_pilot_seen": np.asarray(recording.n_pilot_seen, np.int64)}
            if recording.hardness.top_tokens is not None:
                known["top_tokens"] = np.ascontiguousarray(recording.hardness.top_tokens.tokens)
            save_file(known, place / f"{name}.hardness.safetensors")
        self._name(state)

    def end_pass(self, n_passes: int) -> None:
        """All parts of so many passes are written."""
        self._name(_State(n_passes, 0))

    def _name(self, state: _State) -> None:
        facts = {
            "keys": self.keys,
            "cut": self.cut,
            "n_passes": state.n_passes,
            "n_shards": state.n_shards,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "state.json", json.dumps(facts))
        for other in self.folder.iterdir():
            if other.is_dir() and other not in (self._place(state), self.folder / "parts"):
                shutil.rmtree(other)

    def _place(self, state: _State) -> Path:
        return self.folder / f"{state.n_passes}.{state.n_shards}"

    def save_part(self, name: str, number: int, tables: Tables) -> None:
        """Write the rows of one range of units; whole or not at all is up to `end_pass`."""
        folder = self.folder / "parts"
        folder.mkdir(parents=True, exist_ok=True)
        for place, (rows, units) in enumerate(tables):
            pq.write_table(rows, folder / f"{name}.{number}.{place}.windows.parquet")
            pq.write_table(units, folder / f"{name}.{number}.{place}.units.parquet")

    def parts(self, name: str, n_ranges: int) -> Tables:
        """The rows of all ranges of a source."""
        folder = self.folder / "parts"
        for number in range(n_ranges):
            place = 0
            while (folder / f"{name}.{number}.{place}.units.parquet").exists():
                rows, units = (
                    pq.read_table(folder / f"{name}.{number}.{place}.{kind}.parquet")
                    for kind in ("windows", "units")
                )
                yield rows, units
                place += 1

    def remove(self) -> None:
        """The pass is over."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._state = _State()
