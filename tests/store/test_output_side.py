"""What units write is read back with their records, the other side of a unit being its opposite."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from autointerp.records import AutointerpError, Neighbour, TokenLogit, UnitId, UnitRecord
from autointerp.store import RunStore, TokenTable
from autointerp.units.output_side import Written

VOCABULARY = ["a", "b", "c", "d"]


def written(index: int) -> Written:
    value = 1.0 + index
    return Written(
        index, [(2, value), (0, 0.5)], [(3, -value), (1, -0.25)], [(index + 1, -1, 0.75)]
    )


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Units 0 to 599 of both polarities, without windows."""
    found = RunStore(tmp_path)
    found.write_corpus("corpus", [TokenTable("made", [], VOCABULARY)], {}.__getitem__)
    found.write_records(
        "n", "key", (UnitRecord(UnitId("n", i, p), (), {}) for p in (1, -1) for i in range(600))
    )
    return found


def read(store: RunStore, name: str) -> UnitRecord:
    (found,) = store.read_units([UnitId.parse(name)])
    return found


def test_a_unit_comes_with_what_it_writes(store: RunStore) -> None:
    assert read(store, "n/7").promoted is None and read(store, "n/7").neighbours is None
    store.write_output_side("n", "its key", map(written, range(600)))
    assert store.output_side_key("n") == "its key"
    for index in (0, 7, 255, 256, 599):
        found = read(store, f"n/{index}")
        assert found.promoted == (TokenLogit("c", 2, 1.0 + index), TokenLogit("a", 0, 0.5))
        assert found.suppressed == (TokenLogit("d", 3, -1.0 - index), TokenLogit("b", 1, -0.25))
        assert found.neighbours == (Neighbour(UnitId("n", index + 1, -1), 0.75),)


def test_the_negative_side_of_a_unit_writes_the_opposite(store: RunStore) -> None:
    store.write_output_side("n", "its key", map(written, range(600)))
    found = read(store, "n/7-")
    assert found.promoted == (TokenLogit("d", 3, 8.0), TokenLogit("b", 1, 0.25))
    assert found.suppressed == (TokenLogit("c", 2, -8.0), TokenLogit("a", 0, -0.5))
    assert found.neighbours == (Neighbour(UnitId("n", 8, 1), 0.75),)


def test_a_direction_without_a_way_to_the_logits_has_neighbours_alone(store: RunStore) -> None:
    store.write_output_side("n", "its key", [Written(0, None, None, [])])
    found = read(store, "n/0")
    assert (found.promoted, found.suppressed, found.neighbours) == (None, None, ())
    assert read(store, "n/7").neighbours is None


def test_what_was_written_is_forgotten_when_it_is_removed(store: RunStore) -> None:
    store.write_output_side("n", "its key", map(written, range(600)))
    assert read(store, "n/7").promoted
    store.remove_output_side("n")
    assert store.output_side_key("n") is None and read(store, "n/7").promoted is None
    store.remove_output_side("n")


def test_an_unfinished_file_is_no_file(store: RunStore) -> None:
    def killed():
        yield written(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_output_side("n", "its key", killed())
    assert store.output_side_key("n") is None and read(store, "n/0").promoted is None


def test_a_damaged_file_is_refused_by_name(store: RunStore) -> None:
    store.write_output_side("n", "its key", map(written, range(600)))
    path = store.records_folder / "n.output.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    fresh = RunStore(store.folder)
    with pytest.raises(AutointerpError, match=r"n\.output\.parquet is not a Parquet file"):
        read(fresh, "n/0")


def test_the_file_is_readable_without_this_package(store: RunStore) -> None:
    store.write_output_side("n", "its key", map(written, range(3)))
    (row, *_) = pq.read_table(store.records_folder / "n.output.parquet").to_pylist()
    assert row == {
        "index": 0,
        "promoted": [
            {"token_id": 2, "token": "c", "logit": 1.0},
            {"token_id": 0, "token": "a", "logit": 0.5},
        ],
        "suppressed": [
            {"token_id": 3, "token": "d", "logit": -1.0},
            {"token_id": 1, "token": "b", "logit": -0.25},
        ],
        "neighbours": [{"index": 1, "polarity": -1, "cosine": 0.75}],
    }
