"""A run's results are read where nothing can be written, and never made by who reads them."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from autointerp.records import AutointerpError, UnitId
from autointerp.store import RunStore
from autointerp.store.batches import BatchLog, read_open
from tests.store.test_run_store import write_corpus, write_records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = RunStore(tmp_path)
    _ = store.database
    store.close()
    return tmp_path


@pytest.fixture
def unwritable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SQLite says what it says of a write-ahead log on a disk that cannot be written."""
    real = sqlite3.connect

    def connect(place: str, **settings: Any) -> sqlite3.Connection:
        if "mode=ro" in place:
            place = f"file:{folder}/no_such_folder/results.sqlite?mode=ro"
        return real(place, **settings)

    monkeypatch.setattr("autointerp.store.reading.sqlite3.connect", connect)
    return folder


def test_results_are_read_on_a_disk_that_cannot_be_written(unwritable: Path) -> None:
    store = RunStore(unwritable, read_only=True)
    assert store.count_scores() == {}
    store.close()


def test_results_with_a_log_that_is_not_folded_in_are_not_read_without_it(unwritable: Path) -> None:
    (unwritable / "results.sqlite-wal").write_bytes(b"what was written last")
    with pytest.raises(AutointerpError, match="make its folder writable"):
        _ = RunStore(unwritable, read_only=True).database


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 100])
def test_what_is_no_database_of_a_run_is_refused_and_left(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "results.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AutointerpError, match=r"results.sqlite.*put it back from a copy"):
        _ = RunStore(tmp_path, read_only=True).database
    assert path.exists() == (content is not None)


def test_damaged_groups_of_rows_are_refused_by_name(folder: Path) -> None:
    store = RunStore(folder)
    write_corpus(store, "key", ["a", "b"])
    write_records(store, "key", 2)
    path = folder / "records" / "made.parquet"
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)
    with pytest.raises(AutointerpError, match=r"made.parquet is damaged .*remove it, run again"):
        list(RunStore(folder).read_units([UnitId("made", 0)]))


def test_batches_are_read_without_being_written(folder: Path) -> None:
    reader = RunStore(folder, read_only=True)
    assert read_open(reader.database) == []  # no run of it ever sent one
    reader.close()
    store = RunStore(folder)
    row = BatchLog(store.ledger).intend("one", "client", "model", 1, [])
    store.close()
    reader = RunStore(folder, read_only=True)
    assert read_open(reader.database) == [row]
    reader.close()
