"""Windows name their sequence by a number on disk; files that hold ids are read as well."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autointerp.records import (
    SPLITS,
    ActivationRecord,
    AutointerpError,
    Sequence,
    Split,
    SplitStatistics,
    TopToken,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.store import RunStore, TokenTable
from autointerp.store.files import stamped
from autointerp.store.rows import RECORD_SCHEMA

VOCABULARY = ["a", "b", "c"]


def sequence(name: str) -> Sequence:
    n = 4
    return Sequence(
        name, f"of {name}", Split.EXPLAIN, np.asarray([0, 1, 2, 1], np.int32), np.zeros(n, bool),
        np.arange(n, dtype=np.int32), np.arange(1, n + 1, dtype=np.int32),
    )  # fmt: skip


def unit(number: int, sequences: list[str]) -> UnitRecord:
    made = UnitId("made", number)
    records = tuple(
        ActivationRecord(
            made, Window(name, 1, 3), f"of {name}", Split.EXPLAIN, "top", 0.5, ("b", "c"),
            np.asarray([0.5 * (i + 1), 0.0], np.float32), np.zeros(2, bool),
        )
        for i, name in enumerate(sequences)
    )  # fmt: skip
    top = (TopToken("b", 0.25, 0.5, 7, 0.75), TopToken("c", 0.25, 0.25, 3, 0.75))
    statistics = SplitStatistics(90, 8, 5, 4, 2.0, (0.1, 0.2, 0.3, 0.4), (0, 8), top)
    return UnitRecord(made, records, dict.fromkeys(SPLITS, statistics))


def same(found: UnitRecord, expected: UnitRecord) -> bool:
    a, b = (
        [
            (r.window, r.document_id, r.probability, r.tokens, r.activations.tolist())
            for r in one.records
        ]
        for one in (found, expected)
    )
    return a == b and found.statistics == expected.statistics


UNITS = [unit(0, ["s2", "s0", "s2"]), unit(1, []), unit(2, ["s1", "s0"])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = RunStore(tmp_path)
    table = TokenTable("made", [sequence(f"s{i}") for i in range(3)], VOCABULARY)
    store.write_corpus("key", [table], lambda document: ("abcb", document, ""))
    store.write_records("made", "key", UNITS)
    return tmp_path


def read(folder: Path) -> list[UnitRecord]:
    return list(RunStore(folder).read_units([one.unit for one in UNITS]))


def as_an_earlier_version_wrote(folder: Path) -> None:
    """Ids in every row, bounds of means as doubles, and no list of sequences."""
    records = folder / "records"
    ids = pq.read_table(records / "made.sequences.parquet")["sequence_id"].combine_chunks()
    rows = pq.read_table(records / "made.parquet")
    place = rows.column_names.index("sequence")
    rows = rows.set_column(place, "sequence_id", ids.take(rows["sequence"].combine_chunks()))
    schema = stamped(RECORD_SCHEMA, "key")
    pq.write_table(rows.replace_schema_metadata(None).cast(schema), records / "made.parquet")
    (records / "made.sequences.parquet").unlink()
    path = records / "made.statistics.parquet"
    found = pq.read_table(path)
    top = pa.struct(
        {"token": pa.string(), "mean": pa.float64(), "mean_upper": pa.float64(),
         "count": pa.int64(), "maximum": pa.float64()}
    )  # fmt: skip
    own = found.schema.field("statistics").type.value_type
    fields = [f if f.name != "top_tokens" else pa.field(f.name, pa.list_(top)) for f in own]
    number = found.schema.get_field_index("statistics")
    wide = found.schema.set(number, pa.field("statistics", pa.list_(pa.struct(fields))))
    rows_of_units = pa.Table.from_pylist(found.to_pylist(), wide)
    pq.write_table(rows_of_units, path, row_group_size=32)


def test_what_was_written_is_read(folder: Path) -> None:
    assert "sequence_id" not in pq.read_schema(folder / "records" / "made.parquet").names
    assert all(map(same, read(folder), UNITS))


def test_a_bound_is_stored_where_it_is_not_the_mean(folder: Path) -> None:
    rows = pq.read_table(folder / "records" / "made.statistics.parquet").to_pylist()
    assert [t["mean_upper"] for t in rows[0]["statistics"][0]["top_tokens"]] == [0.5, None]


def test_records_of_an_earlier_version_are_read(folder: Path) -> None:
    as_an_earlier_version_wrote(folder)
    assert RunStore(folder).records_key("made") == "key"
    assert all(map(same, read(folder), UNITS))


def test_a_list_of_another_writing_does_not_pass(folder: Path) -> None:
    """Killed after the list was written and before the rows that go with it."""
    store, path = RunStore(folder), folder / "records" / "made.sequences.parquet"
    shutil.copy(path, folder / "kept")
    store.write_records("made", "new", UNITS[::2])
    assert store.records_key("made") == "new"
    shutil.move(folder / "kept", path)
    assert store.records_key("made") is None


def test_rows_whose_list_is_gone_are_refused_by_name(folder: Path) -> None:
    (folder / "records" / "made.sequences.parquet").unlink()
    assert RunStore(folder).records_key("made") is None
    with pytest.raises(AutointerpError, match=r"made\.sequences\.parquet does not exist"):
        read(folder)


def test_a_source_without_any_window_is_read(folder: Path) -> None:
    RunStore(folder).write_records("made", "none", [UNITS[1]])
    assert RunStore(folder).records_key("made") == "none"
    assert next(RunStore(folder).read_units([UNITS[1].unit])).records == ()
