"""Exported rows hold what the run's own tables hold, fit the schema, and keep texts back."""

import csv
import json
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.export.exporting import export_run
from autointerp.export.rows import FinishedRun, TextChoice
from autointerp.export.schema import checked, json_schema, packaged_schema
from autointerp.records import AutointerpError, Split, UsageError
from autointerp.store import RunStore


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_shipped_schema_is_that_of_the_types() -> None:
    assert packaged_schema() == json_schema()
    jsonschema.Draft202012Validator.check_schema(packaged_schema())


def test_rows_fit_the_shipped_schema_and_hold_the_runs_own_numbers(
    exported_run: Path, tmp_path: Path
) -> None:
    n = export_run(exported_run, "jsonl", tmp_path / "rows.jsonl").n
    rows, own = _lines(tmp_path / "rows.jsonl"), _lines(exported_run / "explanations.jsonl")
    assert n == len(rows) == len(own) > 0
    validator = jsonschema.Draft202012Validator(packaged_schema())
    for row, table in zip(rows, own, strict=True):
        validator.validate(row)
        assert {s.pop("scorer"): s for s in row["scores"]} == table["scores"]
        for name in ("unit", "explainer", "explanation", "explanation_key", "status", "reason"):
            assert row[name] == table[name]
        assert row["provenance"]["hook_point"] == "blocks.0.mlp.hook_post"
        assert row["provenance"]["records_key"] == RunStore(exported_run).records_key("neurons")


def test_examples_are_windows_of_the_explain_split_as_stored(
    exported_run: Path, tmp_path: Path
) -> None:
    export_run(exported_run, "jsonl", tmp_path / "rows.jsonl")
    for unit, _, record in FinishedRun(exported_run).units():
        assert all(r.split is not Split.AUDIT for r in record.records)
        row = next(r for r in _lines(tmp_path / "rows.jsonl") if r["unit"] == str(unit))
        best = max(record.of(Split.EXPLAIN), key=lambda r: r.maximum)
        assert max(row["examples"][0]["activations"]) == pytest.approx(best.maximum, rel=1e-6)
        allowed = {r.tokens for r in record.of(Split.EXPLAIN)}
        assert all(tuple(example["tokens"]) in allowed for example in row["examples"])


def test_without_text_no_word_of_a_window_leaves(exported_run: Path, tmp_path: Path) -> None:
    export_run(exported_run, "jsonl", tmp_path / "rows.jsonl", TextChoice(with_text=False))
    for row in _lines(tmp_path / "rows.jsonl"):
        assert row["examples"]
        assert all(e["tokens"] is None and e["activations"] for e in row["examples"])


def test_a_cut_window_keeps_its_largest_activation(exported_run: Path, tmp_path: Path) -> None:
    export_run(exported_run, "jsonl", tmp_path / "all.jsonl")
    export_run(exported_run, "jsonl", tmp_path / "cut.jsonl", TextChoice(max_context=3))
    for whole, cut in zip(
        _lines(tmp_path / "all.jsonl"), _lines(tmp_path / "cut.jsonl"), strict=True
    ):
        for long, short in zip(whole["examples"], cut["examples"], strict=True):
            assert len(short["tokens"]) == len(short["activations"]) == 3
            assert max(short["activations"]) == max(long["activations"])


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"examples": -1}, "examples must be a whole number of at least 0, not -1"),
        ({"examples": 2.5}, "examples must be a whole number of at least 0, not 2.5"),
        ({"max_context": -3}, "max_context must be a whole number of at least 1, not -3"),
        ({"max_context": 0}, "max_context must be a whole number of at least 1, not 0"),
    ],
)
def test_a_choice_of_texts_below_nothing_is_refused(choice: dict[str, Any], says: str) -> None:
    with pytest.raises(AutointerpError, match=says):
        TextChoice(**choice)


@pytest.mark.parametrize(("given", "says"), [("xml", "format 'xml' is"), ("csv", "format csv")])
def test_errors_of_an_export_do_not_speak_of_options(
    given: str, says: str, exported_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says) as error:
        export_run(exported_run, given, tmp_path)
    assert "--" not in str(error.value)


def test_parquet_holds_what_jsonl_holds(exported_run: Path, tmp_path: Path) -> None:
    for kind in ("jsonl", "parquet"):
        export_run(exported_run, kind, tmp_path / f"rows.{kind}")
    table = [checked(row) for row in pq.read_table(tmp_path / "rows.parquet").to_pylist()]
    assert table == _lines(tmp_path / "rows.jsonl")


def test_no_cell_of_csv_is_a_formula(exported_run: Path, tmp_path: Path) -> None:
    export_run(exported_run, "csv", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = _lines(exported_run / "explanations.jsonl")
    assert len(rows) == sum(len(row["scores"]) for row in own)
    assert {r["explanation"] for r in rows if r["explainer"] == "words"} >= {"'=words | farms"}


def test_load_dataset_opens_the_folder_and_its_card_says_what_was_measured(
    exported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "data_set"
    command = ["export", str(exported_run), "--format", "dataset", "--output", str(folder),
               "--licence", "CC0 <b>"]  # fmt: skip
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    own = _lines(exported_run / "explanations.jsonl")
    assert [row["unit"] for row in loaded] == [row["unit"] for row in own]
    assert loaded[0]["scores"][0]["score"] == next(iter(own[0]["scores"].values()))["score"]
    card = (folder / "README.md").read_text()
    assert "CC0 \\<b\\>" in card
    assert "blocks.0.mlp.hook\\_post" in card
    assert "detection" in card


def test_refusals_name_what_is_wrong(exported_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'xml' is not one of jsonl"):
        export_run(exported_run, "xml", tmp_path / "rows.xml")
    with pytest.raises(AutointerpError, match="holds no finished run"):
        export_run(tmp_path, "jsonl", tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()
    with pytest.raises(AutointerpError, match="schema_version 7"):
        checked({"schema_version": 7})


def test_a_damaged_table_leaves_no_half_file(
    exported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FinishedRun) -> Any:
        yield json.loads((exported_run / "explanations.jsonl").read_text().splitlines()[0])
        raise AutointerpError("damaged")

    monkeypatch.setattr(FinishedRun, "_lines", broken)
    for kind in ("jsonl", "csv", "parquet"):
        with pytest.raises(AutointerpError, match="damaged"):
            export_run(exported_run, kind, tmp_path / f"rows.{kind}")
    assert not list(tmp_path.iterdir())
