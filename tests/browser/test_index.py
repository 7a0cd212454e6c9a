import errno
import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from autointerp.browser.app import Browser
from autointerp.browser.building import is_current, pack_tokens, unpack_tokens
from autointerp.browser.codes import unit_code, unit_of_code
from autointerp.browser.opened import OpenedRun
from autointerp.browser.security import Access
from autointerp.progress import Silent
from autointerp.records import AutointerpError, UnitId
from autointerp.store import RunStore

from .client import PORT, Client
from .synthetic_run import write_run


class Counting(Silent):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, total: int, unit: str) -> None:
        self.stages.append(f"{total} {unit}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", 40)


def test_the_index_is_made_once_and_anew_when_the_run_changed(folder: Path) -> None:
    first, second, third = Counting(), Counting(), Counting()
    OpenedRun(folder, first).close()
    OpenedRun(folder, second).close()
    assert first.stages
    assert not second.stages
    table = folder / "explanations.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[0]["explanation"] = "changed words"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not is_current(folder / "browser.sqlite", folder)
    opened = OpenedRun(folder, third)
    assert third.stages
    assert opened.words(opened.code(UnitId("features", 0)), "words") == "changed words"
    opened.close()


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"schema_version": 1}', '{"schema_version": 2}', "\x00\xff"]
)
def test_a_damaged_table_is_refused_and_leaves_no_index(folder: Path, line: str) -> None:
    with (folder / "explanations.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(AutointerpError, match="run"):
        OpenedRun(folder, Silent())
    assert not list(folder.glob("*browser.sqlite*"))


def test_a_folder_without_a_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match="holds no finished run"):
        OpenedRun(tmp_path, Silent())


def test_a_damaged_index_is_made_anew(folder: Path) -> None:
    (folder / "browser.sqlite").write_bytes(b"no database" * 100)
    opened = OpenedRun(folder, Silent())
    assert opened.sources == ["features", "neurons"]
    opened.close()


def test_a_unit_reads_the_same_through_the_index_as_from_the_run(folder: Path) -> None:
    unit = UnitId("neurons", 7)
    opened, store = OpenedRun(folder, Silent()), RunStore(folder)
    (direct,) = store.read_units([unit])
    found = opened.record(unit)
    assert found is not None
    assert len(found.records) == len(direct.records) > 10
    for a, b in zip(found.records, direct.records, strict=True):
        assert (a.window, a.stratum, a.tokens) == (b.window, b.stratum, b.tokens)
        np.testing.assert_array_equal(a.activations, b.activations)
        np.testing.assert_array_equal(a.masked, b.masked)
    opened.close()


def test_rows_are_read_from_their_place_in_the_table(folder: Path) -> None:
    opened = OpenedRun(folder, Silent())
    for name in ("features/0", "features/19", "neurons/19"):
        rows = opened.rows(opened.facts(UnitId.parse(name)))
        assert [row["unit"] for row in rows] == [name, name]
        assert [row["explainer"] for row in rows] == ["words", "token_lookup"]
    opened.close()


def test_windows_held_back_for_audits_are_not_read(real_folder: Path) -> None:
    store = RunStore(real_folder)
    name = json.loads((real_folder / "explanations.jsonl").read_text().split("\n")[0])["unit"]
    (direct,) = store.read_units([UnitId.parse(name)])
    assert "audit" in {str(split) for split in direct.statistics}
    opened = OpenedRun(real_folder, Silent())
    found = opened.record(UnitId.parse(name))
    assert found is not None
    assert "audit" not in {str(r.split) for r in found.records} | set(map(str, found.statistics))
    opened.close()


def test_units_that_nobody_explained_are_listed_too(real_folder: Path) -> None:
    opened = OpenedRun(real_folder, Silent())
    assert opened.has_recorded_view
    assert opened.signed == {"neurons", "directions"}
    opened.close()


@pytest.mark.parametrize(
    "name",
    [
        *("records/features.statistics.parquet", "records/features.parquet"),
        *("records/features.sequences.parquet", "corpus.parquet", "vocabulary.parquet"),
    ],
)
def test_a_run_that_lacks_a_part_of_its_records_is_refused_by_its_name(
    folder: Path, name: str
) -> None:
    OpenedRun(folder, Silent()).close()
    (folder / name).unlink()
    with pytest.raises(AutointerpError, match=f"{name} does not exist: run the stage"):
        OpenedRun(folder, Silent())


def test_tables_shared_without_records_show_what_is_missing_as_missing(folder: Path) -> None:
    shutil.rmtree(folder / "records")
    for name in ("results.sqlite", "corpus.parquet", "vocabulary.parquet"):
        (folder / name).unlink()
    opened = OpenedRun(folder, Silent())
    answer = Client(Browser(opened, Access(PORT))).get("/unit/features/1")
    opened.close()
    assert answer.status == 200
    assert "strongest activation in the explain split –" in answer.text
    assert "0.00</p>" not in answer.text and "No window of this split" not in answer.text
    assert "The windows are not in this folder" in answer.text


def test_codes_of_units_are_their_order_and_can_be_read_back() -> None:
    units = [UnitId(s, i, p) for s in ("a", "b") for i in (0, 1, 2**31 - 1) for p in (1, -1)]
    codes = [unit_code(unit, ["a", "b"]) for unit in units]
    assert codes == sorted(codes)
    assert [unit_of_code(code, ["a", "b"]) for code in codes] == units


def test_tokens_are_unpacked_as_they_were_packed() -> None:
    row = {"token_ids": [1, 70_000, 3], "char_starts": [0, 2, 2], "char_ends": [2, 4, 5],
           "masked": [True, False, True]}  # fmt: skip
    for found, name in zip(
        unpack_tokens(pack_tokens(row)), ("token_ids", "char_starts", "char_ends", "masked"),
        strict=True,
    ):  # fmt: skip
        assert found.tolist() == row[name]


@pytest.mark.parametrize(
    "said",
    [
        sqlite3.OperationalError("unable to open database file"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EROFS, "Read-only file system"),
    ],
)
def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: Exception
) -> None:
    import autointerp.browser.opened as module

    real = module.build_index

    def refuse(place: Path, path: Path, *rest: object) -> None:
        if path.parent == folder:
            raise said
        real(place, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "build_index", refuse)
    opened = OpenedRun(folder, Silent())
    assert opened.facts(UnitId("features", 3)).density > 0
    path = opened.database.execute("PRAGMA database_list").fetchone()[2]
    opened.close()
    assert not (folder / "browser.sqlite").exists()
    shutil.rmtree(Path(path).parent)
