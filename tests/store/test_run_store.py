"""A run folder that was left between two writes is never read as whole."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from autointerp.records import (
    ActivationRecord,
    Sequence,
    Simulation,
    Split,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.store import RunStore, TokenTable


def sequence(text_ids: list[int]) -> Sequence:
    n = len(text_ids)
    return Sequence(
        "s0", "d0", Split.EXPLAIN, np.asarray(text_ids, np.int32), np.zeros(n, bool),
        np.arange(n, dtype=np.int32), np.arange(1, n + 1, dtype=np.int32),
    )  # fmt: skip


def write_corpus(store: RunStore, key: str, vocabulary: list[str]) -> None:
    table = TokenTable("made", [sequence([0, 1])], vocabulary)
    store.write_corpus(key, [table], {"d0": ("ab", "d0", "")}.__getitem__)


def write_records(store: RunStore, key: str, stop: int) -> None:
    unit = UnitId("made", 0)
    record = ActivationRecord(
        unit, Window("s0", 0, stop), "d0", Split.EXPLAIN, "top", 1.0, ("a", "b")[:stop],
        np.ones(stop, np.float32), np.zeros(stop, bool),
    )  # fmt: skip
    store.write_records("made", key, [UnitRecord(unit, (record,), {})])


def test_records_killed_between_their_two_files_belong_to_no_key(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    write_records(store, "old", 1)
    statistics = tmp_path / "records" / "made.statistics.parquet"
    shutil.copy(statistics, tmp_path / "kept")
    write_records(store, "new", 2)
    assert store.records_key("made") == "new"
    shutil.move(tmp_path / "kept", statistics)
    assert store.records_key("made") is None


def test_a_corpus_killed_between_its_two_files_belongs_to_no_key(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    write_corpus(store, "old", ["a", "b"])
    shutil.copy(tmp_path / "corpus.parquet", tmp_path / "kept")
    write_corpus(store, "new", ["x", "y"])
    assert store.corpus_key() == "new"
    shutil.move(tmp_path / "kept", tmp_path / "corpus.parquet")
    assert store.corpus_key() is None
    (tmp_path / "vocabulary.parquet").unlink()
    assert store.corpus_key() is None


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e6])
def test_predictions_in_any_unit_are_stored_to_a_part_in_a_thousand(
    scale: float, tmp_path: Path
) -> None:
    """A look-up table predicts raw activations: float16 holds neither 1e6 nor 1e-9."""
    expected = (scale * np.linspace(0, 10, 12)).astype(np.float32)
    part = Simulation(expected, np.ones(12, bool), np.ones(12, np.float32))
    store = RunStore(tmp_path)
    store.put_simulation("key", "words", "token_lookup", [part, part])
    found = store.get_simulation("key")
    assert found is not None and len(found) == 2
    assert found[1].expected == pytest.approx(expected, abs=1e-3 * 10 * scale)
