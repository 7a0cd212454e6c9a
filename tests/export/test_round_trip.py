"""What was exported and imported is exported again byte by byte."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.export.exporting import export_run
from autointerp.export.importing import import_files
from autointerp.export.reading import FoundRow, read_file
from autointerp.export.rows import TextChoice
from autointerp.export.schema import checked
from autointerp.export.write import write_jsonl, write_parquet


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("between", ["jsonl", "parquet"])
def test_export_import_export_is_the_same_file(
    exported_run: Path, tmp_path: Path, kind: str, between: str
) -> None:
    export_run(exported_run, kind, tmp_path / f"first.{kind}", TextChoice(7, licence="CC0"))
    export_run(exported_run, between, tmp_path / f"x.{between}", TextChoice(7, licence="CC0"))
    found = import_files([tmp_path / f"x.{between}"], tmp_path / "taken")
    assert found.n_refused == 0
    export_run(tmp_path / "taken", kind, tmp_path / f"second.{kind}")
    first, second = (tmp_path / f"{name}.{kind}" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


_numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
_texts = st.text(max_size=8)


@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(numbers=st.lists(_numbers, min_size=1, max_size=6), text=_texts,
       value=st.none() | st.floats(allow_nan=False, allow_infinity=False))  # fmt: skip
def test_any_text_and_number_comes_back(
    exported_run: Path, tmp_path: Path, numbers: list[float], text: str, value: float | None
) -> None:
    row = _row(exported_run, tmp_path)
    row["explanation"], row["scores"][0]["score"] = text, value
    row["examples"] = [row["examples"][0] | {"tokens": [text] * len(numbers),
                                             "activations": numbers}]  # fmt: skip
    row = checked(row)
    write_jsonl([row], tmp_path / "one.jsonl")
    write_parquet([row], tmp_path / "one.parquet")
    for name in ("one.jsonl", "one.parquet"):
        (found,) = read_file(tmp_path / name)
        assert isinstance(found, FoundRow)
        assert json.dumps(found.row) == json.dumps(row)


def _row(run: Path, folder: Path) -> dict[str, Any]:
    path = folder / "rows.jsonl"
    if not path.exists():
        export_run(run, "jsonl", path)
    return json.loads(path.read_text().splitlines()[0])


def test_an_import_goes_out_with_less_text_where_that_is_asked(
    exported_run: Path, tmp_path: Path
) -> None:
    export_run(exported_run, "jsonl", tmp_path / "rows.jsonl")
    import_files([tmp_path / "rows.jsonl"], tmp_path / "taken")
    export_run(tmp_path / "taken", "jsonl", tmp_path / "bare.jsonl", TextChoice(1, False, 2))
    export_run(exported_run, "jsonl", tmp_path / "direct.jsonl", TextChoice(1, False, 2))
    assert (tmp_path / "bare.jsonl").read_bytes() == (tmp_path / "direct.jsonl").read_bytes()


def test_what_was_exported_is_scored_again_with_controls(
    exported_run: Path, tmp_path: Path
) -> None:
    export_run(exported_run, "csv", tmp_path / "rows.csv")
    command = ["import", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "taken"),
               "--source", "mine"]  # fmt: skip
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    assert "explanations: {name: words, type: fixed" in found.output
    from autointerp.explainers.fixed import read_texts

    own = [json.loads(line) for line in (exported_run / "explanations.jsonl").open()]
    texts = read_texts(tmp_path / "taken" / "explanations" / "words.jsonl")
    assert {str(unit).replace("mine", "neurons"): text for unit, text in texts.items()} == {
        row["unit"]: row["explanation"] for row in own if row["explainer"] == "words"
    }
