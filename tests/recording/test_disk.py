"""What records take on disk depends on units, kept windows and window length, not on the corpus."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from autointerp.recording.activity import SparseActivity
from autointerp.recording.buffers import Buffers
from autointerp.recording.design import SamplingDesign
from autointerp.recording.hardness import Hardness, Neighbours
from autointerp.recording.recorder import Recording, window_facts
from autointerp.recording.sampling import add_batch
from autointerp.recording.tables import finished_tables
from autointerp.recording.windows import WindowTable, hash64
from autointerp.records import Sequence, Split, UnitId
from autointerp.store import RunStore

N_UNITS, WINDOW, LENGTH, VOCABULARY = 32, 8, 33, 400
SPLITS_OF_TEN = [*[Split.EXPLAIN] * 4, Split.CALIBRATE, *[Split.TEST] * 4, Split.AUDIT]


@dataclass(frozen=True)
class MadeUnits:
    """As much of a unit source as finishing a recording asks for."""

    name: str = "made"
    n_units: int = N_UNITS
    polarities: tuple[int, ...] = (1,)


def made_corpus(n_sequences: int) -> WindowTable:
    """Sequences of random tokens, two a document."""
    generator = np.random.default_rng(0)
    sequences = [
        Sequence(
            f"{hash64(b'%d' % i):016x}", f"d{i // 2}", SPLITS_OF_TEN[hash64(b"%d" % (i // 2)) % 10],
            generator.integers(0, VOCABULARY, LENGTH).astype(np.int32),
            np.arange(LENGTH) == 0,
            np.arange(LENGTH, dtype=np.int32), np.arange(1, LENGTH + 1, dtype=np.int32),
        )
        for i in range(n_sequences)
    ]  # fmt: skip
    return WindowTable.of(sequences, WINDOW, 1)


def recorded(folder: Path, n_sequences: int) -> Path:
    """Records of units that are active on a token in 30, at any strength, in a corpus so long."""
    windows, design = made_corpus(n_sequences), SamplingDesign("d", WINDOW, 0)
    hashes = np.asarray([hash64(str(UnitId("made", i)).encode()) for i in range(N_UNITS)])
    neighbours = Neighbours(np.arange(N_UNITS) ^ 1, np.full(N_UNITS, 0.7, np.float32))
    recording = Recording(
        MadeUnits(),  # pyright: ignore[reportArgumentType]
        Buffers.empty(N_UNITS, design, VOCABULARY),
        Hardness(neighbours),
        hashes.astype(np.uint64),
        slice(0, N_UNITS),
    )
    generator = np.random.default_rng(1)
    for first in range(0, n_sequences, 50):
        facts = window_facts(windows, first, first + 50)
        active = generator.random((facts.tokens.ids.size, N_UNITS)) < 1 / 30
        tokens, units = np.nonzero(active)
        values = generator.random(len(tokens), np.float32) + np.float32(1e-3)
        activity = SparseActivity(tokens, units, values, facts.tokens.masked, N_UNITS)
        beside = (activity.maxima > 0)[:, neighbours.nearest]
        add_batch(recording.buffers, activity, facts, beside, None, recording.unit_hashes, 0)
    vocabulary = [f"token {i}" for i in range(VOCABULARY)]
    tables = finished_tables(recording, windows, design, vocabulary)
    RunStore(folder).write_record_tables("made", "key", tables)
    return folder / "records"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The records of a corpus, and of one ten times as long."""
    short, long = (recorded(tmp_path_factory.mktemp(f"n{n}"), n) for n in (600, 6000))
    return short, long


def test_a_corpus_ten_times_as_long_takes_no_more_disk(folders: tuple[Path, Path]) -> None:
    short, long = folders
    n_windows = [pq.read_metadata(folder / "made.parquet").num_rows for folder in folders]
    assert n_windows[0] == n_windows[1]
    size, size_of_long = (
        sum((folder / f"made{file}.parquet").stat().st_size for file in ("", ".statistics"))
        for folder in (short, long)
    )
    assert size_of_long <= 1.1 * size


def test_a_sequence_is_named_once_however_many_windows_lie_in_it(
    folders: tuple[Path, Path],
) -> None:
    for folder, n_sequences in zip(folders, (600, 6000), strict=True):
        n_windows = pq.read_metadata(folder / "made.parquet").num_rows
        ids = pq.read_table(folder / "made.sequences.parquet")["sequence_id"].to_pylist()
        assert len(ids) == len(set(ids)) <= min(n_windows, n_sequences)
        numbers = pq.read_table(folder / "made.parquet", columns=["sequence"])["sequence"]
        assert sorted(set(numbers.to_pylist())) == list(range(len(ids)))
